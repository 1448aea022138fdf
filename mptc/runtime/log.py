"""What a run was, step by step: `log.jsonl` in its directory, and TensorBoard's events where they are asked for."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from mptc.runtime.errors import UserError
from mptc.runtime.evaluate import Evaluation
from mptc.runtime.files import write_all
from mptc.runtime.report import Done

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Log:
    """One line of JSON for each step, as `Done` has it, and for each evaluation. A resumed run goes on behind the step that it begins at.

    Raises `UserError` where it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stream: TextIO | None = None

    def fact(self, text: str) -> None:
        """Facts are in run.json."""

    def start(self, step: int, steps: int) -> None:
        write_all({self.path: "".join(f"{line}\n" for line in before(self.path, step))})
        try:
            self.stream = self.path.open("a", encoding="utf-8")
        except OSError as error:
            raise self._failed(error) from error

    def step(self, done: Done) -> None:
        self._write({name: value for name, value in asdict(done).items() if value is not None})

    def evaluated(self, found: Evaluation, unit: str) -> None:
        self._write({"step": found.step, "held_out_loss": found.loss, "accuracy": found.accuracy})

    def saved(self, path: Path) -> None:
        """Checkpoints are there to be seen."""

    def stop(self) -> None:
        stream, self.stream = self.stream, None
        if stream is not None:
            try:
                stream.close()
            except OSError as error:
                raise self._failed(error) from error

    def _write(self, record: dict[str, object]) -> None:
        assert self.stream is not None
        try:
            self.stream.write(json.dumps(record) + "\n")
            self.stream.flush()
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> UserError:
        return UserError(f"error: cannot write {self.path}: {error.strerror}")


def before(path: Path, step: int) -> list[str]:
    """The whole lines of a log up to a step, of which a killed process may have left half the last."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [line for line in lines if json.loads(line)["step"] <= step]


class Board:
    """TensorBoard's events. Raises `UserError` where that is not installed."""

    def __init__(self, path: Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UserError("error: --tensorboard needs the package tensorboard, which is not installed: pip install 'mptc[tensorboard]'") from error
        self.make, self.path = SummaryWriter, path
        self.writer: SummaryWriter | None = None

    def fact(self, text: str) -> None:
        """Text is in the other logs."""

    def start(self, step: int, steps: int) -> None:
        self.writer = self.make(str(self.path), purge_step=step + 1)

    def step(self, done: Done) -> None:
        numbers = {"loss": done.loss, "rate": done.rate, "norm": done.norm, "tokens_per_second": done.tokens / done.seconds, "mfu": done.mfu}
        for name, value in numbers.items():
            if value is not None:
                self._add(f"training/{name}", value, done.step)

    def evaluated(self, found: Evaluation, unit: str) -> None:
        self._add("held_out/loss", found.loss, found.step)
        if found.accuracy is not None:
            self._add("held_out/accuracy", found.accuracy, found.step)

    def saved(self, path: Path) -> None:
        """Checkpoints are no numbers."""

    def stop(self) -> None:
        if self.writer is not None:
            self.writer.close()

    def _add(self, name: str, value: float, step: int) -> None:
        assert self.writer is not None
        self.writer.add_scalar(name, value, step)
