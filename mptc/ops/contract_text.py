"""How contracts and sums are written in torch: products, `.sum`, `F.linear`, `@`, and `torch.einsum` for what is left."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, cast

from mptc.ir.axis import BATCH, SEQ, Axis, Role
from mptc.ir.number import Monomial
from mptc.ops.base import Arrangement, Order, lined_up, merged
from mptc.ops.site import PRODUCT, SUM, Site, bracketed, level, tight

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mptc.ir.node import Node
    from mptc.ops.contract import Contract, Sum


def scalar(coef: Monomial, sizes: Mapping[Axis, int]) -> str:
    """An exact coefficient as a Python number."""
    value = coef.evaluate(sizes)
    return repr(int(value)) if value == int(value) and abs(value) < 1e15 else repr(value)


def scaled(code: str, coef: Monomial, sizes: Mapping[Axis, int]) -> str:
    """`coef · code`"""
    if code == "1":
        return scalar(coef, sizes)
    if coef == Monomial(Fraction(1)):
        return code
    if coef == Monomial(Fraction(-1)):
        return "-" + bracketed(code, PRODUCT)
    inverse = coef.power(Fraction(-1))
    if inverse is not None and not coef.powers and inverse.rational.denominator == 1 and abs(inverse.rational) > 1:
        return f"{bracketed(code, PRODUCT)} / {scalar(inverse, sizes)}"
    return f"{scalar(coef, sizes)} * {bracketed(code, PRODUCT)}"


def raised(site: Site, index: int, power: Fraction) -> str:
    """An operand to its exponent, as a factor. Exponents below 0 other than -1/2 are written by the caller as divisions."""
    if power == 1:
        return bracketed(site.whole(index), PRODUCT)
    if site.node.args[index].op.name == "length":
        return f"{site.whole(index)} ** {float(power)}"
    if power == 2:
        return f"{site.tight(index)}.square()"
    if power == Fraction(1, 2):
        return f"{site.tight(index)}.sqrt()"
    if power == Fraction(-1, 2):
        return f"{site.tight(index)}.rsqrt()"
    return f"{site.tight(index)}.pow({int(power) if power.denominator == 1 else float(power)})"


def quotient(site: Site, powers: Sequence[Fraction]) -> str:
    """The operands multiplied, those with exponent -1, -2, … divided by."""
    above = [raised(site, index, power) for index, power in enumerate(powers) if power > 0 or power.denominator != 1]
    below = [raised(site, index, -power) for index, power in enumerate(powers) if power < 0 and power.denominator == 1]
    code = " * ".join(above) if above else "1"
    return " / ".join([code, *(part if level(part) > PRODUCT else f"({part})" for part in below)])


class Form(ABC):
    """A contract as torch sees it. Labels are resolved to axes: `orders` are the operands' memory orders in those, `bound` what is summed."""

    def __init__(self, node: Node, orders: Sequence[Order]) -> None:
        self.node = node
        self.op = cast("Contract", node.op)
        self.to, self.bound = self.op.resolved(node)
        self.orders = [tuple(to[axis] for axis in order) for to, order in zip(self.to, orders, strict=True)]
        self.powers = [operand.power for operand in self.op.operands]

    def own(self, index: int, order: Order) -> Order:
        """An order of this form's axes in the names of operand `index`."""
        back = {mine: axis for axis, mine in self.to[index].items()}
        return tuple(back[axis] for axis in order)

    def free(self, index: int) -> Order:
        return tuple(axis for axis in self.orders[index] if axis not in self.bound)

    @abstractmethod
    def arrangement(self) -> Arrangement:
        """The orders wanted of the operands (in their own names) and the one given."""

    @abstractmethod
    def text(self, site: Site) -> str:
        """The expression without the coefficient."""


