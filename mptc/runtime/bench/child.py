"""Measures one job: the process that `launch` starts. The job comes as JSON on stdin; the report goes to a file, as stdout is the user's own."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from mptc.model.tree import Model, Output
from mptc.runtime.bench.by_hand import copy, guarded, theirs
from mptc.runtime.bench.job import Job
from mptc.runtime.bench.report import Report, Row
from mptc.runtime.bench.sides import MOST, Pair, differences, pair
from mptc.runtime.errors import UserError
from mptc.runtime.load import instantiate
from mptc.runtime.spec import compile_spec, typed_spec
from mptc.runtime.verify import draw, inputs


def main() -> None:
    """Read a job, write a report or an error."""
    record = json.load(sys.stdin)
    job = Job(**{**record, "seqs": tuple(record["seqs"])})
    try:
        result: dict[str, Any] = asdict(measure(job))
    except UserError as error:
        result = {"error": str(error)}
    Path(sys.argv[1]).write_text(json.dumps(result), encoding="utf-8")


def measure(job: Job) -> Report:
    """Compare the answers where the weights are mapped, then time. Raises `UserError`."""
    _ready(job)
    model = typed_spec(job.spec, job.set, job.variant)
    made = Maker(job, model)
    compared = made.compared() if job.map else None
    dtype: torch.dtype = getattr(torch, job.dtype)
    rounding = made.rounding(dtype) if job.precision != "highest" else None
    torch.set_float32_matmul_precision(job.precision)
    rows: list[Row] = []
    for seq in job.seqs:
        rows += made.pair(seq, dtype, job.compile).rows(job)
    return Report(
        model=model.name,
        against=job.against,
        machine=machine(job.device),
        device=job.device,
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        compared=compared,
        rounding=rounding,
        rows=tuple(rows),
        **{name: getattr(job, name) for name in ("dtype", "precision", "compile", "rounds", "seed")},
    )


def _ready(job: Job) -> None:
    if job.device == "cuda" and not torch.cuda.is_available():
        why = "this torch is built without CUDA" if torch.version.cuda is None else "torch finds no device"
        raise UserError(f"error: --device cuda: there is no CUDA here ({why})")
    if job.threads is not None:
        torch.set_num_threads(job.threads)


def machine(device: str) -> str:
    """What the processor or the accelerator calls itself, a processor with the widest instructions that torch uses there."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = (named or [platform.processor() or platform.machine()])[0]
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}, {os.cpu_count()} cores"


class Maker:
    """Both modules, once, and what they are given for each length."""

    def __init__(self, job: Job, model: Model) -> None:
        self.job, self.model = job, model
        compiled = compile_spec(job.spec, job.set, job.variant)
        self.ours = instantiate(compiled.name, compiled.files[f"{compiled.name}.py"], job.seed).eval()
        self.theirs = theirs(job).eval() if job.against else None
        if self.theirs is not None and job.map:
            draw(self.ours)  # a gain of exactly one would hide that it is missing
            copy(self.ours, self.theirs, job.map)

    def pair(self, seq: int, dtype: torch.dtype, compiled: bool = False) -> Pair:
        """Both sides, with random inputs of so many tokens."""
        drawn = inputs(self.model, self.job.batch, seq, seq, self.job.seed, torch.float32)
        given = {name: _moved(value, dtype, self.job.device) for name, value in drawn.items()}
        for module in (self.ours, self.theirs):
            if module is not None:
                module.to(device=self.job.device, dtype=dtype)
        outputs = tuple(each.name for each in self.model.body if isinstance(each, Output))
        return pair(self.job, self.ours, self.theirs, given, seq, outputs, compiled)

    def compared(self) -> dict[str, float]:
        """The worst of all lengths, in float32. Raises `UserError` where something differs by more than rounding."""
        worst = {"outputs": 0.0, "gradients": 0.0}
        for seq in self.job.seqs:
            for name, found in differences(self.pair(seq, torch.float32), self.job.map):
                if not found <= MOST:
                    raise UserError(
                        f"error: nothing was timed, as the answers differ: {name} by {found:.1e} of the largest magnitude, "
                        f"where {MOST:.0e} is allowed, at {seq} tokens"
                    )
                kind = "outputs" if name.startswith("output") else "gradients"
                worst[kind] = max(worst[kind], found)
        return worst

    def rounding(self, dtype: torch.dtype) -> float:
        """How far the precision asked for moves our outputs from those at the highest."""
        both = self.pair(self.job.seqs[0], dtype)
        found: dict[str, Mapping[str, torch.Tensor]] = {}
        for precision in ("highest", self.job.precision):
            torch.set_float32_matmul_precision(precision)
            found[precision] = guarded("the spec's module failed", both.sides["ours"].outputs)
        ours, exact = found[self.job.precision], found["highest"]
        return max((float((ours[name] - exact[name]).abs().max() / exact[name].abs().max().clamp_min(1e-12)) for name in exact), default=0.0)


def _moved(value: torch.Tensor, dtype: torch.dtype, device: str) -> torch.Tensor:
    """Numbers take the dtype, ids stay integers."""
    return value.to(device, dtype) if value.is_floating_point() else value.to(device)


if __name__ == "__main__":
    main()
