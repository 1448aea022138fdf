"""`mptc.load`: a spec as a `torch.nn.Module`, compiled in memory."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from mptc.runtime.checkpoint import weights_file
from mptc.runtime.errors import UserError
from mptc.runtime.fill import fill
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
    map: Mapping[str, str] | None = None,
) -> nn.Module:
    """Compile the spec at `path` and return its model, parameters initialised.

    Arguments:
        set: overrides of dims and consts by name, numbers or expressions as strings: `{"d": 64, "hidden": "4 * d"}`.
        variant: one of the spec's named variants; `set` goes over it.
        weights: a safetensors file with exactly the names and shapes of `state_dict()`, or a run directory of `mptc train`, for its newest
            checkpoint; without one, initial values are a function of `seed` and each parameter's path alone.
        map: makes `weights` those of another model (`mptc.fill` says of which kinds): whatever both have under one name is copied, and what this
            joins, their name to ours; the rest begins as it would.
        kernels: what computes attention. "auto": on a GPU, a Triton kernel where one was measured to win, and torch elsewhere; "torch": torch;
            "triton": a kernel wherever there is one, on a GPU, or on a CPU under TRITON_INTERPRET=1.

    Call it with ids `[batch, seq]` (int64) and numbers `[batch, seq, *axes]`, in declared order or by name. It returns a NamedTuple of the declared
    outputs; `loss=True` adds `.loss`, `probe=True` adds `.probes`.

    Raises `UserError`: as `SpecError` a mistake in the spec, `set` or `variant` (the message is the rendered diagnostics), as `WeightsError`
    weights that are not this model's, as `RunError` a directory that is no run, or has no checkpoint yet; and kernels="triton" where none can run.
    """
    if kernels not in KERNELS:
        raise ValueError(f"kernels is {kernels!r}; it is one of {', '.join(KERNELS)}")
    if kernels == "triton":
        expect_triton()
    target = "triton" if kernels == "triton" or (kernels == "auto" and torch.cuda.is_available() and has_triton()) else "torch"
    compiled = compile_spec(path, set, variant, (target,), kernels=kernels)
    if map is not None and weights is None:
        raise ValueError("map joins names of weights, and none are given")
    own = weights if map is None else None
    model = instantiate(compiled.name, compiled.files[f"{compiled.name}.py"], seed, own, compiled.files.get("kernels.py"))
    if map is not None and weights is not None:
        fill(model, weights, map)
    return model


def has_triton() -> bool:
    return importlib.util.find_spec("triton") is not None


def expect_triton() -> None:
    """Raises `UserError` where no kernel can run."""
    if not has_triton():
        raise UserError('error: kernels="triton" needs the package triton, which is not installed; kernels="torch" needs nothing')
    if not torch.cuda.is_available() and os.environ.get("TRITON_INTERPRET") != "1":
        raise UserError('error: kernels="triton" needs a GPU, and there is none; TRITON_INTERPRET=1 runs kernels on the CPU, slowly')


def instantiate(name: str, text: str, seed: int = 0, weights: str | Path | None = None, kernels: str | None = None) -> nn.Module:
    """The model that a generated module's text defines, with the text of its kernels. Raises `WeightsError` and `RunError`."""
    model = as_module(name, text, kernels).Model(seed=seed)
    assert isinstance(model, nn.Module)
    if weights is not None:
        load_weights(model, weights_file(weights))
    return model
