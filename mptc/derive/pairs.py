"""Scores of which a number for each pair of tokens is stored: neither fused attention nor rows at a time can take them."""

from __future__ import annotations

from mptc.derive import Derived
from mptc.ir.axis import Role
from mptc.ir.node import Node
from mptc.ops.reduce import Softmax
from mptc.ops.region import everything
from mptc.passes.remade import remade
from mptc.passes.rows import Pairs, Turned
from mptc.source.text import Span


def pairs(derived: Derived) -> list[Span]:
    """Where the spec makes softmax weights that are stored, each place once."""
    return list(dict.fromkeys(place_of(derived, node) for node in stored(derived)))


def stored(derived: Derived) -> list[Node]:
    """The softmax weights of pairs that are stored."""
    plain, moved = remade(derived.program, Turned())
    inside = Pairs(plain).inside
    return [node for node in everything(derived.program.roots) if isinstance(node.op, Softmax) and _quadratic(node) and moved[node] not in inside]


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
