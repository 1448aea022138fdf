"""What is computed for the chosen alone, against the same for all, on a CPU.

    python tests/bench/routing.py [ROUNDS]

Experts: 64 of which a token has 2, against `DenseExperts` of the layers written by hand. CoDA: a Transformer layer for an eighth of 2,048 tokens (its
router, the taking and the putting included) against the same layer for all of them, in torch and in onnxruntime. Rounds are interleaved, in processes
with pinned threads; ratios are medians over rounds, with a bootstrap interval.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mptc.runtime.bench import Job, bench, interval, ratios, timed
from mptc.runtime.bench.job import pairs
from mptc.runtime.bench.launch import PINNED
from tests.bench.hand import BY_HAND, HERE, ROOT, missing

EXPERTS = {"forward": 8.0, "forward+backward": 6.0}  # the ratios asked for
SHARE = 0.25  # of the time for all tokens, at most
TOKENS, D = 2048, 256


def experts(rounds: int) -> bool:
    """Whether both bars are met."""
    hand = {"against": f"{BY_HAND}:DenseExperts", "args": "d=256,hidden=256,experts=64,top=2", "map": pairs([str(HERE / "experts_layer.map")])}
    report = bench(Job(str(HERE / "experts_layer.mpt"), batch=1, seqs=(1024,), rounds=rounds, threads=2, **hand))
    met = True
    for row in report.rows:
        assert row.theirs is not None
        assert row.ratio is not None
        bar = EXPERTS[row.direction]
        met &= row.ratio >= bar
        times = f"{1e3 * row.ours.seconds:8.1f} ms, by hand, all: {1e3 * row.theirs.seconds:8.1f} ms"
        print(f"64 experts, 2 each, 1,024 tokens, {row.direction}: {times}, {row.ratio:.2f} [{row.low:.2f}, {row.high:.2f}], asked {bar}", flush=True)
    return met


def specs() -> dict[str, str]:
    routed = (HERE / "coda_layer.mpt").read_text()
    return {"routed": routed, "all": routed.replace("on m { layer(here(x)) }", "layer(x)")}


def compiled(folder: Path) -> dict[str, Any]:
    """Both layers as torch modules and as graphs, with the same weights."""
    from mptc.compile import Deployment
    from mptc.runtime.deploy import contents
    from mptc.runtime.files import write
    from mptc.runtime.load import load
    from mptc.runtime.spec import compile_spec
    from tests.bench.graphs import session

    found: dict[str, Any] = {}
    for name, text in specs().items():
        path = folder / f"{name}.mpt"
        path.write_text(text)
        module = load(path)
        deployed = compile_spec(path, emit=["onnx"], deployment=Deployment()).deployed
        assert deployed is not None
        state = module.state_dict()
        (folder / name).mkdir()
        for file, content in contents(deployed, lambda path: state[path].numpy()).items():  # noqa: B023 -- called in this pass
            write(folder / name / file, content)
        found[name] = (module, session(folder / name / next(iter(deployed.files))))
    return found


def coda(rounds: int) -> bool:
    """Whether the routed layer takes no more than its share of the time, in torch and in onnxruntime."""
    import torch

    x = torch.randn(1, TOKENS, D)
    met = True
    with TemporaryDirectory() as folder, torch.no_grad():
        found = compiled(Path(folder))
        calls: dict[str, dict[str, Callable[[], object]]] = {"torch": {}, "onnxruntime": {}}
        for name, (module, graph) in found.items():
            calls["torch"][name] = lambda module=module: module(x)  # type: ignore[misc]
            calls["onnxruntime"][name] = lambda graph=graph: graph.run(None, {"x": x.numpy()})  # type: ignore[misc]
        for target, several in calls.items():
            seconds = timed(several, rounds)
            shares = ratios(seconds, "all", "routed")
            low, high = interval(shares)
            share = statistics.median(shares)
            met &= share <= SHARE
            times = ", ".join(f"{name} {1e3 * statistics.median(seconds[name]):.1f} ms" for name in several)
            print(f"a layer for 1/8 of {TOKENS} tokens, {target}: {times}, share {share:.3f} [{low:.3f}, {high:.3f}], asked {SHARE}", flush=True)
    return met


def main() -> int:
    if missing():
        print(missing())
        return 0
    if any(os.environ.get(name) != value for name, value in PINNED.items()):  # read when torch is loaded, so before this process loads it
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        return subprocess.run([sys.executable, __file__, *sys.argv[1:]], env={**os.environ, **PINNED, "PYTHONPATH": path}, check=False).returncode
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 20
    return int(not all([coda(rounds), experts(rounds)]))


if __name__ == "__main__":
    sys.exit(main())
