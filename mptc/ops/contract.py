"""The contract node and the sum: the only product, scale, broadcast, view, rename, power and linear combination.

    contract = c · Σ_bound Π_k operand_k[labels]^e_k            sum = Σ_k c_k · term_k

with exact coefficients. A label is an axis of the result, or an integer that is summed over.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from mptc.ir.axis import Axis, Role
from mptc.ir.node import Kind, Node, Type, axes_of, make
from mptc.ir.number import ONE, Monomial
from mptc.ops import contract_listed, contract_text, onnx_norm, onnx_text, triton_text
from mptc.ops.arrays import Array, Sizes, spread
from mptc.ops.base import Arrangement, Operation, Order, is_truth
from mptc.ops.sample import D, E, K, Sample, of
from mptc.ops.site import OnnxSite, Value

Label = Axis | int


@dataclass(frozen=True, slots=True)
class Operand:
    """How one argument takes part: the label of each of its axes, and its exponent."""

    labels: tuple[Label, ...]
    power: Fraction = Fraction(1)


@dataclass(frozen=True)
class Contract(Operation):
    """c · Σ_bound Π_k operand_k[labels]^e_k, with an exact c"""

    coef: Monomial
    operands: tuple[Operand, ...]

    def infer(self, *types: Type) -> Type:
        for operand, type_ in zip(self.operands, types, strict=True):
            assert len(operand.labels) == len(type_.axes) == len(set(operand.labels)), (self, types)
        axes = axes_of(label for operand in self.operands for label in operand.labels if isinstance(label, Axis))
        return Type(axes, types[0].kind if self.renames else Kind.NUMBER)

    @property
    def renames(self) -> bool:
        """Whether it is nothing but a view or a rename."""
        return len(self.operands) == 1 and self.coef == ONE and self.operands[0].power == 1 and not self.bound

    def label_axes(self, types: Iterable[Type]) -> dict[Label, Axis]:
        """An axis of the size of each label: itself, or an operand's axis that carries it."""
        found: dict[Label, Axis] = {}
        for operand, type_ in zip(self.operands, types, strict=True):
            for label, axis in zip(operand.labels, type_.axes, strict=True):
                found.setdefault(label, label if isinstance(label, Axis) else axis)
        return found

    def resolved(self, node: Node) -> tuple[list[dict[Axis, Axis]], Order]:
        """Labels as axes (ticked where a name is taken): what each operand's axes are called in the product, and which of those are summed."""
        stand_in: dict[Label, Axis] = {}
        taken = set(node.axes)
        for label, axis in self.label_axes(arg.type for arg in node.args).items():
            while isinstance(label, int) and axis in taken:
                axis = Axis(axis.role, axis.name, axis.tick + 1)
            taken.add(axis)
            stand_in[label] = axis
        own = [zip(arg.axes, operand.labels, strict=True) for arg, operand in zip(node.args, self.operands, strict=True)]
        return [{axis: stand_in[label] for axis, label in each} for each in own], tuple(stand_in[label] for label in self.bound)

    @property
    def bound(self) -> tuple[int, ...]:
        return tuple(sorted({label for operand in self.operands for label in operand.labels if isinstance(label, int)}))

    def cost(self, node: Node, sizes: Sizes) -> float:
        points = 1.0
        for axis in self.label_axes(arg.type for arg in node.args).values():
            points *= sizes[axis]
        return points * max(1, len(node.args) - 1 + bool(self.bound))

    def gradient(self, node: Node, adjoint: Node, index: int) -> Node | None:
        """c · p · adjoint · Π others · operand^(p-1), summed over what the operand does not have."""
        mine, argument = self.operands[index], node.args[index]
        back: dict[Label, Label] = dict(zip(mine.labels, argument.axes, strict=True))
        for place, label in enumerate(self.label_axes(arg.type for arg in node.args)):
            back.setdefault(label, place)
        parts = [(adjoint, tuple(back[axis] for axis in adjoint.axes), Fraction(1))]
        for place, (operand, arg) in enumerate(zip(self.operands, node.args, strict=True)):
            exponent = operand.power - 1 if place == index else operand.power
            if exponent or place != index:
                parts.append((arg, tuple(back[label] for label in operand.labels), exponent))
        present = {label for _, labels, _ in parts for label in labels}
        coef = self.coef * Monomial(mine.power)
        for axis in node.axes:  # the result was constant along it, and so is the adjoint
            if axis not in mine.labels and back[axis] not in present:
                coef = coef * Monomial.size(axis)
        return contract(coef, parts)

    def reference(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> Array:
        letters = dict(zip(self.label_axes(arg.type for arg in node.args), string.ascii_letters, strict=False))
        terms = ["".join(letters[label] for label in operand.labels) for operand in self.operands]
        out = "".join(letters[axis] for axis in node.axes)
        powered = [array if operand.power == 1 else array ** float(operand.power) for operand, array in zip(self.operands, arrays, strict=True)]
        scale = self.coef.evaluate(sizes)
        return scale * np.einsum(",".join(terms) + "->" + out, *powered) if arrays else np.asarray(scale)

    def fault(self, node: Node, sizes: Sizes) -> str | None:
        """A label is one axis, so what it stands for is of one size; there is nothing to multiply ids for."""
        known: dict[Label, object] = {}
        for operand, arg in zip(self.operands, node.args, strict=True):
            if arg.type.kind is not Kind.NUMBER and not self.renames:
                return "ids are multiplied"
            for label, axis in zip(operand.labels, arg.axes, strict=True):
                size = sizes.get(Axis(axis.role, axis.name), "tokens" if axis.role in (Role.TOKEN, Role.CONTEXT) else axis.role)
                if known.setdefault(label, size) != size:
                    return f"label {label} stands for sizes {known[label]} and {size}"
        return None

    def listed(self, node: Node, names: Sequence[str]) -> str:
        return contract_listed.listed_contract(self, node, names)

    def is_exact(self, node: Node) -> bool:
        """A view or rename of an exact value is exact."""
        return self.renames and isinstance(node.args[0].op, Operation) and node.args[0].op.is_exact(node.args[0])

    def takes_exact(self, node: Node, index: int) -> bool:
        return self.renames or index in contract_text.supports(node)

    def takes_scalar(self, node: Node, index: int, sizes: Sizes) -> bool:
        """Python's numbers have no roots that are no numbers, and no quotient by 0; a length is above it."""
        return self.operands[index].power == 1 or node.args[index].op.name == "length"

    torch = contract_text.torch_contract

    def arrange(self, node: Node, orders: Sequence[Order]) -> Arrangement:
        return contract_text.form_of(node, orders).arrangement()

    triton = triton_text.triton_contract
    onnx = onnx_text.onnx_contract

    @staticmethod
    def samples() -> tuple[Sample, ...]:
        one = Fraction(1)
        return (
            Sample(Contract(Monomial.of(3), ()), ()),
            Sample(Contract(Monomial.of(Fraction(-1, 2)), (Operand((D, E), one), Operand((E,), one))), (of(D, E), of(E))),
            Sample(Contract(Monomial.size(D), (Operand((D, 0), one), Operand((0, K), one))), (of(D, E), of(E, K))),
            Sample(Contract(ONE, (Operand((D,), Fraction(-1, 2)), Operand((D,), Fraction(3)))), (of(D), of(D)), low=0.5),
            Sample(Contract(ONE, (Operand((0, Axis(E.role, E.name, 1)), one),)), (of(D, E),)),
        )


@dataclass(frozen=True)
class Sum(Operation):
    """Σ_k c_k · term_k, with exact c_k"""

    coefs: tuple[Monomial, ...]

    def infer(self, *types: Type) -> Type:
        assert len(types) == len(self.coefs)
        return Type(axes_of(axis for type_ in types for axis in type_.axes))

    def cost(self, node: Node, sizes: Sizes) -> float:
        return len(node.args) * float(np.prod([sizes[axis] for axis in node.axes]))

    def gradient(self, node: Node, adjoint: Node, index: int) -> Node | None:
        kept = node.args[index].axes
        return summed([adjoint], [axis for axis in node.axes if axis not in kept], self.coefs[index])

    def reference(self, node: Node, arrays: tuple[Array, ...], sizes: Sizes) -> Array:
        total: Array = np.zeros([sizes[axis] for axis in node.axes])
        for coef, array, arg in zip(self.coefs, arrays, node.args, strict=True):
            total = total + coef.evaluate(sizes) * spread(array, arg.axes, node.axes)
        return total

    def fault(self, node: Node, sizes: Sizes) -> str | None:
        return "ids are added" if any(arg.type.kind is not Kind.NUMBER for arg in node.args) else None

    def listed(self, node: Node, names: Sequence[str]) -> str:
        return contract_listed.listed_sum(self, names)

    def is_exact(self, node: Node) -> bool:
        """A sum of integers, whole numbers of them."""
        whole = all(not coef.powers and coef.rational.denominator == 1 for coef in self.coefs)
        return whole and all(_is_integer(arg) for arg in node.args)

    def takes_exact(self, node: Node, index: int) -> bool:
        return self.is_exact(node)

    def takes_scalar(self, node: Node, index: int, sizes: Sizes) -> bool:
        return True

    torch = contract_text.torch_sum
    triton = triton_text.triton_sum

    def onnx(self, site: OnnxSite) -> Value:
        return onnx_norm.biased(self, site) or onnx_text.onnx_sum(self, site)

    @staticmethod
    def samples() -> tuple[Sample, ...]:
        return (
            Sample(Sum((ONE, Monomial.of(-2))), (of(D, E), of(E))),
            Sample(Sum((Monomial.of(Fraction(1, 3)), ONE, ONE)), (of(D), of(E), of(D))),
        )


def is_scalar(node: Node) -> bool:
    """Whether a value is a number of Python's where it is printed: a number, a length, a product or a sum of them."""
    op = node.op
    if node.axes or not isinstance(op, Contract | Sum):
        return op.name == "length"
    return all(op.takes_scalar(node, index, {}) and is_scalar(arg) for index, arg in enumerate(node.args))


def _is_integer(node: Node) -> bool:
    if isinstance(node.op, Contract) and not node.args:
        return not node.op.coef.powers and node.op.coef.rational.denominator == 1
    return isinstance(node.op, Operation) and node.op.is_exact(node) and not is_truth(node)


# -- raw builders: what was written, unsimplified ----------------------------------------------------


def contract(coef: Monomial, parts: Iterable[tuple[Node, tuple[Label, ...], Fraction]]) -> Node:
    parts = list(parts)
    return make(Contract(coef, tuple(Operand(labels, power) for _, labels, power in parts)), *(node for node, _, _ in parts))


def number(value: Monomial | int | Fraction) -> Node:
    return contract(Monomial.of(value), ())


def product(*nodes: Node, coef: Monomial = ONE) -> Node:
    """Element by element, broadcast by axis name."""
    return contract(coef, [(node, node.axes, Fraction(1)) for node in nodes])


def power(node: Node, exponent: Fraction, coef: Monomial = ONE) -> Node:
    return contract(coef, [(node, node.axes, exponent)])


def total(*terms: tuple[Monomial | int, Node]) -> Node:
    return make(Sum(tuple(Monomial.of(coef) for coef, _ in terms)), *(node for _, node in terms))


def summed(nodes: Iterable[Node], over: Iterable[Axis], coef: Monomial = ONE) -> Node:
    """The product of the nodes, summed over axes; an axis that none of them has multiplies by its size."""
    nodes = list(nodes)
    present = {axis for node in nodes for axis in node.axes}
    numbers: dict[Axis, int] = {}
    for axis in over:
        if axis in present:
            numbers[axis] = len(numbers)
        else:
            coef = coef * Monomial.size(axis)
    return contract(coef, [(node, tuple(numbers.get(axis, axis) for axis in node.axes), Fraction(1)) for node in nodes])


def renamed(node: Node, arrows: Mapping[Axis, Axis]) -> Node:
    return contract(ONE, [(node, tuple(arrows.get(axis, axis) for axis in node.axes), Fraction(1))])
