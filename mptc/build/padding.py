"""Whose padding would be seen: inputs of ids that are looked up, in a model whose tokens see others under no condition.

Ids below 0 are masked. Where a view is limited by a condition that depends on what comes in, padding is the spec's business; where none is, tokens
would take padding for tokens, so the generated module refuses it. What is to the right of all tokens that it concerns harms nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from mptc.ir.axis import SEQ, Axis, Role
from mptc.ir.node import Kind, Node, walk
from mptc.ops.choose import Lookup, Shift
from mptc.ops.contract import Contract
from mptc.ops.leaf import Input, Mask
from mptc.ops.reduce import Reduction
from mptc.ops.region import Loop, Result
from mptc.ops.view import Hold


def seen_unmasked(inputs: Sequence[Node], outputs: Iterable[Node], memories: Mapping[Axis, Axis]) -> tuple[str, ...]:
    """The labels of the inputs whose padding would enter an output."""
    nodes = list(_everything(outputs))
    conditions = _dependents(nodes, inputs)
    found = []
    for node in inputs:
        assert isinstance(node.op, Input)
        if node.type.kind is Kind.ID and (tokens := _tokens(node.op, memories)) is not None:
            ids = _dependents(nodes, [node])
            rows = _dependents(nodes, [one for one in nodes if isinstance(one.op, Lookup) and one.args[1] in ids])
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


def _everything(roots: Iterable[Node]) -> Iterator[Node]:
    """Every node that the roots need, those inside of others too, once."""
    pending, done = list(roots), set[Node]()
    while pending:
        for node in walk([pending.pop()], done):
            done.add(node)
            if node.op.interior is not None:
                pending.extend(node.op.interior.roots)
            yield node


def _dependents(nodes: Sequence[Node], sources: Iterable[Node]) -> set[Node]:
    """The sources and what depends on them, in loops from pass to pass too."""
    found = set(sources)
    while True:
        before = len(found)
        for node in nodes:
            if isinstance(node.op, Loop):
                again = zip(node.op.formals, node.op.results, strict=True)
                found.update(formal for formal, result in again if result in found)
            if node.op.interior is not None:
                found.update(formal for formal, arg in zip(node.op.interior.formals, node.args, strict=True) if arg in found)
            if isinstance(node.op, Result):
                loop, index = node.args[0], node.op.index
                reached = loop.args[index] in found or (isinstance(loop.op, Loop) and loop.op.results[index] in found)
            else:
                reached = not isinstance(node.op, Loop) and any(arg in found for arg in node.args)
            if reached:
                found.add(node)
        if len(found) == before:
            return found
