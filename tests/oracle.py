"""The naive meaning of a spec: its raw IR by the definitions of the language, in torch with named axes.

It shares nothing with what it judges: no canonical form, no printer, no `reference` facet. A `grad` is `torch.autograd.grad` of the energy
as it was written, so what the compiler derives by symbols is held against what autograd finds by numbers, twice over in training.

Every value is a tensor whose dimensions are the sorted axes of its node's type. All operations can be differentiated twice.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mptc.ir.axis import BATCH, SEQ, Axis, Role
from mptc.ir.node import Node, axes_of
from mptc.ir.number import Monomial
from mptc.ir.program import Program
from mptc.ops.leaf import Mask
from tests.oracle_chosen import CHOSEN
from tests.oracle_functions import COMPARISONS, FUNCTIONS, onto
from tests.oracle_ids import IDS
from tests.quadrature import Integral

Tensors = Mapping[str, Tensor]


@dataclass
class Meaning:
    """The values of one call. `largest`: the largest number met on the way; beyond 1e75 or so its powers in a gradient may not fit into float64."""

    outputs: tuple[Tensor, ...]
    loss: Tensor | None
    probes: dict[str, Tensor]
    largest: float


def meaning(program: Program, parameters: Tensors, inputs: Tensors, tokens: int | None = None) -> Meaning:
    """What the program computes. `parameters` by path (`layers.3.W`), in declared order of axes; `inputs` `[batch, seq, *axes]`, or
    `[batch, *axes]` per sequence. `tokens`: how many there are, where the first input does not say it."""
    batch = next(iter(inputs.values())).shape[0]
    seq = next(iter(inputs.values())).shape[1] if tokens is None else tokens
    sizes = {**program.sizes, BATCH: batch, SEQ: seq}
    for node in program.inputs:
        sizes |= dict(zip(declared(node), inputs[node.op.label].shape, strict=True))
    sizes |= {axis: sizes[memory] for axis, memory in program.memories.items() if memory in sizes}
    scope = Scope(Given(sizes, parameters, inputs))
    outputs = tuple(full(scope, output.node, output.order) for output in program.outputs)
    loss = None if program.loss is None else scope.value(program.loss)
    probes = {probe.name: full(scope, probe.node, probe.order) for probe in program.probes}
    return Meaning(outputs, loss, probes, scope.given.largest)


def declared(node: Node) -> tuple[Axis, ...]:
    """The axes of an input, in the order of its tensor."""
    return (BATCH, *((SEQ,) if node.op.per_token else ()), *node.op.order)


def full(scope: Scope, node: Node, axes: tuple[Axis, ...]) -> Tensor:
    """A value with exactly these axes in this order, repeated along those that it is constant along."""
    wide = onto(scope.value(node), node.axes, axes_of(axes))
    return wide.expand([scope.given.size(axis) for axis in axes_of(axes)]).permute([axes_of(axes).index(axis) for axis in axes])


@dataclass
class Given:
    sizes: Mapping[Axis, int]
    parameters: Tensors
    inputs: Tensors
    largest: float = 0.0

    def met(self, value: Any) -> None:
        if isinstance(value, Tensor) and value.is_floating_point() and value.numel():
            top = value.detach().abs()
            self.largest = max(self.largest, float(top[top != math.inf].amax()) if bool((top != math.inf).any()) else 0.0)

    def size(self, axis: Axis) -> int:
        if axis.role is Role.CONTEXT:
            return self.sizes.get(axis, self.sizes[SEQ])
        return self.sizes[Axis(axis.role, axis.name)]

    def number(self, coef: Monomial) -> float:
        return coef.evaluate({base: self.size(base) for base, _ in coef.powers if isinstance(base, Axis)})


@dataclass
class Scope:
    """Values by node. A pass of a loop and the inside of a derivative are scopes of their own, below the one around them."""

    given: Given
    outer: Scope | None = None
    copies: Mapping[int, int] = field(default_factory=dict)  # the one at work, by the key of the stack
    known: dict[Node, Any] = field(default_factory=dict)

    def find(self, node: Node) -> Any:
        if node in self.known:
            return self.known[node]
        return None if self.outer is None else self.outer.find(node)

    def value(self, node: Node) -> Any:
        found = self.find(node)
        if found is None:
            found = self.known[node] = MEANINGS[type(node.op).__name__](self, node)
            self.given.met(found)
        return found

    def args(self, node: Node) -> list[Tensor]:
        return [self.value(arg) for arg in node.args]

    def lined_up(self, node: Node, axes: tuple[Axis, ...] | None = None) -> list[Tensor]:
        """The arguments with the axes of the result, to work element by element."""
        return [onto(self.value(arg), arg.axes, axes or node.axes) for arg in node.args]


# -- leaves --------------------------------------------------------------------------------------------


def _param(scope: Scope, node: Node) -> Tensor:
    path = node.op.path
    for stack in node.op.stacks:
        path = path.replace("[*]", f".{scope.copies[stack]}", 1)
    return scope.given.parameters[path].permute([node.op.order.index(axis) for axis in node.axes])


def _input(scope: Scope, node: Node) -> Tensor:
    return scope.given.inputs[node.op.label].permute([declared(node).index(axis) for axis in node.axes])


def _mask(scope: Scope, node: Node) -> Tensor:
    seen = torch.ones([scope.given.size(axis) for axis in node.axes], dtype=torch.bool)
    if node.op.past or node.op.window is not None:
        tokens = torch.arange(scope.given.size(SEQ))
        behind = tokens[:, None] - tokens[None, :]
        allowed = behind >= 0 if node.op.window is None else (behind >= 0) & (behind < node.op.window)
        seen = seen & onto(allowed, (SEQ, node.op.over), node.axes)
    for condition in scope.lined_up(node):
        seen = seen & (condition != 0)
    return seen.double()


# -- products and sums ----------------------------------------------------------------------------------


def _contract(scope: Scope, node: Node) -> Tensor:
    """c · Σ_bound Π operand^power. What a mask hides is put to 0 before it is multiplied: something infinite there must not matter."""
    letters: dict[Axis | int, str] = {}
    masks: list[tuple[str, Tensor]] = []
    factors: list[tuple[str, Tensor]] = []
    for operand, arg in zip(node.op.operands, node.args, strict=True):
        labels = "".join(letters.setdefault(label, string.ascii_letters[len(letters)]) for label in operand.labels)
        value = scope.value(arg) if operand.power == 1 else scope.value(arg) ** float(operand.power)
        (masks if isinstance(arg.op, Mask) else factors).append((labels, value))
    for labels, mask in masks:
        place = next((index for index, (wide, _) in enumerate(factors) if set(labels) <= set(wide)), None)
        if place is None:
            factors.append((labels, mask))
        else:
            wide, value = factors[place]
            factors[place] = (wide, torch.where(among(mask, labels, wide) != 0, value, 0.0))
    coef = scope.given.number(node.op.coef)
    if not factors:
        return torch.tensor(coef, dtype=torch.float64)
    result = "".join(letters[axis] for axis in node.axes)
    return coef * torch.einsum(",".join(labels for labels, _ in factors) + "->" + result, *(value for _, value in factors))


def among(value: Tensor, labels: str, wide: str) -> Tensor:
    """A tensor with the dimensions `labels`, to broadcast with one of dimensions `wide`."""
    own = [label for label in wide if label in labels]
    turned = value.permute([labels.index(label) for label in own])
    return turned.reshape([value.shape[labels.index(label)] if label in labels else 1 for label in wide])


def _sum(scope: Scope, node: Node) -> Tensor:
    terms = zip(node.op.coefs, scope.lined_up(node), strict=True)
    return sum((scope.given.number(coef) * term for coef, term in terms), torch.zeros([], dtype=torch.float64))


# -- reductions -----------------------------------------------------------------------------------------


def _masked(scope: Scope, node: Node) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """The value over all its axes, which of them are seen, and the dimensions reduced."""
    axes = axes_of((*node.axes, *node.op.over))
    value, *masks = scope.lined_up(node, axes)
    seen = torch.ones([], dtype=torch.bool)
    for mask in masks:
        seen = seen & (mask != 0)
    value, seen = torch.broadcast_tensors(value, seen)
    return value, seen, tuple(axes.index(axis) for axis in node.op.over)


def _exponentials(scope: Scope, node: Node) -> tuple[Tensor, Tensor, Tensor]:
    """exp(value - top), their sum, and the top: what is not seen is 0, and no gradient flows through the top."""
    value, seen, places = _masked(scope, node)
    top = torch.where(seen, value, -math.inf).amax(places, keepdim=True).detach()
    top = torch.where(top.isfinite(), top, 0.0)
    above = torch.where(seen, torch.where(seen, value - top, 0.0).exp(), 0.0)
    return above, above.sum(places, keepdim=True), top


def _lse(scope: Scope, node: Node) -> Tensor:
    _, below, top = _exponentials(scope, node)
    _, _, places = _masked(scope, node)
    safe = torch.where(below > 0, below, 1.0).log()
    return torch.where(below > 0, safe + top, -math.inf).squeeze(places)


def _softmax(scope: Scope, node: Node) -> Tensor:
    above, below, _ = _exponentials(scope, node)
    return above / torch.where(below > 0, below, 1.0)


def _max(scope: Scope, node: Node) -> Tensor:
    value, seen, places = _masked(scope, node)
    return torch.where(seen, value, -math.inf).amax(places)


def _rms(scope: Scope, node: Node) -> Tensor:
    (value,) = scope.args(node)
    places = tuple(node.axes.index(axis) for axis in node.op.over)
    return value / ((value**2).mean(places, keepdim=True) + float(node.op.eps)).sqrt()


def _rope(scope: Scope, node: Node) -> Tensor:
    """Pairs (e_m, e_(m + key/2)) turned by position · base^(-2m / key)."""
    (value,) = scope.args(node)
    token = SEQ if SEQ in node.axes else next(axis for axis in node.axes if axis.role is Role.CONTEXT)
    size, length = scope.given.size(node.op.axis), scope.given.size(token)
    place = node.axes.index(node.op.axis)
    rates = torch.tensor([float(node.op.base) ** (-2 * pair / size) for pair in range(size // 2)], dtype=torch.float64)
    angle = onto(torch.arange(length).double()[:, None] * rates, (token, node.op.axis), node.axes)
    first, second = value.chunk(2, dim=place)
    return torch.cat((first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()), dim=place)


# -- element by element ----------------------------------------------------------------------------------


def _map(scope: Scope, node: Node) -> Tensor:
    (value,) = scope.args(node)
    function = FUNCTIONS[node.op.function]
    return Integral.apply(value, function) if node.op.order == -1 else function(value)


def _compare(scope: Scope, node: Node) -> Tensor:
    return COMPARISONS[node.op.sign](*scope.lined_up(node)).double()


def _where(scope: Scope, node: Node) -> Tensor:
    condition, left, right = scope.lined_up(node)
    return torch.where(condition != 0, left, right)


def _extreme(scope: Scope, node: Node) -> Tensor:
    """Of two that are equal, the first."""
    left, right = scope.lined_up(node)
    return torch.where(left >= right if node.op.largest else left <= right, left, right)


# -- regions --------------------------------------------------------------------------------------------


def _derivative(scope: Scope, node: Node) -> Tensor:
    """∂(Σ energy)/∂variable. The variable is a node of its own in autograd's graph, so what the conditions share with it is held fixed."""
    variable, *conditions = scope.args(node)
    wide = node.op.formals[0].axes
    with torch.enable_grad():
        moved = onto(variable, node.args[0].axes, wide).expand([scope.given.size(axis) for axis in wide]).clone()
        if not moved.requires_grad:
            moved.requires_grad_()
        inside = Scope(scope.given, scope, scope.copies)
        inside.known[node.op.formals[0]] = moved
        for formal, arg, value in zip(node.op.formals[1:], node.args[1:], conditions, strict=True):
            inside.known[formal] = onto(value, arg.axes, formal.axes).expand([scope.given.size(axis) for axis in formal.axes])
        energy = full(inside, node.op.energy, axes_of((BATCH, SEQ, *node.op.energy.axes)))
        if not energy.requires_grad:
            return torch.zeros_like(moved)
        (step,) = torch.autograd.grad(energy.sum(), moved, create_graph=True, allow_unused=True)
    return torch.zeros_like(moved) if step is None else step


