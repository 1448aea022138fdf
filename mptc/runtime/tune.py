"""`mptc tune`: times the tiles of attention kernels on the GPU that is there, and writes the lock file of its architecture.

A launch never times anything. Ratios are against the faster of torch's own attention backends, forward and backward together, causal, in one run.
It has been run by Triton's interpreter alone (`tests/kernels/test_tune.py`), never on a GPU.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
import triton
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from mptc.runtime.errors import UserError
from mptc.runtime.files import write_all
from mptc.runtime.module import as_module
from mptc.runtime.spec import compile_spec

SPECS = {
    "tied": """dim d = 2 * {width}
dim head = 2
dim key = {width}
use "lib/cem.mpt"
model tied {{
  input x: [d]
  output y = grad interaction(x | past(x))
}}
""",
    "untied": """dim d = 4 * {width}
dim kv = 2
dim group = 2
dim key = {width}
use "lib/std.mpt"
model untied {{
  input x: [d]
  output y = attention(x)
}}
""",
}
CANDIDATES = {
    "forward": [(rows, cols, warps, stages) for rows in (64, 128) for cols in (32, 64, 128) for warps in (4, 8) for stages in (2, 3)],
    "keys": [(rows, cols, warps, stages) for rows in (32, 64) for cols in (64, 128) for warps in (4, 8) for stages in (1, 2)],
    "queries": [(rows, cols, warps, stages) for rows in (64, 128) for cols in (32, 64) for warps in (4, 8) for stages in (1, 2)],
}
GROUPS = {"half": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True)
class Size:
    """What is timed: sequences, heads, tokens."""

    batch: int
    heads: int
    seq: int


def tune(folder: Path, size: Size, say: Callable[[str], object], widths: tuple[int, ...] = (64, 128, 256)) -> Path:
    """Times all candidates and writes `<architecture>.json` into a folder; returns its path. Raises `UserError` where there is no GPU."""
    if not torch.cuda.is_available():
        raise UserError("error: there is no GPU: `mptc tune` times kernels on the one that is there, and writes its lock file")
    device = torch.device("cuda")
    found = measured(device, size, say, widths, CANDIDATES)
    path = folder / f"{found['architecture']}.json"
    write_all({path: json.dumps(found, indent=1) + "\n"})
    return path


def measured(device: torch.device, size: Size, say: Callable[[str], object], widths: tuple[int, ...], candidates: dict[str, Any]) -> dict[str, Any]:
    """What a lock file holds."""
    attention: dict[str, Any] = {kind: {group: {} for group in GROUPS} for kind in SPECS}
    architecture = ""
    for kind in SPECS:
        for width in widths:
            kernels = _kernels(kind, width)
            for group, dtype in GROUPS.items():
                shape = (size.batch, size.heads, size.seq, width)
                tensors = [torch.randn(shape, device=device, dtype=dtype) for _ in range(2 if kind == "tied" else 3)]
                architecture = kernels.architecture(tensors[0])
                entry = Timed(kernels, tensors, candidates).entry()
                attention[kind][group][str(width)] = entry
                say(f"{architecture} {kind} {group} {width}: {entry}")
    machine = torch.cuda.get_device_name() if device.type == "cuda" else "interpreter"
    versions = {"torch": torch.__version__, "triton": triton.__version__}
    return {"architecture": architecture, "measured": {"machine": machine, **versions, **vars(size)}, "attention": attention}


def _kernels(kind: str, width: int) -> ModuleType:
    with TemporaryDirectory() as folder:
        spec = Path(folder) / f"{kind}.mpt"
        spec.write_text(SPECS[kind].format(width=width), encoding="utf-8")
        made = compile_spec(spec, emit=("triton",), kernels="triton")
    module = as_module(made.name, made.files[f"{made.name}.py"], made.files["kernels.py"])
    found: ModuleType = module.kernels
    return found


@dataclass(frozen=True)
class Timed:
    """One kernel on one set of tensors."""

    kernels: ModuleType
    tensors: list[Tensor]
    candidates: dict[str, Any]

    def entry(self) -> dict[str, Any]:
        """The quickest tiles of each pass, and how many times as fast as torch they are."""
        best = {name: min(self._tried(name), default=(float("inf"), None)) for name in self.candidates}
        chosen = {name: list(tiles or self._key()[name]) for name, (_, tiles) in best.items()}
        ours = best["forward"][0] + best["keys"][0]
        return {**chosen, "ratio": round(self._torch() / ours, 3) if ours < float("inf") else None}

    def _key(self) -> dict[str, Any]:
        found: dict[str, Any] = self.kernels.tiles_of("attention", self.tensors[0])
        return found

    def _tried(self, name: str) -> Iterator[tuple[float, tuple[int, ...]]]:
        """The time of each candidate that compiles and fits."""
        entry = self._key()
        before = entry[name]
        out, lse = self.kernels.attention_op(*self.tensors)
        flow = torch.randn_like(out)
        for tiles in self.candidates[name]:
            entry[name] = tiles
            try:
                if name == "forward":
                    yield seconds(lambda: self.kernels.attention_op(*self.tensors), self.tensors[0]), tiles
                else:
                    repeatable = name == "queries"
                    yield seconds(lambda: self.kernels.attention_backward_op(*self.tensors, out, lse, flow, repeatable), self.tensors[0]), tiles  # noqa: B023
            except (triton.runtime.OutOfResources, triton.CompilationError, RuntimeError):
                continue
            finally:
                entry[name] = before

    def _torch(self) -> float:
        """Forward and backward by the faster backend of torch."""
        q, k, v = (each.detach().requires_grad_() for each in (self.tensors * 2)[:3])
        times = []
        for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH):
            try:
                with sdpa_kernel(backend):
                    times.append(seconds(lambda: torch.autograd.grad(F.scaled_dot_product_attention(q, k, v, is_causal=True).sum(), (q, k, v)), q))
            except RuntimeError:
                continue
        return min(times)


def seconds(call: Callable[[], object], like: Tensor, rounds: int = 20) -> float:
    """The median time of a call, after three that do not count; on a CPU, where it is run to see that it runs, of one."""
    if like.is_cuda:
        for _ in range(3):
            call()
        times = []
        for _ in range(rounds):
            begin, end = (torch.Event("cuda", enable_timing=True) for _ in range(2))
            begin.record()
            call()
            end.record()
            torch.cuda.synchronize()
            times.append(begin.elapsed_time(end) / 1000)
        return statistics.median(times)
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
