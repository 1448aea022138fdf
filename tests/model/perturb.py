"""Whether an output of a compiled model moves when a later token does, or when there is no later token: the proof of causality, by experiment."""

from __future__ import annotations

import torch
from torch import Tensor

from mptc.compile import compile
from mptc.model.resolve import resolve
from mptc.runtime.module import as_module
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source

TOKENS, STILL = 7, 1e-12  # legal ones do not move by more than rounding; what leaks does, were it through a saturated softmax
CUTS = (3, 5)


def refused(text: str) -> list[str]:
    """The codes that the proof gives; the spec has no other errors."""
    diagnostics = Diagnostics()
    resolve(Source("spec.mpt", text), {}, None, diagnostics)
    codes = [one.code for one in diagnostics.found if one.severity == "error"]
    assert all(code.startswith("E04") for code in codes), (codes, [one.message for one in diagnostics.found], text)
    return codes


def leak(text: str, tries: int = 1) -> float | None:
    """The largest change of an output before a cut when what is after it changes or is not there; None where the spec is not lowered yet.

    With more tries it goes on until something moves: a comparison turns over for some tokens only.
    """
    diagnostics = Diagnostics()
    made = compile(Source("spec.mpt", text), diagnostics)
    if made is None:
        codes = {one.code for one in diagnostics.found if one.severity == "error"}
        assert codes == {"E0901"}, (codes, text)
        return None
    module = as_module(made.name, made.files[f"{made.name}.py"])
    found = 0.0
    for attempt in range(tries):
        if found <= STILL:
            found = max(found, _moved(module.Model(attempt).double(), torch.Generator().manual_seed(attempt)))
    return found


def _moved(model: torch.nn.Module, generator: torch.Generator) -> float:
    x, z = _drawn(generator), _drawn(generator)
    whole = _run(model, x, z)
    return max(_differ(model, whole, x, z, cut, generator) for cut in CUTS)


def _differ(model: torch.nn.Module, whole: Tensor, x: Tensor, z: Tensor, cut: int, generator: torch.Generator) -> float:
    """All that is after the cut changes; then it is not there."""
    later = torch.arange(TOKENS)[:, None] >= cut
    moved = _run(model, torch.where(later, 2 * _drawn(generator), x), torch.where(later, 2 * _drawn(generator), z))
    short = _run(model, x[:, :cut], z[:, :cut])
    scale = max(1.0, float(whole.abs().max()))
    return max(float((each[:, :cut] - whole[:, :cut]).abs().max()) / scale for each in (moved, short))


def _drawn(generator: torch.Generator) -> Tensor:
    return torch.randn(2, TOKENS, 4, generator=generator, dtype=torch.float64)


def _run(model: torch.nn.Module, x: Tensor, z: Tensor) -> Tensor:
    with torch.no_grad():
        result: Tensor = model(x, z).y
    assert not result.isnan().any()
    return result
