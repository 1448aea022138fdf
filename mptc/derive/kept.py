"""What a cache keeps: of each token, the values that later tokens look at, after all that does not depend on the viewer, at the cheapest cut.

A view's own value is always right. Where that is a linear map of a narrower value (keys and values expanded from a latent), the narrower one can
be kept instead, because the map can as well be applied to the viewer's side: which is cheaper is a minimum cut, weighed by numbers per token.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from mptc.derive import Derived
from mptc.derive.search import BYTES
from mptc.ir.axis import BATCH, SEQ, Axis, Role
from mptc.ir.cut import minimum_cut
from mptc.ir.node import Node
from mptc.ops.concat import Concat
from mptc.ops.contract import Contract
from mptc.ops.contract_text import is_constant
from mptc.ops.region import everything
from mptc.ops.stream import Stream
from mptc.passes.asked import needed


class CannotDecode(Exception):
    """Why a model cannot go on token by token. The message completes: it cannot decode, because …"""


def viewed(node: Node) -> Iterator[tuple[Node, Axis]]:
    """The values of tokens that a node sees as those of other tokens, and the context it sees them along. Raises `CannotDecode`."""
    op = node.op
    if isinstance(op, Stream):
        for arg in node.args[1:3]:
            if SEQ in arg.axes:
                yield arg, op.over
    if isinstance(op, Contract):
        carried = [dict(zip(operand.labels, arg.axes, strict=True)) for operand, arg in zip(op.operands, node.args, strict=True)]
        for labels, arg in zip(carried, node.args, strict=True):
            for label, axis in labels.items():
                if axis == SEQ and label != SEQ:
                    yield arg, label if isinstance(label, Axis) else _context(label, carried)


def _context(label: int, carried: list[dict[Axis | int, Axis]]) -> Axis:
    found = next((labels[label] for labels in carried if label in labels and labels[label].role is Role.CONTEXT), None)
    if found is None:
        raise CannotDecode("it reduces the whole sequence")
    return found


def linear(node: Node | None) -> Node | None:
    """The value of a token that a node is a linear map of, by parameters alone; None where it is anything else."""
    if node is None or not isinstance(node.op, Contract) or next(viewed(node), None) is not None:
        return None
    own = [(operand, arg) for operand, arg in zip(node.op.operands, node.args, strict=True) if not is_constant(arg)]
    if len(own) != 1 or own[0][0].power != 1 or any(axis.role is Role.CONTEXT for axis in own[0][1].axes):
        return None
    return own[0][1]


def heads(viewer: Node, value: Node) -> frozenset[Axis]:
    """The axes of a value along which its viewer has weights of their own: it multiplies once for each."""
    op = viewer.op
    if isinstance(op, Stream):
        return frozenset(set(viewer.args[0].axes) | set(viewer.args[1].axes)) - {*op.inner} & {*value.axes}
    assert isinstance(op, Contract)
    other = {label for arg, operand in zip(viewer.args, op.operands, strict=True) if arg is not value for label in operand.labels}
    return frozenset(axis for axis in value.axes if axis in other and axis in viewer.axes)


def asked(outputs: Sequence[Node]) -> list[Node]:
    """What outputs need, arguments first: what loops watch for losses and probes is not among it."""
    wanted = needed(outputs)
    return [node for node in everything(outputs) if node in wanted]


@dataclass
class Cut:
    """The values of tokens that a program's views hang on, and which of them are kept.

    Keeping costs `BYTES` a number; looking at a value costs a multiply-add for each of its numbers, at what a linear map was made of once for each
    head that the map has.
    """

    derived: Derived
    things: list[Node | None] = field(default_factory=list)  # None: the viewers
    members: list[set[Hashable]] = field(default_factory=list)  # what each thing hangs together with others by
    weights: dict[Hashable, float] = field(default_factory=dict)
    near: set[int] = field(default_factory=set)  # the things done before what is kept

    def __post_init__(self) -> None:
        self.viewers = self._thing(None)
        for node in asked([output.node for output in self.derived.program.outputs]):
            for arg, _ in viewed(node):
                if BATCH in arg.axes:
                    self._reach(arg, heads(node, arg))
        fixed = [place for place, node in enumerate(self.things) if node is not None and linear(node) not in {*self.things} - {None}]
        self.near = minimum_cut([list(own) for own in self.members], self.weights, fixed, [self.viewers]) if fixed else set()
        self.chosen = {node for node in self.things if node is not None and self._is_cut(node)}

    def keeps(self, node: Node) -> bool:
        """Whether a canonical value of a token is kept."""
        return self.derived.planned.get(node) in self.chosen

    def crosses(self, node: Node) -> bool:
        """Whether it is done anew for each token that is seen, after what is kept."""
        planned = self.derived.planned.get(node)
        return planned is not None and planned in self.things and self.things.index(planned) not in self.near

    def _is_cut(self, node: Node) -> bool:
        readers = [place for place, own in enumerate(self.members) if node in own and self.things[place] is not node]
        return self.things.index(node) in self.near and any(place not in self.near for place in readers)

    def _thing(self, node: Node | None) -> int:
        self.things.append(node)
        self.members.append(set())
        return len(self.things) - 1

    def _reach(self, node: Node, heads: frozenset[Axis]) -> None:
        """A value that a view hangs on. Vectors put side by side are looked at one by one."""
        if isinstance(node.op, Concat):
            for arg in node.args:
                self._reach(arg, heads)
            return
        self._reads(self.viewers, node)
        self._made(node, heads)

    def _reads(self, reader: int, node: Node) -> None:
        self.weights[node] = BYTES * self._numbers(node.axes)
        self.members[reader].add(node)

    def _made(self, node: Node, heads: frozenset[Axis]) -> None:
        """How a value is made; through a linear map, what of."""
        if node in self.things:
            return
        place = self._thing(node)
        self.members[place].add(node)
        inner = linear(node)
        if inner is None or SEQ not in inner.axes:
            return
        self._reads(place, inner)
        self._made(inner, heads)
        before, after = ("before", node), ("after", node)
        self.weights[before], self.weights[after] = self._numbers(node.axes), self._numbers((*heads, *(set(inner.axes) - heads)))
        self.members[place] |= {before, after}
        self.members[self.viewers].add(before)  # cut where the map is done before keeping
        self.members[self.things.index(inner)].add(after)  # cut where it is done after

    def _numbers(self, axes: Iterable[Axis]) -> float:
        """Numbers per token."""
        sizes = self.derived.program.sizes
        return float(math.prod(sizes[Axis(axis.role, axis.name)] for axis in axes if axis.role is Role.DIM))