class Pointwise(Form):
    """Nothing summed; `.sum` after a product that is."""

    def order(self) -> Order:
        return merged(self.orders)

    def arrangement(self) -> Arrangement:
        order = self.order()
        back = [{mine: axis for axis, mine in to.items()} for to in self.to]
        wanted = tuple(tuple(axis and own[axis] for axis in lined_up(mine, order)) for own, mine in zip(back, self.orders, strict=True))
        return Arrangement(wanted, tuple(axis for axis in order if axis not in self.bound))

    def text(self, site: Site) -> str:
        code = quotient(site, self.powers) if self.powers else "1"
        if not self.bound:
            return code
        order = self.order()
        places = [order.index(axis) - len(order) for axis in order if axis in self.bound]
        dims = str(places[0]) if len(places) == 1 else str(tuple(places))
        return f"{tight(code)}.{'mean' if self.is_mean() else 'sum'}({dims})"

    def is_mean(self) -> bool:
        """Whether the coefficient is one over the size of what is summed."""
        share = self.op.coef
        for axis in self.bound:
            share = share * Monomial.size(axis)
        return bool(self.bound) and share == Monomial(Fraction(1))


class Linear(Form):
    """activation × parameter: `F.linear`, the parameter flattened to a matrix."""

    def __init__(self, node: Node, orders: Sequence[Order], activation: int) -> None:
        super().__init__(node, orders)
        self.activation, self.parameter = activation, 1 - activation
        weight = self.orders[self.parameter]
        self.inner = tuple(axis for axis in weight if axis in self.bound)
        self.outer = tuple(axis for axis in weight if axis not in self.bound)
        self.flipped = weight == self.inner + self.outer and bool(self.outer)

    def arrangement(self) -> Arrangement:
        wanted: list[Order] = [(), ()]
        rows = self.free(self.activation)
        if BATCH in rows and SEQ in rows:
            rows = (BATCH, SEQ, *(axis for axis in rows if axis not in (BATCH, SEQ)))
        wanted[self.activation] = self.own(self.activation, rows + self.inner)
        weight = self.inner + self.outer if self.flipped else self.outer + self.inner
        wanted[self.parameter] = self.own(self.parameter, weight)
        return Arrangement(tuple(wanted), rows + self.outer)

    def text(self, site: Site) -> str:
        many_in, many_out = len(self.inner), len(self.outer)
        rows = site.whole(self.activation) if many_in == 1 else f"{site.tight(self.activation)}.flatten(-{many_in})"
        weight = site.tight(self.parameter)
        if not self.outer:
            return f"{bracketed(rows, PRODUCT)} @ {weight if many_in == 1 else weight + '.flatten()'}"
        code = f"F.linear({rows}, {self._matrix(weight, many_in, many_out)})"
        if many_out == 1:
            return code
        sizes = ", ".join(str(site.sizes[axis]) for axis in self.outer)
        return f"{code}.unflatten(-1, ({sizes}))"

    def _matrix(self, weight: str, many_in: int, many_out: int) -> str:
        if self.flipped:
            weight += f".flatten(0, {many_in - 1})" if many_in > 1 else ""
            return (weight + (".flatten(1)" if many_out > 1 else "")) + ".T"
        weight += f".flatten(0, {many_out - 1})" if many_out > 1 else ""
        return weight + (".flatten(1)" if many_in > 1 else "")


class Matmul(Form):
    """[…, m, k] @ […, k, n] over the axes that both keep."""

    def __init__(self, node: Node, orders: Sequence[Order]) -> None:
        super().__init__(node, orders)
        both = [axis for axis in self.free(0) if axis in self.free(1)]
        self.shared = tuple(sorted(both, key=lambda axis: axis != BATCH))
        rows, columns = ([axis for axis in self.free(side) if axis not in both] for side in (0, 1))
        self.left, self.right = (0, 1) if min(rows, default=BATCH) <= min(columns, default=BATCH) else (1, 0)  # tokens in rows
        self.rows, self.columns = (tuple(rows), tuple(columns)) if self.left == 0 else (tuple(columns), tuple(rows))

    @property
    def fits(self) -> bool:
        return len(self.rows) == len(self.columns) == len(self.bound) == 1

    def arrangement(self) -> Arrangement:
        sides = {self.left: self.shared + self.rows + self.bound, self.right: self.shared + self.bound + self.columns}
        return Arrangement((self.own(0, sides[0]), self.own(1, sides[1])), self.shared + self.rows + self.columns)

    def text(self, site: Site) -> str:
        return f"{bracketed(site.whole(self.left), PRODUCT)} @ {site.tight(self.right)}"


