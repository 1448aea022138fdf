"""A pair's score as a function of numbers: what stands between the product of two tokens and what leaves the pairs, without its axes.

A kernel has a tile of pairs, and every op inside is element by element, so the same expression of numbers says what happens in each place of it, and
its derivative, by the ops' own gradients, holds no sums. Sums over what an operand lacks are the kernel's: over the rows of a tile, or its columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from mptc.ir.axis import SEQ, Axis
from mptc.ir.node import AbsentFacet, Kind, Node, Type, make, walk
from mptc.ops.base import Order
from mptc.ops.compare import Compare, Extreme, Where
from mptc.ops.contract import Contract, Sum, total
from mptc.ops.elementwise import Map
from mptc.ops.leaf import Formal, Index, Length, Mask, Position, formal
from mptc.ops.region import Some

POINTWISE = (Sum, Map, Compare, Extreme, Where, Mask)


class Refused(Exception):
    """Why no kernel is made of something, in words."""


@dataclass(frozen=True)
class Leaf:
    """What a pair has from one of its tokens or both, or from neither: a tensor outside, and what its axes are in the pair.

    `kind`: row, col or pair.
    """

    whole: Node
    labels: Order
    kind: str
    name: str
    formal: Node


@dataclass
class Pairs:
    """Turns nodes of pairs into nodes of numbers. `dot`: the product of the two tokens."""

    over: Axis
    leaves: list[Leaf] = field(default_factory=list)
    known: dict[Node, Node] = field(default_factory=dict)
    here: Node = field(default_factory=lambda: make(formal("at_i", Type())))
    there: Node = field(default_factory=lambda: make(formal("at_j", Type())))
    dot: Node = field(default_factory=lambda: make(formal("dot", Type())))

    def number(self, node: Node) -> Node:
        """A node of pairs, for one of them. Raises `Refused`."""
        if node not in self.known:
            self.known[node] = self._number(node)
        return self.known[node]

    def _number(self, node: Node) -> Node:
        op = node.op
        if not {SEQ, self.over} <= set(node.axes) or not self._is_pointwise(node):
            return self._leaf(node, node.axes)
        if not isinstance(op, Contract):
            return make(op, *map(self.number, node.args))
        args = [
            self.number(arg) if operand.labels == arg.axes else self._leaf(arg, operand.labels)  # type: ignore[arg-type]
            for operand, arg in zip(op.operands, node.args, strict=True)
        ]
        if op.renames:
            return args[0]
        return make(Contract(op.coef, tuple(type(operand)((), operand.power) for operand in op.operands)), *args)

    def _is_pointwise(self, node: Node) -> bool:
        if isinstance(node.op, Contract):
            return not node.op.bound
        return isinstance(node.op, POINTWISE) and not (isinstance(node.op, Mask) and (node.op.past or node.op.window is not None or not node.args))

    def _leaf(self, node: Node, labels: Order) -> Node:
        while isinstance(node.op, Some) or (isinstance(node.op, Contract) and node.op.renames):
            if isinstance(node.op, Some):
                node = node.op.of
            else:
                inner = tuple(labels[node.axes.index(label)] for label in node.op.operands[0].labels)
                node, labels = node.args[0], inner
        if isinstance(node.op, Contract) and not node.args:
            return node
        if isinstance(node.op, Position | Index) and len(labels) == 1 and labels[0] in (SEQ, self.over):
            return self.here if labels[0] == SEQ else self.there
        if isinstance(node.op, Length):
            raise Refused("it depends on how long the sequence is")
        found = next((leaf for leaf in self.leaves if leaf.whole is node and leaf.labels == labels), None)
        if found is None:
            kind = ("pair" if self.over in labels else "row") if SEQ in labels else ("col" if self.over in labels else "row")
            name = f"x{len(self.leaves)}"
            found = Leaf(node, labels, kind, name, make(formal(f"{name}_{kind}", Type((), Kind.NUMBER))))
            self.leaves.append(found)
        return found.formal


def back(seeds: Iterable[tuple[Node, Node]]) -> dict[Node, Node]:
    """The adjoint of every node that some roots need, of which the adjoints are given: by the ops' own gradients."""
    adjoints = dict[Node, list[Node]]()
    seeds = list(seeds)
    for root, seed in seeds:
        adjoints.setdefault(root, []).append(seed)
    found: dict[Node, Node] = {}
    for node in reversed(list(walk([root for root, _ in seeds]))):
        parts = adjoints.get(node)
        if not parts:
            continue
        found[node] = parts[0] if len(parts) == 1 else total(*((1, part) for part in parts))
        for index, arg in enumerate(node.args):
            flow = None if isinstance(node.op, Mask) else node.op.gradient(node, found[node], index)
            if flow is not None:
                adjoints.setdefault(arg, []).append(flow)
    return found


@dataclass
class Lines:
    """The lines of a kernel that compute nodes of numbers, each once: what is written the same is the same."""

    sizes: Mapping[Axis, int]
    prefix: str = "t"
    rows: bool = False  # whether a tile has rows, which may be summed
    text: dict[Node, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def value(self, node: Node) -> str:
        """The name (or the digits) of a node. Raises `Refused`."""
        for each in walk([node], self.text):
            self.text[each] = self._value(each)
        return self.text[node]

    def _value(self, node: Node) -> str:
        if isinstance(node.op, Formal):
            return node.op.label
        try:
            code = str(node.op.triton(_Tile(node, self.sizes, [self.text[arg] for arg in node.args], self.rows)))
        except AbsentFacet as reason:
            raise Refused(str(reason)) from None
        if not node.args or code in self.text.values():
            return code
        if code not in self.names:
            self.names[code] = f"{self.prefix}{len(self.names)}"
            self.lines.append(f"{self.names[code]} = {code}")
        return self.names[code]


@dataclass
class _Tile:
    node: Node
    sizes: Mapping[Axis, int]
    operands: Sequence[str]
    rows: bool

    def operand(self, index: int) -> str:
        return self.operands[index]

    def summed(self, code: str) -> str:
        if not self.rows:
            raise AbsentFacet("a sum over an axis is no expression of one pair")
        return f"tl.sum(tl.where(inside, {code}, 0.0), 1)[:, None]"



def padded(width: int) -> int:
    """The least width of a tile that holds it: a power of two, 16 at least."""
    return max(16, 1 << (width - 1).bit_length())
