"""Values without arguments: parameters, inputs, formals, positions, indices, and which tokens see which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from mptc.ir.axis import BATCH, CTX, SEQ, Axis, Role
from mptc.ir.node import Kind, Node, Type, absent, axes_of
from mptc.ops.arrays import Array, Sizes, full
from mptc.ops.base import Arrangement, Operation, Order, is_truth, lined_up, merged
from mptc.ops.onnx_token import onnx_mask
from mptc.ops.sample import D, Sample, of
from mptc.ops.site import SUM, Element, OnnxSite, Site, Value, bracketed
from mptc.ops.triton_text import TileSite, condition


class Leaf(Operation, abstract=True):
    """A value that is given, not computed: it costs nothing and no gradient flows further."""

    def cost(self, node: Node, sizes: Sizes) -> float:
        return 0.0

    def arrange(self, node: Node, orders: Sequence[Order]) -> Arrangement:
        return Arrangement((), node.axes)

    gradient = absent("no argument")
    triton = absent("loaded by the region that contains it")


class Given(Leaf, abstract=True):
    """A leaf whose value comes from outside the graph."""

    reference = absent("given from outside")
    torch = absent("a variable of the generated function")
    onnx = absent("a graph input or initializer")
    samples = absent("has no meaning of its own")


@dataclass(frozen=True)
class Param(Given):
    """A learned tensor. `path` is its name in `state_dict`, a stack copy written `layers[*]`; `order` its declared axes.

    `stacks`: the loops that say which copies these are, as `Loop.stacks` has them. A shared stack is gone through by several loops.
    """

    path: str
    order: tuple[Axis, ...]
    stacks: tuple[int, ...] = field(default=(), repr=False)

    def infer(self, *types: Type) -> Type:
        return Type(axes_of(self.order))

    @property
    def parameter(self) -> str:
        return self.path

    def listed(self, node: Node, names: Sequence[str]) -> str:
        return f"param {self.path}"


@dataclass(frozen=True)
class Input(Given):
    """A value for each token (or sequence). `order`: the declared axes."""

    label: str
    order: tuple[Axis, ...]
    per_token: bool = True
    kind: Kind = Kind.NUMBER

    def is_exact(self, node: Node) -> bool:
        return self.kind is Kind.ID

    def infer(self, *types: Type) -> Type:
        return Type(axes_of((BATCH, *((SEQ,) if self.per_token else ()), *self.order)), self.kind)

    def listed(self, node: Node, names: Sequence[str]) -> str:
        return f"input {self.label}"


_keys = count()


@dataclass(frozen=True)
class Formal(Given):
    """A variable of a region (a loop's state, an energy's argument); `key` tells it from every other."""

    label: str
    type: Type
    key: int

    def infer(self, *types: Type) -> Type:
        return self.type

    def listed(self, node: Node, names: Sequence[str]) -> str:
        return f"variable {self.label}"


def formal(label: str, type_: Type) -> Formal:
    return Formal(label, type_, fresh())


def fresh() -> int:
    """A key that nothing has: of a variable, or of a loop over the copies of a stack."""
    return next(_keys)


@dataclass(frozen=True)
class Position(Leaf):
    """i, from 0, for each token."""

    def infer(self, *types: Type) -> Type:
        return Type((SEQ,))

    def reference(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> Array:
        return np.arange(float(sizes[SEQ]))

    def is_exact(self, node: Node) -> bool:
        return True

    def torch(self, site: Site) -> str:
        return site.helper("position")

    def onnx(self, site: OnnxSite) -> Value:
        return site.positions(SEQ)

    @staticmethod
    def samples() -> tuple[Sample, ...]:
        return (Sample(Position(), ()),)


@dataclass(frozen=True)
class Length(Leaf):
    """How many tokens there are, of the sequence or of a memory. Known at run time only, so a canonical coefficient has it as a factor of its own."""

    axis: Axis = SEQ

    def infer(self, *types: Type) -> Type:
        return Type(())

    def reference(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> Array:
        return np.asarray(float(sizes[self.axis]))

    def torch(self, site: Site) -> str:
        return site.helper(length(self.axis))

    def onnx(self, site: OnnxSite) -> Value:
        return Value(site.emit("Cast", site.emit("Squeeze", site.length(self.axis)), to=site.numbers), ())

    @staticmethod
    def samples() -> tuple[Sample, ...]:
        return (Sample(Length(), ()),)


@dataclass(frozen=True)
class Index(Leaf):
    """0, 1, … along an axis, a dim or a context."""

    axis: Axis

    def infer(self, *types: Type) -> Type:
        return Type((self.axis,))

    def reference(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> Array:
        return np.arange(float(sizes[self.axis]))

    def is_exact(self, node: Node) -> bool:
        return True

    def torch(self, site: Site) -> str:
        size = site.sizes[self.axis] if self.axis.role is Role.DIM else site.helper(length(self.axis))
        return f"torch.arange({size}, device={site.helper('device')})"

    def onnx(self, site: OnnxSite) -> Value:
        if self.axis.role is not Role.DIM:
            return site.positions(self.axis)
        return Value(site.constant(np.arange(site.sizes[Axis(self.axis.role, self.axis.name)])), ((self.axis,),), Element.WHOLE)

    @staticmethod
    def samples() -> tuple[Sample, ...]:
        return (Sample(Index(Axis(Role.DIM, "d")), ()), Sample(Index(CTX), ()))


def length(axis: Axis) -> str:
    """What a generated module calls the number of tokens along an axis."""
    return "seq" if axis == SEQ else f"length({axis})"


@dataclass(frozen=True)
class Mask(Operation):
    """1 where token i sees token j of a context, else 0. Arguments are conditions, all of which must be non-zero.

    `itself`: they are such that i sees i whatever comes in.
    A mask is the support of what it stands beside: it is printed as `where` on the argument of a reduction, never multiplied in.
    """

    over: Axis
    past: bool = False
    window: int | None = None
    itself: bool = False

    def infer(self, *types: Type) -> Type:
        own = (SEQ, self.over) if self.past or self.window is not None else ()
        return Type(axes_of((*own, *(axis for type_ in types for axis in type_.axes))))

    def cost(self, node: Node, sizes: Sizes) -> float:
        return 0.0

    def gradient(self, node: Node, adjoint: Node, index: int) -> Node | None:
        return None

    def arrange(self, node: Node, orders: Sequence[Order]) -> Arrangement:
        own = ((SEQ, self.over),) if self.past or self.window is not None else ()
        order = merged([*own, *orders])
        return Arrangement(tuple(lined_up(other, order) for other in orders), order)

    def reference(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> Array:
        allowed = np.ones([sizes[axis] for axis in node.axes], dtype=bool)
        if self.past or self.window is not None:
            behind = np.arange(sizes[SEQ])[:, None] - np.arange(sizes[self.over])[None, :]
            visible = behind >= 0
            if self.window is not None:
                visible &= behind < self.window
            allowed &= full(visible, (SEQ, self.over), node.axes, sizes)
        for array, arg in zip(arrays, node.args, strict=True):
            allowed &= full(array, arg.axes, node.axes, sizes) != 0
        return allowed.astype(float)

    def is_exact(self, node: Node) -> bool:
        return True

    def takes_exact(self, node: Node, index: int) -> bool:
        return True

    def torch(self, site: Site) -> str:
        return mask_text(self, site)

    def triton(self, site: TileSite) -> str:
        return " & ".join(condition(site, index) for index in range(len(site.node.args)))

    onnx = onnx_mask

    @staticmethod
    def samples() -> tuple[Sample, ...]:
        more = (of(BATCH, SEQ, D),)
        return (Sample(Mask(CTX, past=True), ()), Sample(Mask(CTX, past=True, window=2), ()), Sample(Mask(CTX, past=True), more, masks=(0,)))


def may_see_nothing(mask: Node) -> bool:
    """A token that looks back sees itself, unless there are conditions. Of some of its rows a mask says what it says of all."""
    mask = getattr(mask.op, "of", mask)
    return bool(mask.args) and not (isinstance(mask.op, Mask) and mask.op.itself)


def mask_text(op: Mask, site: Site) -> str:
    """A boolean tensor: j ≤ i, and i < j + window."""
    parts = []
    if op.past or op.window is not None:
        here, there = (_placed(site.helper("position"), site.order[site.order.index(axis) + 1 :]) for axis in (SEQ, op.over))
        parts.append(f"({here} >= {there})")
        if op.window is not None:
            parts.append(f"({here} < {there} + {op.window})")
    for index, arg in enumerate(site.node.args):
        parts.append(f"({site.whole(index)})" if is_truth(arg) else f"({bracketed(site.whole(index), SUM)} != 0)")
    return " & ".join(parts) if len(parts) > 1 else parts[0][1:-1]


def _placed(position: str, after: Order) -> str:
    """Positions along one axis, to broadcast with the axes after it."""
    return f"{position}[:{', None' * len(after)}]" if after else position
