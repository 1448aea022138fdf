"""Which of the tokens that are seen rows of pairs need: in a causal score those up to the last that asks, and of a window the last ones of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from mptc.ir.axis import SEQ, Axis, Role
from mptc.ir.node import Node
from mptc.ops.choose import Entry, Lookup
from mptc.ops.contract import Contract, Label
from mptc.ops.leaf import Mask
from mptc.ops.norm import Rms, Rstd
from mptc.ops.reduce import Lse, Max, Softmax
from mptc.ops.stream import Stream


@dataclass(frozen=True)
class Until:
    """Along `over` nothing behind the token that asks takes part, nor what is `window` tokens or more before it."""

    over: Axis
    window: int | None


def until(inside: set[Node], exits: list[Node]) -> Until | None:
    """What a region needs of the tokens that are seen; None: all."""
    contexts = {axis for node in inside for axis in node.axes if axis != SEQ and axis.role in (Role.TOKEN, Role.CONTEXT)}
    if len(contexts) != 1:
        return None
    (over,) = contexts
    if any(_keeps(node, over) for node in exits) or any(SEQ in arg.axes and over in arg.axes for arg in _outside(inside, exits)):
        return None
    masks = [_mask(node, over) for node in (*inside, *exits) if _reduces(node, over)]
    ops = [mask.op for mask in masks if mask is not None and isinstance(mask.op, Mask) and (mask.op.past or mask.op.window is not None)]
    if not masks or len(ops) < len(masks):
        return None
    windows = [op.window for op in ops if op.window is not None]
    return Until(over, max(windows) if len(windows) == len(ops) else None)


def along(node: Node, place: int, over: Axis) -> Axis | None:
    """The axis of an argument along which it is seen, where it is."""
    arg, op = node.args[place], node.op
    if over in arg.axes:
        return over
    if SEQ not in arg.axes:
        return None
    if isinstance(op, Contract):
        return SEQ if op.operands[place].labels[arg.axes.index(SEQ)] in _seen(node, op, over) else None
    return SEQ if isinstance(op, Stream) and place in (1, 2) else None


def _outside(inside: set[Node], exits: list[Node]) -> Iterable[Node]:
    return (arg for node in (*inside, *exits) for arg in node.args if arg not in inside)


def _seen(node: Node, op: Contract, over: Axis) -> set[Label]:
    """What a product calls the tokens that are seen."""
    labels = [operand.labels[arg.axes.index(over)] for arg, operand in zip(node.args, op.operands, strict=True) if over in arg.axes]
    return {*labels, *([over] if over in node.axes else [])}


def _keeps(node: Node, over: Axis) -> bool:
    """Whether something is made for each token that is seen."""
    return over in node.axes or (isinstance(node.op, Contract) and any(isinstance(label, Axis) for label in _seen(node, node.op, over)))


def _reduces(node: Node, over: Axis) -> bool:
    op = node.op
    if isinstance(op, Contract):
        return any(isinstance(label, int) for label in _seen(node, op, over))
    if isinstance(op, Softmax | Lse | Max | Rms | Rstd):
        return over in op.over
    return (isinstance(op, Stream) and op.over == over) or (isinstance(op, Lookup | Entry) and op.axis == over)


def _mask(node: Node, over: Axis) -> Node | None:
    """What leaves tokens out of a reduction."""
    op = node.op
    if isinstance(op, Softmax | Lse | Max):
        return node.args[1] if len(node.args) > 1 else None
    if isinstance(op, Stream):
        return node.args[-1] if op.masked else None
    if isinstance(op, Contract):
        return next((found for arg in node.args if over in arg.axes and (found := _vanishing(arg, over)) is not None), None)
    return None


def _vanishing(node: Node, over: Axis) -> Node | None:
    """The mask outside of which a factor is 0."""
    op = node.op
    if isinstance(op, Mask):
        return node if op.over == over else None
    if isinstance(op, Softmax):
        return _mask(node, over) if over in op.over else None
    if isinstance(op, Contract) and not op.bound:
        return next((found for arg in node.args if over in arg.axes and (found := _vanishing(arg, over)) is not None), None)
    return None