def _loop(scope: Scope, node: Node) -> list[Tensor]:
    state = scope.args(node)
    state = [onto(value, arg.axes, formal.axes) for value, arg, formal in zip(state, node.args, node.op.formals, strict=True)]
    watched: list[list[Tensor]] = [[] for _ in node.op.watched]
    for index in range(node.op.count):
        copies = scope.copies if node.op.label is None else {**scope.copies, node.op.stacks[-1]: index}
        inside = Scope(scope.given, scope, copies, dict(zip(node.op.formals, state, strict=True)))
        state = [onto(inside.value(result), result.axes, formal.axes) for result, formal in zip(node.op.results, node.op.formals, strict=True)]
        for seen, each in zip(watched, node.op.watched, strict=True):
            seen.append(full(inside, each, each.axes))
    return [*state, *map(torch.stack, watched)]


def _gathered(scope: Scope, node: Node) -> Tensor:
    """The passes, which the loop has in front, in their place among the sorted axes."""
    (loop,) = node.args
    axes = (loop.op.passes, *loop.op.watched[node.op.index].axes)
    return scope.value(loop)[len(loop.op.results) + node.op.index].permute([axes.index(axis) for axis in node.axes])


def _same(scope: Scope, node: Node) -> Tensor:
    return scope.value(node.args[0])


