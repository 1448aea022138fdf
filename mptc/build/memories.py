"""Memories: contexts that are not the sequence's tokens but an input's own, of a length of its own."""

from __future__ import annotations

from mptc.build.body import Ledger, Unlowered
from mptc.ir.axis import SEQ, Axis
from mptc.ir.node import Node
from mptc.ir.region import everywhere
from mptc.model import tree
from mptc.ops.contract import Contract
from mptc.ops.leaf import Index
from mptc.ops.rotary import Rope, token_axis


def memories_of(ledger: Ledger, model: tree.Model) -> dict[Axis, Axis]:
    """For each context along which a memory stands, the input's axis that it is as long as.

    One that stands for several is fine where nobody asks how long it is, or where along it a token stands.
    """
    several = {axis: found for axis, found in ledger.contexts.items() if len(found) > 1}
    for axis, found in several.items():
        if axis in found:
            raise Unlowered(f"a view along `{axis}`, the axis of a memory", model.span)
    roots = [*ledger.losses, *(output.node for output in ledger.outputs), *(one.node for one in ledger.watched)]
    for node in everywhere(roots) if several else ():
        for axis in _measures(node):
            if axis in several:
                raise Unlowered(f"a length or a place along `{axis}`, which stands for {len(several[axis])} different axes", node.span or model.span)
    return {axis: next(iter(found)) if len(found) == 1 else axis for axis, found in ledger.contexts.items() if SEQ not in found}


def _measures(node: Node) -> set[Axis]:
    """The axes whose length or places a node's value depends on."""
    match node.op:
        case Contract(coef=coef):
            return {base for base, _ in coef.powers if isinstance(base, Axis)}
        case Index(axis=axis):
            return {axis}
        case Rope():
            return {token_axis(node.axes)}
    return set()
