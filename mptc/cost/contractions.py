"""Matrix products, as `F.linear`, `@` and `torch.einsum` run them: 2·m·n·k operations each, and as many for each operand's gradient."""

from __future__ import annotations

from collections.abc import Sequence

from mptc.cost.operators import Operators
from mptc.cost.polynomial import ZERO, Polynomial
from mptc.cost.tape import Flow, Tensor
from mptc.ir.axis import Axis
from mptc.ir.node import Node
from mptc.ir.number import ONE
from mptc.ops.contract import Contract
from mptc.ops.contract_text import Form, Linear, Matmul, Pointwise, supports

Values = Sequence[Tensor | None]


def contract(run: Operators, node: Node, values: Values) -> Tensor | None:
    """The value of a contraction; None where it is a number of Python's."""
    op = node.op
    assert isinstance(op, Contract)
    if not node.args:
        return None
    form = run.form(node)
    named = [None if value is None else run.named(form, place, value) for place, value in enumerate(values)]
    if isinstance(form, Pointwise):
        found = pointwise(run, form, node, named)
        plain = form.is_mean()
    else:
        left, right = named
        assert left is not None
        assert right is not None
        found, plain = matrices(run, form, node, left, right), False
    return found if plain or op.coef == ONE else run.scaled(found)


def pointwise(run: Operators, form: Pointwise, node: Node, values: Values) -> Tensor | None:
    """A product element by element, and what of it is summed."""
    masks = supports(node)
    powers = [power * (place not in masks) for place, power in enumerate(form.powers)]
    found = run.quotient(values, powers)
    if masks:
        seen = values[masks[0]]
        for place in masks[1:]:
            seen = run.pointwise([seen, values[place]], width=1)
        found = run.pointwise([seen, found], keeps=[0], through=[1])
    if found is not None and form.bound:
        found = run.reduced(found, form.bound, form.is_mean())
    return found


def matrices(run: Operators, form: Form, node: Node, left: Tensor, right: Tensor) -> Tensor:
    """One product of two operands. What lies otherwise than it is wanted is copied, and the copy kept."""
    if isinstance(form, Linear):
        return _linear(run, form, node, left, right)
    bound = [axis for axis in form.bound if axis in left.order and axis in right.order]
    sides = [_alone(run, form, tensor, bound) for tensor in (left, right)]
    if isinstance(form, Matmul):
        sides = [sides[form.left], sides[form.right]]
    both = [axis for axis in sides[0].order if axis in sides[1].order and axis not in bound]
    shared = list(form.shared) if isinstance(form, Matmul) else both
    rows, columns = ([axis for axis in side.order if axis not in {*shared, *bound}] for side in sides)
    first, second = run.merged(sides[0], shared, rows, bound), run.merged(sides[1], shared, bound, columns)
    flops = run.sizes.of([*shared, *rows, *columns, *bound]).times(2)
    order = (*shared, *rows, *columns)
    return _product(run, (first, second), order, flops, ZERO)


def _alone(run: Operators, form: Form, tensor: Tensor, bound: Sequence[Axis]) -> Tensor:
    """An operand, what only it has of the axes summed gone."""
    own = [axis for axis in form.bound if axis in tensor.order and axis not in bound]
    return run.reduced(tensor, own) if own else tensor


def _linear(run: Operators, form: Linear, node: Node, left: Tensor, right: Tensor) -> Tensor:
    """`F.linear`: rows times a matrix. Times a vector it is no matrix product, but where rows that lie apart make torch batch it."""
    tensors = (left, right)
    activation, parameter = tensors[form.activation], tensors[form.parameter]
    rows = [axis for axis in form.arrangement().order if axis not in form.outer]
    flat = run.merged(activation, rows, form.inner)
    weight = run.merged(parameter, form.inner, form.outer)
    order = (*rows, *form.outer)
    batched = len(rows) > 1 and not parameter.trained and not run.follow(rows, activation)
    if not form.outer and not batched:
        return _product(run, (flat, weight), order, ZERO, run.elements(node))
    return _product(run, (flat, weight), order, run.sizes.of([*rows, *form.inner, *form.outer]).times(2), ZERO)


def _product(run: Operators, sides: tuple[Tensor, Tensor], order: Sequence[Axis], flops: Polynomial, elements: Polynomial) -> Tensor:
    keeps = [sides[1 - place] for place in (0, 1) if sides[place].trained]
    flows = [Flow(side, whole=False, flops=flops) for side in sides]
    order = tuple(order)
    return run.keep(run.tape.operator(order, run.bytes(order), sides, flows, keeps, flops=flops, elements=elements))



