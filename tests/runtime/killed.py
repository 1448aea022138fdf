"""Train a spec, killed at random again and again: `python -m tests.runtime.killed OUT KILLS SEED`, which prints what it found as JSON.

A process of its own, with one thread: each try is a fork of it, so it begins at once, and dies by SIGKILL wherever it is by then.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import torch

from mptc.runtime.checkpoint import restore
from mptc.runtime.load import instantiate
from mptc.runtime.report import Lines
from mptc.runtime.run import Run, is_run, read_run
from mptc.runtime.session import train_run
from mptc.runtime.settings import Settings
from mptc.runtime.spec import compile_spec, typed_spec
from mptc.runtime.surface import surface
from mptc.runtime.text import read_text
from mptc.runtime.train import make_optimizer

SPEC = Path(__file__).parents[2] / "specs/cem_small.mpt"
PARTS = 1.5  # of an undisturbed run, that all tries last together


def made(out: Path, steps: int) -> Run:
    """A checkpoint at every second step, so that about half the time goes into writing them."""
    settings = Settings(seed=3, steps=steps, batch=2, length=16, lr=1e-2, eval_every=steps // 4, save_every=2, threads=1)
    data = out.parent / "text"
    data.write_bytes(random.Random(0).randbytes(4_000))
    facts, code = surface(typed_spec(SPEC, {}, "tiny")), compile_spec(SPEC, {}, "tiny").files["cem_small.py"]
    return Run(out, str(SPEC), "tiny", {}, facts, settings, str(data), read_text(data, "tokens", 2, 16).fingerprint(), code)


def train(run: Run) -> None:
    data = read_text(run.origin, "tokens", run.settings.batch, run.settings.length)
    old = read_run(run.path) if is_run(run.path) else None
    train_run(instantiate("cem_small", run.text, run.settings.seed), data, run, old, Lines(io.StringIO()))


def attempt(run: Run, seconds: float | None) -> bool:
    """Go on with it in a fork. Returns whether that was killed; its own error is ours."""
    child = os.fork()
    if not child:
        train(run)
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return True
    assert os.waitstatus_to_exitcode(status) == 0, "a try failed"
    return False


def whole(run: Run) -> int:
    """The step of the newest checkpoint; each that is there can be read in full, and its step is that of its name."""
    found = 0
    for checkpoint in run.checkpoints():
        model = instantiate("cem_small", run.text)
        alone = dataclasses.replace(run, path=run.path.parent / "alone")
        alone.path.mkdir(exist_ok=True)
        (alone.path / checkpoint.name).symlink_to(checkpoint)
        found = restore(alone, model, make_optimizer(model, run.settings)).step
        (alone.path / checkpoint.name).unlink()
        assert checkpoint.name == f"step-{found:08d}"
    return found


def main(out: str, kills: str, seed: str) -> None:
    torch.set_num_threads(1)
    root, draw = Path(out), random.Random(int(seed))
    undisturbed = made(root / "undisturbed", 12 * int(kills))
    train(dataclasses.replace(undisturbed, path=root / "warm"))
    began = time.perf_counter()
    attempt(undisturbed, None)
    took = time.perf_counter() - began
    killed, torn, runs = 0, 0, []
    while killed < int(kills):  # one run after the other, as some come to their end between two kills
        run, steps = dataclasses.replace(undisturbed, path=root / f"run-{len(runs)}"), [0]
        while killed < int(kills) and steps[-1] < run.settings.steps:
            killed += attempt(run, draw.uniform(0, 2 * PARTS * took / int(kills)))
            torn += any(path.name.endswith(".tmp") for path in run.path.glob(".*"))
            steps.append(whole(run))
            assert steps[-1] >= steps[-2], "a checkpoint was lost"
        attempt(run, None)
        runs.append(steps)
    print(json.dumps({"killed": killed, "torn": torn, "runs": runs}))


if __name__ == "__main__":
    main(*sys.argv[1:])
