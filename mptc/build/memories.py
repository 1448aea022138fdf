"""Memories: contexts that are not the sequence's tokens but an input's own, of a length of its own."""

from __future__ import annotations

from collections.abc import Iterator

from mptc.build.body import Ledger, Unlowered
from mptc.ir.axis import SEQ, Axis
from mptc.ir.node import Node, walk
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
    for node in _everything(ledger):
        for axis in _measures(node):
            if axis in several:
                raise Unlowered(f"a length or a place along `{axis}`, which stands for {len(several[axis])} different axes", node.span or model.span)
    return {axis: next(iter(found)) if len(found) == 1 else axis for axis, found in ledger.contexts.items() if SEQ not in found}


def _everything(ledger: Ledger) -> Iterator[Node]:
    """Every node that the model asks for, those inside of others too, once."""
    roots = [*ledger.losses, *(output.node for output in ledger.outputs), *(one.node for one in ledger.watched)]
    done: set[Node] = set()
    while roots:
        for node in walk([roots.pop()], done):
            done.add(node)
            if node.op.interior is not None:
                roots.extend(node.op.interior.roots)
            yield node


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
