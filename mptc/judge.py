"""Is what was derived right? Held against the program as it was written, on numpy in float64: steps against differences of their energies, and what a
module gives against what it means."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from mptc.build import build
from mptc.derive import Derived, derive
from mptc.interpret import interpret
from mptc.ir.axis import BATCH, SEQ, Axis, Role
from mptc.ir.node import Kind, Node, walk
from mptc.ir.program import Energy, Program
from mptc.ir.region import everywhere
from mptc.model.resolve import resolve
from mptc.ops.arrays import Array, spread
from mptc.ops.leaf import Formal, Input, Param
from mptc.ops.view import Stop
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source

LENGTHS = ((2, 5), (1, 3))  # of batch and sequence
WIDTH = 1e-3  # of the differences; with a second one half as wide their error is of order four


@dataclass(frozen=True)
class Judged:
    """One energy: its label, and how far its step is from the differences, relative to its size; None where a `stop` in it hides its slope."""

    label: str
    error: float | None


@dataclass(frozen=True)
class Verdict:
    """What is known of a spec without running what is generated for it: the steps of its energies, and what it means."""

    energies: list[Judged]
    stops: bool  # whether a `stop` hides slopes of the loss, or of the outputs
    meaning: Callable[[Mapping[str, Array]], dict[str, Array]]


def judge(source: Source, diagnostics: Diagnostics, settings: Mapping[str, str], variant: str | None) -> Verdict | None:
    """None where `diagnostics` has errors."""
    model = resolve(source, settings, variant, diagnostics)
    raw = None if model is None else build(model, diagnostics)
    return None if raw is None else Verdict(judge_energies(raw, derive(raw)), _stops(raw), lambda values: meaning(raw, values))


def _stops(raw: Program) -> bool:
    return any(isinstance(node.op, Stop) for node in everywhere(raw.roots))


def judge_energies(raw: Program, derived: Derived, seed: int = 0) -> list[Judged]:
    """Every energy of a program, at random arguments and parameters, along random directions."""
    return [Judged(energy.label, _largest(energy, derived, raw, seed)) for energy in raw.energies]


def _largest(energy: Energy, derived: Derived, raw: Program, seed: int) -> float | None:
    if any(isinstance(node.op, Stop) for node in walk([energy.value])):
        return None
    return max(_error(energy, derived, raw, seed, *lengths) for lengths in LENGTHS)


def _error(energy: Energy, derived: Derived, raw: Program, seed: int, batch: int, seq: int) -> float:
    c = derived.calculus
    variable, *_ = energy.formals
    step = c.gradient_at(c.canonical(energy.value), c.canonical(variable))
    sizes = {**raw.sizes, **c.sizes, BATCH: batch, SEQ: seq}
    draw = np.random.default_rng([seed, batch, seq])
    arrays: dict[str, Array] = {}
    values: dict[Node | str, Array] = {}
    for node in sorted(_given([energy.value, step]), key=lambda node: repr(node.op)):
        values[node] = arrays.setdefault(repr(node.op), _drawn(node, sizes, draw))
    at = values.get(variable)
    if at is None:
        return 0.0  # the energy does not depend on it
    along = draw.standard_normal(at.shape)
    (found,) = interpret([step], values, sizes)
    shape = [_size(axis, sizes) for axis in variable.axes]
    places = [variable.axes.index(axis) for axis in step.axes]
    found = np.broadcast_to(np.reshape(found, [shape[place] if place in places else 1 for place in range(len(shape))]), shape)

    def rises(width: float) -> Array:
        """How fast the energy of each token rises. One of no token at all may be infinite: it is left out."""
        above, below = (interpret([energy.value], {**values, variable: at + moved * along}, sizes)[0] for moved in (width, -width))
        finite = np.isfinite(above) & np.isfinite(below)
        return np.where(finite, np.where(finite, above, 0) - np.where(finite, below, 0), np.nan) / (2 * width)

    slopes = (4 * rises(WIDTH / 2) - rises(WIDTH)) / 3
    counted = spread(np.isfinite(slopes), energy.value.axes, variable.axes)
    missing = np.prod([sizes[axis] for axis in (BATCH, SEQ) if axis not in energy.value.axes])
    slope, product = float(np.nansum(slopes) * missing), float((found * along * counted).sum())
    return abs(slope - product) / max(abs(slope), float(np.sqrt((found**2).sum())), 1e-12)


def meaning(raw: Program, values: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs, and the loss where one is declared, as `[batch, seq, *axes]` in declared order; `values` are parameters and inputs by name."""
    sizes = _lengths(raw, values)
    roots = {output.name: output.node for output in raw.outputs} | ({} if raw.loss is None else {"loss": raw.loss})
    orders = {output.name: output.order for output in raw.outputs}
    given: dict[Node | str, Array] = dict(values.items())
    with np.errstate(invalid="ignore"):  # the mean loss of no token at all
        found = interpret(list(roots.values()), given, sizes, raw.ties)
    return {name: _laid(array, node.axes, orders.get(name, ()), sizes) for (name, node), array in zip(roots.items(), found, strict=True)}


def _lengths(raw: Program, values: Mapping[str, Array]) -> dict[Axis, int]:
    """The sizes of all axes: what only the run tells, by the inputs."""
    sizes = dict(raw.sizes)
    for node in raw.inputs:
        assert isinstance(node.op, Input)
        axes = (BATCH, *((SEQ,) if SEQ in node.axes else ()), *node.op.order)
        sizes.update({axis: size for axis, size in zip(axes, values[node.op.label].shape, strict=True) if axis.role is not Role.DIM})
    return sizes | {context: sizes[memory] for context, memory in raw.memories.items() if memory in sizes}


def _laid(array: Array, axes: tuple[Axis, ...], order: tuple[Axis, ...], sizes: Mapping[Axis, int]) -> Array:
    """An array over sorted axes in another order, repeated along what it lacks."""
    own = [axis for axis in order if axis in axes]
    turned = np.transpose(array, [axes.index(axis) for axis in own])
    shape = [sizes[axis] for axis in order]
    return np.broadcast_to(turned.reshape([size if axis in own else 1 for axis, size in zip(order, shape, strict=True)]), shape)


def _given(roots: Iterable[Node]) -> list[Node]:
    return [node for node in walk(list(roots)) if isinstance(node.op, Param | Formal | Input)]


def _drawn(node: Node, sizes: dict[Axis, int], draw: np.random.Generator) -> Array:
    shape = [_size(axis, sizes) for axis in node.axes]
    if node.type.kind is Kind.ID:
        return draw.integers(0, 2, shape)
    return draw.standard_normal(shape) / np.sqrt(max(shape[-1:] or [1])) if isinstance(node.op, Param) else draw.standard_normal(shape)


def _size(axis: Axis, sizes: dict[Axis, int]) -> int:
    plain = Axis(axis.role, axis.name)
    return sizes[plain] if plain in sizes else sizes[SEQ] if axis.role is Role.CONTEXT else 3
