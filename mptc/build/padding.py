"""Whose padding would be seen: inputs of ids that are looked up, in a model whose tokens see others under no condition.

Ids below 0 are masked. Where a view is limited by a condition that depends on what comes in, padding is the spec's business; where none is, tokens
would take padding for tokens, so the generated module refuses it. What is to the right of all tokens that it concerns harms nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mptc.ir.axis import SEQ, Axis, Role
from mptc.ir.node import Kind, Node
from mptc.ir.region import everywhere
from mptc.ops.choose import Lookup, Shift
from mptc.ops.contract import Contract
from mptc.ops.leaf import Input, Mask
from mptc.ops.reduce import Reduction
from mptc.ops.region import Loop, Result
from mptc.ops.view import Hold


def seen_unmasked(inputs: Sequence[Node], outputs: Iterable[Node], memories: Mapping[Axis, Axis]) -> tuple[str, ...]:
    """The labels of the inputs whose padding would enter an output."""
    nodes = list(everywhere(outputs))
    edges = _edges(nodes)
    conditions = _dependents(edges, inputs)
    found = []
    for node in inputs:
        assert isinstance(node.op, Input)
        if node.type.kind is Kind.ID and (tokens := _tokens(node.op, memories)) is not None:
            ids = _dependents(edges, [node])
            rows = _dependents(edges, [one for one in nodes if isinstance(one.op, Lookup) and one.args[1] in ids])
            if any(tokens == memories.get(over, SEQ) for one in nodes for over in _unmasked(one, rows, conditions)):
                found.append(node.op.label)
    return tuple(found)


def _tokens(op: Input, memories: Mapping[Axis, Axis]) -> Axis | None:
    """The axis along which an input has one id for each token; None where it has none, or several."""
    if op.per_token:
        return SEQ if not op.order else None
    return op.order[0] if len(op.order) == 1 and op.order[0] in memories else None


def _unmasked(node: Node, rows: set[Node], conditions: set[Node]) -> list[Axis]:
    """The axes of tokens along which a node reduces looked-up rows, or what is made of them, under no condition."""
    masks = [arg for arg in node.args if isinstance(arg.op, Mask)]
    if not any(arg in rows for arg in node.args if arg not in masks):
        return []
    limited = {mask.op.over for mask in masks if isinstance(mask.op, Mask) and any(arg in conditions for arg in mask.args)}
    return [axis for axis in _reduced(node) if axis not in limited]


def _reduced(node: Node) -> set[Axis]:
    match node.op:
        case Reduction(over=over):
            axes = set(over)
        case Contract(operands=operands):
            labelled = [pair for operand, arg in zip(operands, node.args, strict=True) for pair in zip(operand.labels, arg.axes, strict=True)]
            axes = {axis for label, axis in labelled if isinstance(label, int)}
        case Shift() if not isinstance(_bare(node.args[0]).op, Lookup):  # a masked id has the row 0, and so has what is before the first token
            axes = {SEQ}
        case _:
            axes = set()
    return {axis for axis in axes if axis.role in (Role.TOKEN, Role.CONTEXT)}


def _bare(node: Node) -> Node:
    while isinstance(node.op, Hold):
        node = node.args[0]
    return node


# -- what depends on what ------------------------------------------------------------------------------


def _edges(nodes: Iterable[Node]) -> dict[Node, list[Node]]:
    """From each node to those whose value it enters, in loops from pass to pass too."""
    found: dict[Node, list[Node]] = {}

    def enters(pairs: Iterable[tuple[Node, Node]]) -> None:
        for source, target in pairs:
            found.setdefault(source, []).append(target)

    for node in nodes:
        if node.op.interior is not None:
            enters(zip(node.args, node.op.interior.formals, strict=True))
        if isinstance(node.op, Loop):
            enters(zip(node.op.results, node.op.formals, strict=True))
        elif isinstance(node.op, Result):
            loop, index = node.args[0], node.op.index
            assert isinstance(loop.op, Loop)
            enters([(loop.args[index], node), (loop.op.results[index], node)])
        else:
            enters((arg, node) for arg in node.args)
    return found


def _dependents(edges: Mapping[Node, Sequence[Node]], sources: Iterable[Node]) -> set[Node]:
    """The sources and what depends on them."""
    pending = list(sources)
    found = set(pending)
    while pending:
        for target in edges.get(pending.pop(), ()):
            if target not in found:
                found.add(target)
                pending.append(target)
    return found