class Einsum(Form):
    """Whatever is left. Letters are the axes' first ones, where they differ."""

    def arrangement(self) -> Arrangement:
        order: list[Axis] = []
        for index in range(len(self.orders)):
            order.extend(axis for axis in self.free(index) if axis not in order)
        if BATCH in order:
            order.sort(key=lambda axis: axis != BATCH)
        wanted = tuple(self.own(index, own) for index, own in enumerate(self.orders))
        return Arrangement(wanted, tuple(order))

    def text(self, site: Site) -> str:
        letters: dict[Axis, str] = {}
        for order in self.orders:
            for axis in order:
                spare = [letter for letter in axis.name.lower() + "abcdefghijklmnopqrstuvwxyz" if letter.isascii() and letter.isalpha()]
                letters.setdefault(axis, next(letter for letter in spare if letter not in letters.values()))
        terms = ",".join("".join(letters[axis] for axis in order) for order in self.orders)
        out = "".join(letters[axis] for axis in self.arrangement().order)
        return f'torch.einsum("{terms}->{out}", {", ".join(site.whole(index) for index in range(len(self.orders)))})'


def is_constant(node: Node) -> bool:
    """Whether a value is the same for every token of every sequence: a parameter, or made of parameters."""
    return all(axis.role is Role.DIM for axis in node.axes)


def form_of(node: Node, orders: Sequence[Order]) -> Form:
    """The way to write a contract. Only products without exponents, of two operands, are matrix products."""
    plain = Pointwise(node, orders)
    if len(node.args) != 2 or not plain.bound or any(power != 1 for power in plain.powers):
        return plain
    left, right = set(plain.free(0)), set(plain.free(1))
    if any(set(plain.bound) - set(own) for own in plain.orders):
        return Einsum(node, orders)
    constant = [is_constant(arg) for arg in node.args]
    if constant.count(True) == 1 and not left & right:
        return Linear(node, orders, activation=constant.index(False))
    matmul = Matmul(node, orders)
    if matmul.fits:
        return matmul
    return plain if left <= right or right <= left else Einsum(node, orders)


# -- the facets --------------------------------------------------------------------------------------


def torch_contract(self: Contract, site: Site) -> str:
    form = form_of(site.node, site.orders)
    if not site.node.args:
        return scalar(self.coef, site.sizes)
    code = form.text(site)
    if isinstance(form, Pointwise) and form.is_mean():
        return code
    if code == "1" or code.startswith("1 /"):
        return scalar(self.coef, site.sizes) + code[1:]
    return scaled(code, self.coef, site.sizes)


def torch_sum(self: Sum, site: Site) -> str:
    """Terms with signs; a term with coefficient above 0 comes first where there is one."""
    terms = [(coef, scaled(site.whole(index), _size(coef), site.sizes)) for index, coef in enumerate(self.coefs)]
    terms.sort(key=lambda term: term[0].rational < 0)
    code = ""
    for coef, term in terms:
        if coef.rational < 0:
            code += f" - {bracketed(term, PRODUCT)}" if code else f"-{bracketed(term, PRODUCT)}"
        else:
            code += f" + {bracketed(term, SUM)}" if code else term
    return code


def _size(coef: Monomial) -> Monomial:
    return -coef if coef.rational < 0 else coef
