"""Ops with a graph inside: the derivative of an energy, and loops (`stack`, `repeat`). A region's nodes may use nodes from outside freely."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from mptc.ir.axis import Axis
from mptc.ir.node import Interior, Node, Type, absent, axes_of, listed, make, walk
from mptc.ops.base import Operation
from mptc.ops.leaf import Given


class Region(Operation, abstract=True):
    """Meant by what `mptc.interpret` and the printers do with its graph, not by a formula."""

    cost = absent("the sum over its graph")
    gradient = absent("energies hold no regions")
    reference = absent("interpreted")
    torch = absent("printed as a loop")
    triton = absent("printed as a loop")
    onnx = absent("unrolled or written as a subgraph")
    samples = absent("has no meaning without its graph")


@dataclass(frozen=True)
class Derivative(Region):
    """∂(Σ tokens energy)/∂variable at the arguments, the conditions held fixed. `formals`: the variable, then the conditions.

    Differentiated on the formals, so that what else an argument depends on cannot leak in; then the arguments are put in their places.
    """

    formals: tuple[Node, ...]
    energy: Node
    label: str  # the energy's name, for those who read

    derived = False

    def infer(self, *types: Type) -> Type:
        return Type(self.formals[0].type.axes)

    @property
    def interior(self) -> Interior:
        return Interior(self.formals, (self.energy,))

    def fault(self, node: Node, sizes: Mapping[Axis, int]) -> str | None:
        if len(node.args) != len(self.formals):
            return "an argument for each variable is wanted"
        return _narrower("argument", node.args, self.formals)

    def listed(self, node: Node, names: Sequence[str]) -> str:
        return listed(f"grad {self.label}", None, names)


@dataclass(frozen=True)
class Loop(Region):
    """`count` passes over a state. Arguments: the initial state. `results` compute the next one from `formals`.

    A `label` makes it a stack: every pass is a copy with parameters of its own, whose paths begin with `label[*]` below the enclosing stack.
    `stacks`: the keys of the stacks around and, for a stack, its own. The node itself is no value; `Result` nodes are. `watched` is what is looked at
    in every pass: `Gathered` nodes have it along the axis `passes`.
    """

    count: int
    label: str | None
    path: str  # of one copy, as `outer[*].layers[*]`; of a repeat, the enclosing one's
    formals: tuple[Node, ...]
    results: tuple[Node, ...]
    stacks: tuple[int, ...] = ()
    watched: tuple[Node, ...] = ()
    passes: Axis | None = None

    def infer(self, *types: Type) -> Type:
        return Type()

    @property
    def interior(self) -> Interior:
        return Interior(self.formals, (*self.results, *self.watched), None if self.label is None else f"{self.path}.")

    def fault(self, node: Node, sizes: Mapping[Axis, int]) -> str | None:
        if not len(node.args) == len(self.formals) == len(self.results):
            return "an initial value and a result for each state are wanted"
        return _narrower("initial value", node.args, self.formals) or _narrower("result", self.results, self.formals)

    def listed(self, node: Node, names: Sequence[str]) -> str:
        return listed(f"repeat {self.count}" if self.label is None else f"stack {self.count} as {self.label}", None, names)


@dataclass(frozen=True)
class Some(Given):
    """A variable of `Rows`: a value for some of the tokens that lie `along` an axis, those that ask or those that they see. `key`: its own."""

    of: Node
    along: Axis
    seen: bool
    key: int

    def infer(self, *types: Type) -> Type:
        return self.of.type

    def is_exact(self, node: Node) -> bool:
        return isinstance(self.of.op, Operation) and self.of.op.is_exact(self.of)

    def listed(self, node: Node, names: Sequence[str]) -> str:
        return "some rows"


@dataclass(frozen=True)
class Rows(Region):
    """What is made of pairs of tokens, for some of the tokens that ask at a time. Arguments: what tokens have, of which `formals` are some rows.

    Of what is seen these are the rows up to the last token that asks; with a `window`, of those the ones that the first does not leave out.
    `results` are rows, which are put together, or sums over the tokens that ask, which are `added`. The node itself is no value; `Result` nodes are.
    """

    formals: tuple[Node, ...]
    results: tuple[Node, ...]
    added: tuple[bool, ...]
    window: int | None = None

    def infer(self, *types: Type) -> Type:
        return Type()

    @property
    def interior(self) -> Interior:
        return Interior(self.formals, self.results)

    def fault(self, node: Node, sizes: Mapping[Axis, int]) -> str | None:
        same = [isinstance(formal.op, Some) and formal.op.of is arg for formal, arg in zip(self.formals, node.args, strict=True)]
        return None if all(same) else "its variables are not rows of its arguments"

    def listed(self, node: Node, names: Sequence[str]) -> str:
        return listed("rows", None, names)


@dataclass(frozen=True)
class Result(Region):
    """One value of a loop's final state, or of what is computed by rows."""

    index: int
    type: Type

    def infer(self, *types: Type) -> Type:
        return self.type

    def fault(self, node: Node, sizes: Mapping[Axis, int]) -> str | None:
        around = node.args[0].op
        if not isinstance(around, Loop | Rows) or self.index >= len(around.results):
            return "it takes no result of a region"
        like = around.formals if isinstance(around, Loop) else around.results
        return None if like[self.index].type == self.type else "its type is not that of the result"

    def listed(self, node: Node, names: Sequence[str]) -> str:
        return f"{names[0]}.{self.index}"


@dataclass(frozen=True)
class Gathered(Region):
    """What a loop watches, one value for each pass."""

    index: int
    type: Type
    label: str

    def infer(self, *types: Type) -> Type:
        return self.type

    def fault(self, node: Node, sizes: Mapping[Axis, int]) -> str | None:
        loop = node.args[0].op
        if not isinstance(loop, Loop) or self.index >= len(loop.watched) or loop.passes is None:
            return "the loop watches no such value"
        watched = loop.watched[self.index].type
        return None if set(watched.axes) | {loop.passes} <= set(self.type.axes) else "its type lacks axes of what is watched"

    def listed(self, node: Node, names: Sequence[str]) -> str:
        return f"{names[0]}.watched.{self.index}"


def gathered(loop: Node, index: int, label: str) -> Node:
    """What a loop watches, as a value along `passes`."""
    op = loop.op
    assert isinstance(op, Loop)
    assert op.passes is not None
    watched = op.watched[index].type
    return make(Gathered(index, Type(axes_of((*watched.axes, op.passes)), watched.kind), label), loop)


def passes_of(node: Node) -> Axis:
    """The axis along which a `Gathered` value has the passes."""
    loop = node.args[0].op
    assert isinstance(loop, Loop)
    assert loop.passes is not None
    return loop.passes


def _narrower(what: str, nodes: Sequence[Node], formals: Sequence[Node]) -> str | None:
    """A value that is put in the place of a variable has no axis that the variable lacks."""
    for node, formal in zip(nodes, formals, strict=True):
        if not set(node.axes) <= set(formal.axes) or node.type.kind is not formal.type.kind:
            return f"{what} {node.type} does not fit the variable {formal.type}"
    return None


def everything(roots: Iterable[Node], known: set[Node] | None = None) -> Iterator[Node]:
    """Every node that roots need, those of loops included: arguments before what uses them, a loop's body before the loop."""
    known = set() if known is None else known
    for node in walk(roots, known):
        if isinstance(node.op, Loop | Rows):
            yield from everything(node.op.interior.roots, known)
        known.add(node)
        yield node
