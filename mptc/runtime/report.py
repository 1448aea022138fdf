"""How a training run shows where it is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

EVERY = 50  # steps between plain lines


class Report(Protocol):
    """What the loop tells. Rates are AdamW's."""

    def fact(self, text: str) -> None: ...
    def start(self, step: int, steps: int) -> None: ...
    def step(self, step: int, loss: float, rate: float) -> None: ...
    def saved(self, path: Path) -> None: ...
    def stop(self) -> None: ...


class Lines:
    """One line for every `EVERY` steps, with the speed since the line before, each fact and each checkpoint."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.last, self.then = 0, 0.0

    def fact(self, text: str) -> None:
        self._line(text)

    def start(self, step: int, steps: int) -> None:
        self.last, self.then = step, time.monotonic()
        self._line(f"from step {step} to {steps}")

    def step(self, step: int, loss: float, rate: float) -> None:
        if step % EVERY == 0:
            now = time.monotonic()
            speed = (step - self.last) / (now - self.then)
            self.last, self.then = step, now
            self._line(f"step {step:>6}  loss {loss:.4f}  rate {rate:.2e}  {speed:.1f} steps/s")

    def saved(self, path: Path) -> None:
        self._line(f"saved {path}")

    def stop(self) -> None:
        """Every line has been written."""

    def _line(self, text: str) -> None:
        print(text, file=self.out, flush=True)


class Bar:
    """A progress bar with time left; facts stand above it."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.bar: Progress = Progress(BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
        self.task: TaskID | None = None

    def fact(self, text: str) -> None:
        self.bar.console.print(text, highlight=False, markup=False)

    def start(self, step: int, steps: int) -> None:
        self.task = self.bar.add_task("", total=steps, completed=step)
        self.bar.start()

    def step(self, step: int, loss: float, rate: float) -> None:
        assert self.task is not None
        self.bar.update(self.task, completed=step, description=f"loss {loss:.4f}  rate {rate:.2e}")

    def saved(self, path: Path) -> None:
        """The bar keeps silent: a line for each checkpoint would push the losses away."""

    def stop(self) -> None:
        """Give the cursor back, after an error too."""
        self.bar.stop()


def report_to(out: TextIO) -> Lines | Bar:
    """A bar where `out` is a terminal."""
    return Bar() if out.isatty() else Lines(out)
