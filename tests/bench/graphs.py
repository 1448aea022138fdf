"""Our ONNX graph of a layer against the one that `torch.onnx.export` makes of the layer written by hand, both run by onnxruntime.

    python tests/bench/graphs.py [ROUNDS]

The layers have the same weights and give the same output, which is checked before anything is timed. Theirs is exported for the opset that torch
chooses and for one that has `Attention`, and ours stands against both. Rounds are interleaved; this process keeps to one core, onnxruntime to one
thread, and what is counted is the processor's time, so that other work on the machine adds little. A ratio is the median over rounds of
theirs / ours: above 1 our graph is the faster one. Its interval is a bootstrap of that median.

`torch.onnx.export` needs the package onnxscript.
"""

from __future__ import annotations

import contextlib
import io
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mptc.runtime.bench import interval, ratios, timed
from mptc.runtime.bench.launch import PINNED
from tests.bench.hand import HEADS, HERE, HIDDEN, ROOT, SPECS, D, missing
from tests.bench.hand import weights as named

LAYERS = ("CemLayer", "LlamaLayer")
OPSETS = (None, 23)  # torch's choice, and that of `Attention`
SIZES = ((1, 1), (1, 64), (4, 256), (4, 1024))  # batch, tokens
BAR = 1.0


@dataclass(frozen=True)
class Row:
    name: str
    opset: int | None
    size: tuple[int, int]
    ours: float
    theirs: float
    ratio: float
    low: float
    high: float


def weights(name: str) -> tuple[Any, dict[str, Any]]:
    """The layer by hand, and its weights by the names of ours; gains of exactly one would hide that one of them is missing."""
    import torch

    torch.manual_seed(0)
    theirs = by_hand(name)(D, HEADS, HIDDEN)
    parameters = dict(theirs.named_parameters())
    with torch.no_grad():
        for parameter in parameters.values():
            parameter.add_(0.1 * torch.randn_like(parameter) if parameter.dim() == 1 else 0.05 * torch.randn_like(parameter))
    return theirs, {ours: parameters[other] for ours, other in named(name).items()}


def by_hand(name: str) -> Any:
    """What is called so in their file."""
    from mptc.runtime.bench.by_hand import found
    from tests.bench.hand import BY_HAND

    return found(f"{BY_HAND}:{name}")


def ours(name: str, found: dict[str, Any], folder: Path) -> Any:
    """Our graph, open."""
    from mptc.compile import Deployment
    from mptc.runtime.deploy import contents
    from mptc.runtime.files import write
    from mptc.runtime.spec import compile_spec

    deployed = compile_spec(HERE / f"{SPECS[name][0]}.mpt", emit=["onnx"], deployment=Deployment()).deployed
    assert deployed is not None
    shapes = {tensor.name: tensor.shape for tensor in deployed.weights.tensors}
    for file, content in contents(deployed, lambda path: found[path].detach().reshape(shapes[path]).numpy()).items():
        write(folder / file, content)
    return session(folder / next(iter(deployed.files)))


def exported(layer: Any, opset: int | None, folder: Path) -> Any:
    """What torch makes of theirs, its rotary tables among the inputs, any batch and any length; open."""
    import torch
    from torch.export import Dim

    cos, sin = by_hand("tables")(16, D // HEADS)
    dynamic = ({0: Dim.DYNAMIC, 1: Dim.DYNAMIC}, {0: Dim.DYNAMIC}, {0: Dim.DYNAMIC})
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        program = torch.onnx.export(layer, (torch.randn(2, 16, D), cos, sin), dynamo=True, dynamic_shapes=dynamic, opset_version=opset)
    assert program is not None
    program.save(folder / f"theirs{opset}.onnx")
    return session(folder / f"theirs{opset}.onnx")


def session(path: Path) -> Any:
    """On one thread, and otherwise as anyone opens it."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def measure(rounds: int) -> list[Row]:
    rows = []
    for name in LAYERS:
        layer, found = weights(name)
        with TemporaryDirectory() as folder:
            mine = ours(name, found, Path(folder))
            others = {opset: exported(layer, opset, Path(folder)) for opset in OPSETS}
            for size in SIZES:
                rows += compared(name, layer, mine, others, size, rounds)
    return rows


def compared(name: str, layer: Any, mine: Any, others: dict[int | None, Any], size: tuple[int, int], rounds: int) -> list[Row]:
    import torch

    x = torch.randn(*size, D)
    tables = by_hand("tables")(size[1], D // HEADS)
    wanted = layer(x, *tables).detach()
    calls: dict[str, Callable[[], object]] = {}
    for key, each in (("ours", mine), *((str(opset), other) for opset, other in others.items())):
        names = [given.name for given in each.get_inputs()]
        feed = {given: tensor.numpy() for given, tensor in zip(names, (x, *tables), strict=False)}
        difference = float((torch.tensor(each.run(None, feed)[0]) - wanted).abs().max() / wanted.abs().max())
        assert difference <= 1e-5, f"{name} at {size}: {key} differs by {difference:.1e}"
        repeats = max(1, 2000 // (size[0] * size[1]) // 8)
        calls[key] = lambda each=each, feed=feed, repeats=repeats: [each.run(None, feed) for _ in range(repeats)]  # type: ignore[misc]
    seconds = timed(calls, rounds if size[0] * size[1] < 4000 else max(rounds // 2, 5), time.process_time)
    per_call = max(1, 2000 // (size[0] * size[1]) // 8)
    rows = []
    for opset in others:
        found = ratios(seconds, "ours", str(opset))
        times = (statistics.median(seconds[key]) / per_call for key in ("ours", str(opset)))
        rows.append(Row(name, opset, size, *times, statistics.median(found), *interval(found)))
    return rows


def table(rows: list[Row]) -> str:
    lines = ["against       opset     batch × tokens   ours ms  theirs ms   ratio   95 %"]
    for row in rows:
        opset = "torch's" if row.opset is None else str(row.opset)
        size = f"{row.size[0]} × {row.size[1]}"
        lines.append(
            f"{row.name:12}  {opset:8} {size:>15} {1e3 * row.ours:9.3f} {1e3 * row.theirs:10.3f}   {row.ratio:5.2f}   {row.low:.2f}-{row.high:.2f}"
            + ("" if row.ratio >= BAR else "   below the bar")
        )
    return "\n".join(lines)


def main() -> int:
    absent = [name for name in ("onnxscript", "onnxruntime") if find_spec(name) is None]
    if absent or missing():
        print(f"skipped: {', '.join(absent)} is not installed" if absent else missing())
        return 0
    if any(os.environ.get(name) != value for name, value in PINNED.items()):  # read when torch is loaded, so before this process loads it
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        return subprocess.run([sys.executable, __file__, *sys.argv[1:]], env={**os.environ, **PINNED, "PYTHONPATH": path}, check=False).returncode
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    rows = measure(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
    print(table(rows))
    return int(any(row.ratio < BAR for row in rows))


if __name__ == "__main__":
    sys.exit(main())
