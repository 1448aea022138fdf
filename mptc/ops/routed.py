"""Computing for some tokens alone, or for some pairs of an expert and a token: which they are, what they have, and back.

Chosen tokens lie along an axis of their own, `along`, and so do pairs, one expert's after another's. What is computed between `Take` and `Put`,
or between `Routed` and `Combined`, is made of the same ops as what is computed for all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mptc.ir.axis import BATCH, SEQ, Axis, Role
from mptc.ir.node import Node, Type, absent, axes_of
from mptc.ir.number import Monomial
from mptc.ops.arrays import Sizes
from mptc.ops.base import Arrangement, Operation, Order
from mptc.ops.contract import Label, Operand
from mptc.ops.contract_text import scalar
from mptc.ops.onnx_routed import onnx_combined, onnx_grouped, onnx_pairs, onnx_put, onnx_routed, onnx_take, onnx_tokens
from mptc.ops.site import PRODUCT, OnnxSite, Site, Value, bracketed

UNSAMPLED = "how many there are is known at run time alone: tests/passes/test_sparse.py"


class Sparse(Operation, abstract=True):
    """Made by `mptc.passes.sparse` after energies are differentiated."""

    along: Axis

    gradient = absent("made after energies are differentiated")
    triton = absent("torch's own")
    samples = absent(UNSAMPLED)
    reference = absent("what it is made from is interpreted")

    def cost(self, node: Node, sizes: Sizes) -> float:
        return 0.0


def chosen_axis(number: int) -> Axis:
    """`chosen`, `chosen2`, …: of each choice its own."""
    return Axis(Role.TOKEN, f"chosen{number + 1 if number else ''}")


def pair_axis(number: int) -> Axis:
    return Axis(Role.TOKEN, f"pair{number + 1 if number else ''}")


@dataclass(frozen=True)
class Tokens(Sparse):
    """The numbers of the tokens of a sequence where a condition is non-zero, in order, and then of others where a sequence has fewer of them.

    Arguments: the condition [batch, seq]; where it is known, a number that is at least as many as any sequence has. Result: [batch, chosen].
    """

    along: Axis

    def infer(self, *types: Type) -> Type:
        return Type(axes_of((BATCH, self.along)))

    def is_exact(self, node: Node) -> bool:
        return True

    def takes_exact(self, node: Node, index: int) -> bool:
        return True

    def takes_scalar(self, node: Node, index: int, sizes: Sizes) -> bool:
        return index == 1

    def arrange(self, node: Node, orders: Sequence[Order]) -> Arrangement:
        return Arrangement(((BATCH, SEQ), *((),) * (len(orders) - 1)), (BATCH, self.along))

    def torch(self, site: Site) -> str:
        return f"{site.helper('chosen_tokens')}({', '.join(site.whole(place) for place in range(len(site.given)))})"

    def onnx(self, site: OnnxSite) -> Value:
        return onnx_tokens(self, site)


@dataclass(frozen=True)
class Take(Sparse):
    """What chosen tokens have. Arguments: a value along `seq`, and the numbers of the tokens. Result: along `chosen` in the place of `seq`."""

    along: Axis

    def infer(self, *types: Type) -> Type:
        return Type(axes_of((BATCH, self.along, *(axis for axis in types[0].axes if axis != SEQ))), types[0].kind)

    def is_exact(self, node: Node) -> bool:
        op = node.args[0].op
        return isinstance(op, Operation) and op.is_exact(node.args[0])

    def takes_exact(self, node: Node, index: int) -> bool:
        return True

    def arrange(self, node: Node, orders: Sequence[Order]) -> Arrangement:
        rest = tuple(axis for axis in orders[0] if axis not in (BATCH, SEQ))
        own = (BATCH, SEQ, *rest) if BATCH in orders[0] else (SEQ, *rest)
        return Arrangement((own, (BATCH, self.along)), (BATCH, self.along, *rest))

    def torch(self, site: Site) -> str:
        if BATCH not in site.orders[0]:
            return f"{site.tight(0)}[{site.whole(1)}]"
        return f"{site.helper('take')}({site.whole(0)}, {site.whole(1)})"

    def onnx(self, site: OnnxSite) -> Value:
        return onnx_take(self, site)


@dataclass(frozen=True)
class Put(Sparse):
    """For every token what was computed for it, 0 for those that are not chosen. Arguments: that, the numbers of the tokens, the condition."""

    along: Axis

    def infer(self, *types: Type) -> Type:
        return Type(axes_of((BATCH, SEQ, *(axis for axis in types[0].axes if axis != self.along))))

    def takes_exact(self, node: Node, index: int) -> bool:
        return index > 0

    def arrange(self, node: Node, orders: Sequence[Order]) -> Arrangement:
        rest = tuple(axis for axis in orders[0] if axis not in (BATCH, self.along))
        return Arrangement(((BATCH, self.along, *rest), (BATCH, self.along), (BATCH, SEQ)), (BATCH, SEQ, *rest))

    def torch(self, site: Site) -> str:
        return f"{site.helper('put')}({site.whole(0)}, {site.whole(1)}, {site.whole(2)})"

    def onnx(self, site: OnnxSite) -> Value:
        return onnx_put(self, site)


# -- pairs of an expert and a token ----------------------------------------------------------------------


@dataclass(frozen=True)
class Pairs(Sparse):
    """The pairs of an expert and a token where a choice [batch, tokens, experts] is non-zero, one expert's after another's: [pair].

    `most`: so many experts each token has, where that is known.
    """

    of: Order
    token: Axis
    along: Axis
    most: int | None = None

    def infer(self, *types: Type) -> Type:
        return Type((self.along,))

    def is_exact(self, node: Node) -> bool:
        return True

    def takes_exact(self, node: Node, index: int) -> bool:
        return True

    def arrange(self, node: Node, orders: Sequence[Order]) -> Arrangement:
        return Arrangement(((*self.of, BATCH, self.token),), (self.along,))

    def torch(self, site: Site) -> str:
        most = "" if self.most is None else f", {self.most}"
        chosen = site.whole(0) if len(self.of) == 1 else f"{site.tight(0)}.flatten(0, {len(self.of) - 1})"
        return f"{site.helper('pairs_of')}({chosen}{most})"

    def onnx(self, site: OnnxSite) -> Value:
        return onnx_pairs(self, site)


@dataclass(frozen=True)
class Routed(Sparse):
    """What the expert, the token or both of a pair have. Arguments: a value and the pairs."""

    of: Order
    token: Axis
    along: Axis

    @property
    def replaced(self) -> Order:
        return (*self.of, BATCH, self.token)

    def part(self, own: Order) -> str:
        """What of a pair tells the place of a value that has these of the axes."""
        return "place" if len(own) == len(self.replaced) else "token" if BATCH in own else "expert"

    def infer(self, *types: Type) -> Type:
        return Type(axes_of((self.along, *(axis for axis in types[0].axes if axis not in self.replaced))), types[0].kind)

    def is_exact(self, node: Node) -> bool:
        op = node.args[0].op
        return isinstance(op, Operation) and op.is_exact(node.args[0])

    def takes_exact(self, node: Node, index: int) -> bool:
        return True

    def own(self, order: Order) -> Order:
        """Of the axes that pairs stand for, those of a value."""
        return tuple(axis for axis in self.replaced if axis in order)

    def arrange(self, node: Node, orders: Sequence[Order]) -> Arrangement:
        rest = tuple(axis for axis in orders[0] if axis not in self.replaced)
        return Arrangement(((*self.own(orders[0]), *rest), (self.along,)), (self.along, *rest))

    def torch(self, site: Site) -> str:
        own = self.own(site.orders[0])
        flat = f".flatten(0, {len(own) - 1})" if len(own) > 1 else ""
        return f"{site.tight(0)}{flat}.index_select(0, {site.whole(1)}.{self.part(own)})"

    def onnx(self, site: OnnxSite) -> Value:
        return onnx_routed(self, site)


def is_routable(axes: Sequence[Axis], of: Order, token: Axis) -> bool:
    """Whether a pair tells which part of a value over these axes is meant."""
    return {axis for axis in axes if axis in (*of, BATCH, token)} in ({*of}, {BATCH, token}, {*of, BATCH, token})


@dataclass(frozen=True)
class Grouped(Sparse):
    """c Σ x_pair w_expert: a product of what pairs have with what their experts have. Arguments: x, w and the pairs.

    `operands`: labels of both as a contract has them, the pair's in the place of the expert's and the token's.
    """

    of: Order
    token: Axis
    along: Axis
    coef: Monomial
    operands: tuple[Operand, Operand]

    def infer(self, *types: Type) -> Type:
        labels = [label for operand in self.operands for label in operand.labels]
        return Type(axes_of(label for label in labels if isinstance(label, Axis)))

    def listed(self, node: Node, names: Sequence[str]) -> str:
        own = [f"{name}[{', '.join(map(str, operand.labels))}]" for name, operand in zip(names, self.operands, strict=False)]
        return f"grouped[{', '.join(map(str, self.of))}, {self.coef}]({', '.join([*own, names[2]])})"

    def takes_exact(self, node: Node, index: int) -> bool:
        return index == 2

    def cost(self, node: Node, sizes: Sizes) -> float:
        return 2.0 * sizes[self.along] * float(np.prod([sizes[axis] for axis in node.args[1].axes if axis not in self.of]))

    def dims(self, node: Node, orders: Sequence[Order]) -> tuple[Order, Order, Order]:
        """The axes of x and of w that are summed, each in the order of the other, and those of w that are kept, called as in the result."""
        x, w = (dict(zip(arg.axes, operand.labels, strict=True)) for arg, operand in zip(node.args, self.operands, strict=False))
        back: dict[Label, Axis] = {label: axis for axis, label in x.items()}
        inner = tuple(axis for axis in orders[1] if isinstance(w[axis], int))
        kept = tuple(axis for axis in orders[1] if axis not in (*self.of, *inner))
        return tuple(back[w[axis]] for axis in inner), inner, kept

    def arrange(self, node: Node, orders: Sequence[Order]) -> Arrangement:
        mine, inner, kept = self.dims(node, orders)
        w = dict(zip(node.args[1].axes, self.operands[1].labels, strict=True))
        named = tuple(label for axis in kept if isinstance(label := w[axis], Axis))
        return Arrangement(((self.along, *mine), (*self.of, *kept, *inner), (self.along,)), (self.along, *named))

    def torch(self, site: Site) -> str:
        _, inner, kept = self.dims(site.node, [order for _, order in site.given])
        x = site.whole(0) if len(inner) == 1 else f"{site.tight(0)}.flatten(1)"
        plain = len(self.of) == len(kept) == len(inner) == 1
        w = site.whole(1) if plain else f"{site.tight(1)}.reshape({', '.join(str(_volume(site.sizes, dim)) for dim in (self.of, kept, inner))})"
        code = f"{site.helper('grouped')}({x}, {w}, {site.whole(2)}.counts)"
        if not kept:
            code = f"{code}.squeeze(1)"
        elif len(kept) > 1:
            code = f"{code}.unflatten(1, ({', '.join(str(site.sizes[Axis(axis.role, axis.name)]) for axis in kept)}))"
        return code if self.coef == Monomial.of(1) else f"{scalar(self.coef, site.sizes)} * {bracketed(code, PRODUCT)}"

    def onnx(self, site: OnnxSite) -> Value:
        return onnx_grouped(self, site)


def _volume(sizes: Sizes, dim: Order) -> int:
    return math.prod(sizes[Axis(axis.role, axis.name)] for axis in dim)


@dataclass(frozen=True)
class Combined(Sparse):
    """For every token the sum of what its pairs have. Arguments: that, and the pairs."""

    of: Order
    token: Axis
    along: Axis

    def infer(self, *types: Type) -> Type:
        return Type(axes_of((BATCH, self.token, *(axis for axis in types[0].axes if axis != self.along))))

    def takes_exact(self, node: Node, index: int) -> bool:
        return index == 1

    def cost(self, node: Node, sizes: Sizes) -> float:
        return float(math.prod(sizes[axis] for axis in node.args[0].axes))

    def arrange(self, node: Node, orders: Sequence[Order]) -> Arrangement:
        rest = tuple(axis for axis in orders[0] if axis != self.along)
        return Arrangement(((self.along, *rest), (self.along,)), (BATCH, self.token, *rest))

    def torch(self, site: Site) -> str:
        return f"{site.helper('combined')}({site.whole(0)}, {site.whole(1)})"

    def onnx(self, site: OnnxSite) -> Value:
        return onnx_combined(self, site)

