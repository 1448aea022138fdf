"""Decoding one token behind 4,096 that are cached: `cem_small`, one step and two, against `llama_small` of equal width, depth and vocabulary.

    OMP_PROC_BIND=true OMP_PLACES=cores MKL_DYNAMIC=FALSE python -m tests.bench.decode [ROUNDS]

Both are what mptc makes of their specs: d 512, 8 layers, hidden 1408, vocabulary 32,000, float32. Rounds are interleaved; a ratio is the median over
rounds of Llama's time / ours, its interval a bootstrap of that median. Asked: 1.15 with one step.
"""

from __future__ import annotations

import statistics
import sys
import time

import torch

import mptc
from mptc.runtime.bench import interval, ratios
from tests.bench.hand import ROOT

SIZES = {"d": 512, "depth": 8, "hidden": 1408, "vocab": 32_000}
MODELS = {"one step": ("cem_small", {"steps": 1}), "two steps": ("cem_small", {"steps": 2}), "llama": ("llama_small", {"kv": 8, "group": 1})}
CACHED, CHUNK = 4096, 1024


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 25
    models = {name: mptc.load(ROOT / f"specs/{spec}.mpt", set={**SIZES, **own}).eval() for name, (spec, own) in MODELS.items()}
    for batch in (1, 4):
        caches = {name: model.new_cache(batch=batch, capacity=CACHED + rounds) for name, model in models.items()}
        for name, model in models.items():
            for _ in range(CACHED // CHUNK):
                model(torch.randint(0, SIZES["vocab"], (batch, CHUNK)), cache=caches[name])
        times: dict[str, list[float]] = {name: [] for name in models}
        for _ in range(rounds):
            for name, model in models.items():
                token = torch.randint(0, SIZES["vocab"], (batch, 1))
                start = time.perf_counter()
                model(token, cache=caches[name])
                times[name].append(time.perf_counter() - start)
        for name in models:
            found = ratios(times, name, "llama")
            low, high = interval(found)
            ratio = f"{statistics.median(found):.2f} [{low:.2f}, {high:.2f}]"
            taken, kept = 1e3 * statistics.median(times[name]), caches[name].bytes / 1e6
            print(f"batch {batch}  {name:10} {taken:6.1f} ms  {kept:5.0f} MB kept  llama / this {ratio}")


if __name__ == "__main__":
    main()
