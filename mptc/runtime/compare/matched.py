"""How large a model is, and one of its dims changed until it is as large as another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from mptc.compile import derived_from
from mptc.cost import cost
from mptc.cost.parameters import counted
from mptc.runtime.errors import SpecError, UserError
from mptc.runtime.settings import Value, settings
from mptc.runtime.spec import through, typed_spec

NEAR = 0.01  # of the parameters wanted
WIDEST = 1 << 16


@dataclass(frozen=True)
class Size:
    """A model with its sizes. `tokens`, `flops`: of one training step; `peak`: bytes of its activations and gradients; `scaled`: what was changed."""

    spec: str
    variant: str | None
    set: Mapping[str, str]
    name: str
    parameters: int
    tokens: int
    flops: int
    peak: int
    scaled: str = ""


def size_of(spec: str, variant: str | None, set: Mapping[str, str], numbers: Mapping[str, Value]) -> Size:
    """Raises `SpecError`."""
    chosen = settings(numbers)
    derived = through(lambda source, diagnostics: derived_from(source, diagnostics, set, variant), spec)
    lengths = {"batch": chosen.batch, "seq": chosen.length}
    found = cost(derived.program, "", lengths)
    open_ = [name for name in found.symbols if name not in lengths]
    if open_:
        raise UserError(f"error: {spec} has memories ({', '.join(open_)}), whose lengths no text tells; compare it by `mptc train`")
    flops = (found.total.forward.value or 0) + (found.total.backward.value or 0)
    peak = max(each.value or 0 for each in found.peak)
    name = derived.program.name + (f"-{variant}" if variant else "")
    return Size(spec, variant, set, name, found.total.stored, chosen.batch * chosen.length, flops, peak)


def matched(size: Size, wanted: int, dim: str, numbers: Mapping[str, Value]) -> Size:
    """The model with as many parameters, within a hundredth, by another size of one dim. Raises `UserError` where there is none."""
    if abs(size.parameters - wanted) <= NEAR * wanted:
        return size
    sizes = {axis.name: value for axis, value in typed_spec(size.spec, dict(size.set), size.variant).sizes.items()}
    if dim not in sizes:
        raise UserError(f"error: {size.spec} has no dim {dim} to scale; --scale names one of {', '.join(sorted(sizes))}")
    low, high = 1, max(2 * sizes[dim], 8)
    while _parameters(size, dim, high) < wanted and high < WIDEST:
        low, high = high, 2 * high
    while low < high:
        middle = (low + high) // 2
        if _parameters(size, dim, middle) < wanted:
            low = middle + 1
        else:
            high = middle
    best = min((value for value in (low - 1, low) if value > 0), key=lambda value: abs(_parameters(size, dim, value) - wanted))
    if abs(_parameters(size, dim, best) - wanted) > NEAR * wanted:
        found = _parameters(size, dim, best)
        near = f"{size.spec} has {found:,} parameters with {dim} = {best}, and no other {dim} is nearer to {wanted:,}"
        raise UserError(f"error: {near}; --scale another dim")
    return replace(size_of(size.spec, size.variant, {**size.set, dim: str(best)}, numbers), scaled=f"{dim} = {best}")


def _parameters(size: Size, dim: str, value: int) -> int:
    try:
        made = {**size.set, dim: str(value)}
        derived = through(lambda source, diagnostics: derived_from(source, diagnostics, made, size.variant), size.spec)
    except SpecError as error:
        raise UserError(f"error: {size.spec} does not go with {dim} = {value}, as it is scaled; --scale another dim\n{error}") from error
    return sum(counted(derived.program)[0].values())
