"""Train the stand-in as a process of its own: `python -m tests.runtime.driver DATA OUT [--resume] [--die-writing N] [--ask-to-stop N]`.

`--die-writing N` kills the process, as SIGKILL does, in the middle of writing its Nth tensor file; `--ask-to-stop N` sends it signal N in the middle
of its sixth step.
"""

import os
import signal
import sys
from pathlib import Path

import mptc.runtime.weights
from mptc.runtime import checkpoint
from mptc.runtime.data import Batch
from mptc.runtime.errors import UserError
from mptc.runtime.load import instantiate
from mptc.runtime.report import Lines
from mptc.runtime.run import Run, is_run, read_run
from mptc.runtime.session import train_run
from mptc.runtime.settings import Settings
from mptc.runtime.text import Text, read_text
from tests.runtime.stand_in import SURFACE, TEXT

SETTINGS = Settings(seed=5, steps=40, batch=4, length=16, lr=1e-2, eval_every=10, save_every=4, threads=1)


def die_writing(count: int) -> None:
    """Replace safetensors' writer by one that leaves half a file and dies."""
    written = 0
    whole = checkpoint.save_file

    def save_file(tensors: object, path: Path, **options: object) -> None:
        nonlocal written
        written += 1
        whole(tensors, path, **options)  # type: ignore[arg-type]
        if written == count:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
            os.kill(os.getpid(), signal.SIGKILL)

    checkpoint.save_file = mptc.runtime.weights.save_file = save_file  # type: ignore[assignment]


def ask_to_stop(number: int) -> None:
    """Send the signal while a batch is drawn."""
    drawn = Text.training_batch

    def training_batch(text: Text, seed: int, step: int) -> Batch:
        if step == 5:
            os.kill(os.getpid(), number)
        return drawn(text, seed, step)

    Text.training_batch = training_batch  # type: ignore[method-assign]


def main(data: str, out: str, *options: str) -> None:
    if "--die-writing" in options:
        die_writing(int(options[options.index("--die-writing") + 1]))
    if "--ask-to-stop" in options:
        ask_to_stop(int(options[options.index("--ask-to-stop") + 1]))
    path = Path(out)
    old = read_run(path) if "--resume" in options and is_run(path) else None
    text = read_text(data, "tokens", SETTINGS.batch, SETTINGS.length)
    run = Run(path, "stand_in.mpt", None, {}, SURFACE, SETTINGS, data, text.fingerprint(), TEXT)
    try:
        train_run(instantiate("stand_in", TEXT, SETTINGS.seed), text, run, old, Lines(sys.stdout))
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(error.code)


if __name__ == "__main__":
    main(*sys.argv[1:])
