"""Scores of which a number for each pair of tokens is stored: neither fused attention nor rows at a time can take them."""

from __future__ import annotations

from mptc.derive import Derived
from mptc.ir.axis import Role
from mptc.ir.node import Node
from mptc.ops.reduce import Softmax
from mptc.ops.region import everything
from mptc.passes.remade import remade
from mptc.passes.rows import Pairs
from mptc.passes.turned import Turned
from mptc.source.text import Span


def pairs(derived: Derived) -> dict[Span, str]:
    """Where the spec makes softmax weights that are stored, each place once, and why."""
    return {place_of(derived, node): why for node, why in stored(derived).items()}


def stored(derived: Derived) -> dict[Node, str]:
    """The softmax weights of pairs that are stored, and what keeps them from being computed by rows."""
    plain, moved = remade(derived.program, Turned())
    found = Pairs(plain)
    weights = [node for node in everything(derived.program.roots) if isinstance(node.op, Softmax) and _quadratic(node)]
    return {node: found.whole.get(moved[node], _elsewhere(node)) for node in weights if moved[node] not in found.inside}


def _elsewhere(node: Node) -> str:
    over = node.op.over if isinstance(node.op, Softmax) else ()
    asking = [str(axis) for axis in node.axes if axis.role in (Role.TOKEN, Role.CONTEXT) and axis not in over]
    return f"those that ask are the tokens of {', '.join(asking)}, not those of the sequence"


def _quadratic(node: Node) -> bool:
    return sum(axis.role in (Role.TOKEN, Role.CONTEXT) for axis in node.axes) > 1


def place_of(derived: Derived, node: Node) -> Span:
    """The line of some weights, or of the first use of them that the spec has a line for."""
    spans, used = derived.program.spans, [energy.used for energy in derived.program.energies]
    if node in spans:
        return spans[node]
    reached = {node}
    for user in everything(derived.program.roots):
        if reached & set(user.args):
            reached.add(user)
            if user in spans:
                return next((span for span in used if _same_line(span, spans[user])), spans[user])
    return derived.program.span


def _same_line(one: Span, other: Span) -> bool:
    return one.source is other.source and one.line == other.line
