"""`mptc train` against the `Trainer` of transformers, the same Llama in both; and how long it takes to the end of the first step.

    python tests/bench/train.py [--rounds 5] [--dtype bfloat16] [--compile] [--csv table.csv]
    python tests/bench/train.py --turns [--dtype bfloat16]

Whole processes that take turns, one thread each, on the same batches in size, AdamW, clipping and cosine. Tokens per second are those between the end
of a few steps and the end of the last, evaluation and checkpoints left out. The start is that of `python -m mptc train`, as a ratio to
`python -c "import torch"`, until its log has a step.

With --turns both train in one process, a step of the one after a step of the other, by the seconds that the processor gave to each: on a machine that
others use too, that is far steadier.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SPEC = ROOT / "specs/llama_small.mpt"
SIZES = {"vocab": 256, "hidden": 704, "depth": 4, "d": 256, "kv": 2, "group": 2}
BATCH, LENGTH, STEPS, WARM = 8, 128, 40, 6
FASTER, SOONER = 1.0, 4.0  # what is asked for: at least so many times the tokens per second; at most so many times `import torch`


Moment = tuple[float, float]  # by the clock, and of this process alone


class Turns:
    """Two threads, each of which goes on from the end of its step when the other has come to the end of one. `seconds`: of each side's steps."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {"ours": [], "theirs": []}
        self.began = dict.fromkeys(self.seconds, 0.0)
        self.turn, self.change = "ours", threading.Condition()

    def ended(self, side: str) -> None:
        self.seconds[side].append(time.thread_time() - self.began[side])
        with self.change:
            self.turn = "theirs" if side == "ours" else "ours"
            self.change.notify_all()
            self.change.wait_for(lambda: self.turn == side or max(map(len, self.seconds.values())) == STEPS)
        self.began[side] = time.thread_time()

    def taken(self, folder: Path, dtype: str) -> list[float]:
        """How many times as long each step of theirs took as that of ours beside it."""
        sides = [threading.Thread(target=side, args=(folder, dtype, False, self)) for side in (ours, theirs)]
        for thread in sides:
            thread.start()
        for thread in sides:
            thread.join()
        both = zip(self.seconds["ours"][WARM:-1], self.seconds["theirs"][WARM:-1], strict=False)
        return [theirs / ours for ours, theirs in both]


def ours(folder: Path, dtype: str, compile: bool, turns: Turns | None = None) -> list[Moment]:
    """When each step of `mptc train` ended."""
    from mptc.runtime.asked import Asked
    from mptc.runtime.evaluate import Evaluation
    from mptc.runtime.report import Done
    from mptc.runtime.session import train_spec

    ends: list[Moment] = []

    class Clock:
        def fact(self, text: str) -> None: ...
        def start(self, step: int, steps: int) -> None: ...
        def step(self, done: Done) -> None:
            ends.append((time.perf_counter(), time.process_time()))
            _ = turns and turns.ended("ours")

        def evaluated(self, found: Evaluation, unit: str) -> None: ...
        def saved(self, path: Path) -> None: ...
        def stop(self) -> None: ...

    numbers = {"batch": BATCH, "length": LENGTH, "steps": STEPS, "lr": 1e-3, "dtype": dtype, "compile": compile}
    sizes = {name: str(size) for name, size in SIZES.items()}
    train_spec(Asked(str(SPEC), str(folder / "text"), sizes, None, str(folder / "run"), numbers=numbers), Clock())
    return ends


def theirs(folder: Path, dtype: str, compile: bool, turns: Turns | None = None) -> list[Moment]:
    """When each step of the `Trainer` ended."""
    import numpy as np
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

    ids = np.fromfile(folder / "text", np.uint8).astype(np.int64)
    starts = np.random.default_rng(0).integers(0, len(ids) - LENGTH, BATCH * STEPS)
    windows = [torch.from_numpy(ids[start : start + LENGTH]) for start in starts]
    rows = [{"input_ids": window, "labels": window} for window in windows]
    config = LlamaConfig(
        vocab_size=SIZES["vocab"], hidden_size=SIZES["d"], intermediate_size=SIZES["hidden"], num_hidden_layers=SIZES["depth"],
        num_attention_heads=SIZES["kv"] * SIZES["group"], num_key_value_heads=SIZES["kv"], tie_word_embeddings=False, attn_implementation="sdpa",
        use_cache=False,
    )  # fmt: skip
    ends: list[Moment] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: object, **__: object) -> None:
            ends.append((time.perf_counter(), time.process_time()))
            _ = turns and turns.ended("theirs")

    arguments = TrainingArguments(
        str(folder / "trainer"), max_steps=STEPS, per_device_train_batch_size=BATCH, learning_rate=1e-3, lr_scheduler_type="cosine", warmup_steps=2,
        weight_decay=0.1, max_grad_norm=1.0, optim="adamw_torch_fused", bf16=dtype == "bfloat16", torch_compile=compile, use_cpu=True,
        report_to="none", save_strategy="no", logging_steps=STEPS, disable_tqdm=True,
    )  # fmt: skip
    Trainer(model=LlamaForCausalLM(config), args=arguments, train_dataset=rows, callbacks=[Clock()]).train()
    return ends


