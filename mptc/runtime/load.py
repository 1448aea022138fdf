"""`mptc.load`: a spec as a `torch.nn.Module`, compiled in memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import nn

from mptc.runtime.checkpoint import weights_file
from mptc.runtime.errors import UserError
from mptc.runtime.module import as_module
from mptc.runtime.spec import compile_spec
from mptc.runtime.weights import load_weights

KERNELS = ("auto", "torch", "triton")


def load(
    path: str | Path,
    set: Mapping[str, str | int | float] | None = None,
    variant: str | None = None,
    weights: str | Path | None = None,
    kernels: str = "auto",
    seed: int = 0,
) -> nn.Module:
    """Compile the spec at `path` and return its model, parameters initialised.

    Arguments:
        set: overrides of dims and consts by name, numbers or expressions as strings: `{"d": 64, "hidden": "4 * d"}`.
        variant: one of the spec's named variants; `set` goes over it.
        weights: a safetensors file with exactly the names and shapes of `state_dict()`, or a run directory of `mptc train`, for its newest
            checkpoint; without one, initial values are a function of `seed` and each parameter's path alone.
        kernels: "auto" or "torch"; "triton" is not there yet.

    Call it with ids `[batch, seq]` (int64) and numbers `[batch, seq, *axes]`, in declared order or by name. It returns a NamedTuple of the declared
    outputs; `loss=True` adds `.loss`, `probe=True` adds `.probes`.

    Raises `UserError`: as `SpecError` a mistake in the spec, `set` or `variant` (the message is the rendered diagnostics), as `WeightsError`
    weights that are not this model's, as `RunError` a directory that is no run, or has no checkpoint yet.
    """
    if kernels not in KERNELS:
        raise ValueError(f"kernels is {kernels!r}; it is one of {', '.join(KERNELS)}")
    if kernels == "triton":
        raise UserError('error: kernels="triton" is not there yet; "torch" is')
    compiled = compile_spec(path, set, variant)
    return instantiate(compiled.name, compiled.files[f"{compiled.name}.py"], seed, weights)


def instantiate(name: str, text: str, seed: int = 0, weights: str | Path | None = None) -> nn.Module:
    """The model that a generated module's text defines. Raises `WeightsError` and `RunError`."""
    model = as_module(name, text).Model(seed=seed)
    assert isinstance(model, nn.Module)
    if weights is not None:
        load_weights(model, weights_file(weights))
    return model