def _view(scope: Scope, node: Node) -> Tensor:
    """`seq` in its place among the sorted axes becomes the context; a value that is the same for every token stays so."""
    (value,) = scope.args(node)
    seen = [node.op.over if axis == SEQ else axis for axis in node.args[0].axes]
    if SEQ not in node.args[0].axes:
        return onto(value, node.args[0].axes, node.axes).expand([scope.given.size(axis) for axis in node.axes])
    return value.permute([seen.index(axis) for axis in node.axes])


MEANINGS: dict[str, Callable[[Scope, Node], Any]] = {
    **CHOSEN,
    **IDS,
    "Param": _param,
    "Input": _input,
    "Position": lambda scope, node: torch.arange(scope.given.size(SEQ)).double(),
    "Index": lambda scope, node: torch.arange(scope.given.size(node.op.axis)).double(),
    "Mask": _mask,
    "Contract": _contract,
    "Sum": _sum,
    "Lse": _lse,
    "Softmax": _softmax,
    "Max": _max,
    "Rms": _rms,
    "Rope": _rope,
    "Map": _map,
    "Compare": _compare,
    "Where": _where,
    "On": _where,
    "Extreme": _extreme,
    "Derivative": _derivative,
    "Loop": _loop,
    "Result": lambda scope, node: scope.value(node.args[0])[node.op.index],
    "Gathered": _gathered,
    "View": _view,
    "Hold": _same,
    "Limit": _same,
    "Stop": lambda scope, node: scope.value(node.args[0]).detach(),
}