def speed(side: str, folder: Path, options: argparse.Namespace) -> list[float]:
    """Tokens per second, and per second that the process had, in one of its own."""
    command = [sys.executable, __file__, "--side", side, "--folder", str(folder), "--dtype", options.dtype, *(["--compile"] * options.compile)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{side}: {done.stderr}")
    return [float(each) for each in done.stdout.splitlines()[-1].split()]


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def importing() -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], env=environment(), check=True)
    return time.perf_counter() - began


def first_step(folder: Path) -> float:
    """Seconds until the log of `mptc train` has a step."""
    out = folder / "start"
    sizes = [word for name, size in SIZES.items() for word in ("--set", f"{name}={size}")]
    command = [sys.executable, "-m", "mptc", "train", str(SPEC), *sizes, "--data", str(folder / "text"), "--out", str(out)]
    began = time.perf_counter()
    process = subprocess.Popen([*command, "--batch", str(BATCH), "--length", str(LENGTH)], env=environment(), stdout=subprocess.DEVNULL)
    log = out / "log.jsonl"
    while not (log.exists() and log.stat().st_size):
        if process.poll() is not None:
            sys.exit("mptc train ended before its first step")
        time.sleep(0.005)
    took = time.perf_counter() - began
    process.kill()
    process.wait()
    return took


def measured(options: argparse.Namespace) -> list[dict[str, float]]:
    """A row for each round; the first one, which fills caches, is not counted."""
    rows = []
    for number in range(options.rounds + 1):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            (folder / "text").write_bytes(text())
            sides = ("ours", "theirs") if number % 2 else ("theirs", "ours")
            found = {side: speed(side, folder, options) for side in sides}
            speeds = {f"{side}{kind}": each for side, both in found.items() for kind, each in zip(("", "_cpu"), both, strict=True)}
            rows.append({"round": number, **speeds, "import": importing(), "start": first_step(folder)})
    return rows[1:]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--turns", action="store_true")
    parser.add_argument("--csv", type=Path)
    parser.add_argument("--side", choices=("ours", "theirs"))
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.side:
        ends = {"ours": ours, "theirs": theirs}[options.side](options.folder, options.dtype, options.compile)
        print(*(BATCH * LENGTH * (STEPS - WARM) / (end - begin) for begin, end in zip(ends[WARM - 1], ends[-1], strict=True)))
        return 0
    if options.turns:
        return taking_turns(options.dtype)
    rows = measured(options)
    if options.csv:
        with options.csv.open("w", newline="", encoding="utf-8") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    faster, alone = ([row[f"ours{kind}"] / row[f"theirs{kind}"] for row in rows] for kind in ("", "_cpu"))
    sooner = [row["start"] / row["import"] for row in rows]
    ours_, theirs_ = (statistics.median(row[side] for row in rows) for side in ("ours", "theirs"))
    print(f"tokens/s: mptc train {ours_:,.0f}, Trainer {theirs_:,.0f}; ratio {spread(faster)}, asked for at least {FASTER}")
    print(f"          by the seconds that each process had: ratio {spread(alone)}")
    print(f"start to first step / import torch: {spread(sooner)}, asked for at most {SOONER}")
    return int(statistics.median(faster) < FASTER or statistics.median(sooner) > SOONER)


def taking_turns(dtype: str) -> int:
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "text").write_bytes(text())
        found = Turns().taken(Path(name), dtype)
    low, middle, high = statistics.quantiles(found)
    print(f"tokens/s, mptc train / Trainer: {middle:.3f}, quartiles {low:.3f} and {high:.3f}, of {len(found)} pairs of steps")
    return int(statistics.median(found) < FASTER)


def text() -> bytes:
    return bytes((7 * n * n + n // 3) % 256 for n in range(2**17))


def spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f} in {len(ratios)} rounds)"


if __name__ == "__main__":
    sys.exit(main())
