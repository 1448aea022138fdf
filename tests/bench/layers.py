"""Generated layers against layers written by hand: forward and backward on CPU.

    python tests/bench/layers.py [ROUNDS]

The layers do the same arithmetic with the same weights, which is checked before anything is timed. The rounds of all are interleaved, and a ratio is
the median over rounds of hand / generated: above 1 the generated layer is the faster one. Its interval is a bootstrap of that median.
"""

from __future__ import annotations

import importlib.util
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent.parent
HERE = Path(__file__).resolve().parent
BY_HAND = ROOT.parent / "shared" / "baselines" / "handwritten.py"
PINNED = {"OMP_PROC_BIND": "true", "OMP_PLACES": "cores", "MKL_DYNAMIC": "FALSE"}
D, HEADS, HIDDEN, BATCH = 256, 4, 704, 4
LENGTHS = (256, 1024)

# What is timed: a spec of ours, a class of theirs, the ratio asked for at each length.
BARS = {
    "CemAutograd": ("cem_layer.mpt", {256: 1.3, 1024: 2.5}),
    "CemLayer": ("cem_layer.mpt", {256: 0.95, 1024: 0.95}),
    "LlamaLayer": ("llama_layer.mpt", {256: 0.95, 1024: 0.95}),
}

# Our names of their weights.
WEIGHTS = {
    "cem_layer.mpt": {
        "context.gain": "g1",
        "query.gain": "g2",
        "pre_gate.gain": "g3",
        "interaction.W_q": "wq",
        "interaction.W_k": "wk",
        "gated.W_up": "wu",
        "gated.W_gate": "wg",
    },
    "llama_layer.mpt": {
        "pre_attention.gain": "g1",
        "pre_mlp.gain": "g2",
        "attention.W_q": "wq",
        "attention.W_k": "wk",
        "attention.W_v": "wv",
        "attention.W_o": "wo",
        "swiglu.W_gate": "wg",
        "swiglu.W_up": "wu",
        "swiglu.W_down": "wd",
    },
}


@dataclass(frozen=True)
class Row:
    name: str
    tokens: int
    ratio: float
    low: float
    high: float
    ours: float
    theirs: float
    bar: float


def by_hand() -> ModuleType:
    spec = importlib.util.spec_from_file_location("handwritten", BY_HAND)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pair(name: str, tokens: int) -> dict[str, Callable[[], object]]:
    """One call, forward and backward, of the generated layer and of theirs, on the same weights and input."""
    import torch

    import mptc

    hand = by_hand()
    path, _ = BARS[name]
    torch.manual_seed(0)
    theirs = getattr(hand, name)(D, HEADS, HIDDEN)
    ours = mptc.load(HERE / path)
    weights = dict(theirs.named_parameters())
    with torch.no_grad():
        for parameter in weights.values():  # gains of exactly one would hide that one of them is missing
            parameter.add_(0.1 * torch.randn_like(parameter) if parameter.dim() == 1 else 0.05 * torch.randn_like(parameter))
        for path_, parameter in ours.named_parameters():
            parameter.copy_(weights[WEIGHTS[path][path_]].view_as(parameter))
    x = torch.randn(BATCH, tokens, D, requires_grad=True)
    grad = torch.randn(BATCH, tokens, D)
    cos, sin = hand.tables(tokens, D // HEADS)

    def run(layer: Callable[[], torch.Tensor], leaves: list[torch.Tensor]) -> list[torch.Tensor]:
        y = layer()
        return [y, *torch.autograd.grad(y, leaves, grad)]

    def generated() -> list[torch.Tensor]:
        return run(lambda: ours(x)[0], [x, *ours.parameters()])

    def handwritten() -> list[torch.Tensor]:
        return run(lambda: theirs(x, cos, sin), [x, *theirs.parameters()])

    found, expected = (dict(zip(["y", "x", *keys], run_(), strict=True)) for keys, run_ in ((_names(ours), generated), (_names(theirs), handwritten)))
    for key, value in found.items():
        other = expected[WEIGHTS[path].get(key, key)].reshape(value.shape)
        difference = float((value - other).detach().abs().max() / other.detach().abs().max())
        assert difference <= 1e-5, f"{name} at {tokens} tokens: {key} differs by {difference:.1e}"
    return {"ours": generated, "theirs": handwritten}


def _names(module: object) -> list[str]:
    return [name for name, _ in module.named_parameters()]  # type: ignore[attr-defined]


def timed(calls: dict[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter) -> dict[str, list[float]]:
    """Seconds by round. Who goes first changes from round to round."""
    seconds: dict[str, list[float]] = {key: [] for key in calls}
    order = list(calls)
    for number in range(rounds + 2):
        for key in order if number % 2 else reversed(order):
            began = clock()
            calls[key]()
            if number >= 2:
                seconds[key].append(clock() - began)
    return seconds


def interval(ratios: list[float], draws: int = 2000) -> tuple[float, float]:
    """The middle 95 % of medians of redrawn rounds."""
    chance = random.Random(0)
    medians = sorted(statistics.median(chance.choices(ratios, k=len(ratios))) for _ in range(draws))
    return medians[draws // 40], medians[-draws // 40]


def measure(rounds: int) -> list[Row]:
    rows = []
    for name, (_, bars) in BARS.items():
        for tokens in LENGTHS:
            seconds = timed(pair(name, tokens), rounds if tokens < 1000 else max(rounds // 2, 5))
            ratios = [theirs / ours for ours, theirs in zip(seconds["ours"], seconds["theirs"], strict=True)]
            ours, theirs = (statistics.median(seconds[key]) for key in ("ours", "theirs"))
            rows.append(Row(name, tokens, statistics.median(ratios), *interval(ratios), ours, theirs, bars[tokens]))
    return rows


def table(rows: list[Row]) -> str:
    lines = ["against       tokens   ours ms  theirs ms   ratio   95 %           bar"]
    for row in rows:
        mark = "" if row.ratio >= row.bar else "   below the bar"
        lines.append(
            f"{row.name:12} {row.tokens:7} {1000 * row.ours:9.1f} {1000 * row.theirs:10.1f} {row.ratio:7.2f}   "
            f"{row.low:.2f} to {row.high:.2f}   {row.bar:.2f}{mark}"
        )
    return "\n".join(lines)


def main() -> int:
    if not BY_HAND.is_file():
        print(f"skipped: the layers written by hand are not at {BY_HAND}")
        return 0
    if any(os.environ.get(name) != value for name, value in PINNED.items()):  # read when torch is loaded, so before this process loads it
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        return subprocess.run([sys.executable, __file__, *sys.argv[1:]], env={**os.environ, **PINNED, "PYTHONPATH": path}, check=False).returncode
    rows = measure(int(sys.argv[1]) if len(sys.argv) > 1 else 30)
    print(table(rows))
    return int(any(row.ratio < row.bar for row in rows))


if __name__ == "__main__":
    sys.exit(main())
