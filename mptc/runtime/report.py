"""How a training run shows where it is: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO

from mptc.runtime.evaluate import Evaluation

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

EVERY = 50  # steps between plain lines
FEW = 10  # steps that a bar's speed is the mean of


@dataclass(frozen=True)
class Done:
    """One step. `step`: how many are done. `loss`: before its update, `norm` that of its gradient before clipping, `rate` AdamW's.

    `tokens`: how many its batch has; `seconds`: from batch to update. `mfu`: the share of this machine's speed of products, None where that is not
    known.
    """

    step: int
    loss: float
    rate: float
    norm: float
    tokens: int
    seconds: float
    mfu: float | None = None


class Report(Protocol):
    """What the loop tells."""

    def fact(self, text: str) -> None: ...
    def start(self, step: int, steps: int) -> None: ...
    def step(self, done: Done) -> None: ...
    def evaluated(self, found: Evaluation, unit: str) -> None: ...
    def saved(self, path: Path) -> None: ...
    def stop(self) -> None: ...


@dataclass(frozen=True)
class All:
    """Several reports as one."""

    reports: Sequence[Report]

    def fact(self, text: str) -> None:
        for each in self.reports:
            each.fact(text)

    def start(self, step: int, steps: int) -> None:
        for each in self.reports:
            each.start(step, steps)

    def step(self, done: Done) -> None:
        for each in self.reports:
            each.step(done)

    def evaluated(self, found: Evaluation, unit: str) -> None:
        for each in self.reports:
            each.evaluated(found, unit)

    def saved(self, path: Path) -> None:
        for each in self.reports:
            each.saved(path)

    def stop(self) -> None:
        for each in self.reports:
            each.stop()


@dataclass
class Pace:
    """How fast the last steps were."""

    steps: list[Done] = field(default_factory=list)

    def told(self) -> str:
        """Tokens in a second and MFU, over the steps noted."""
        seconds = sum(each.seconds for each in self.steps)
        if not seconds:
            return ""
        shares = [each.mfu * each.seconds for each in self.steps if each.mfu is not None]
        mfu = f"  MFU {sum(shares) / seconds:.0%}" if len(shares) == len(self.steps) else ""
        return f"  {sum(each.tokens for each in self.steps) / seconds:,.0f} tokens/s{mfu}"


class Lines:
    """One line for every `EVERY` steps, with the speed since the line before, each fact and each checkpoint.

    The time left counts evaluations and checkpoints too, as those since the line before took.
    """

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.last, self.then, self.steps = 0, 0.0, 0
        self.pace = Pace()

    def fact(self, text: str) -> None:
        self._line(text)

    def start(self, step: int, steps: int) -> None:
        self.last, self.then, self.steps = step, time.monotonic(), steps
        self._line(f"from step {step} to {steps}")

    def step(self, done: Done) -> None:
        self.pace.steps.append(done)
        if done.step % EVERY == 0:
            now = time.monotonic()
            left = (now - self.then) / (done.step - self.last) * (self.steps - done.step)
            self._line(f"step {done.step:>6}  {_numbers(done)}{self.pace.told()}  {_clock(left)} left")
            self.last, self.then = done.step, now
            self.pace.steps.clear()

    def evaluated(self, found: Evaluation, unit: str) -> None:
        self._line(found.told(unit))

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
        self.pace = Pace()

    def fact(self, text: str) -> None:
        self.bar.console.print(text, highlight=False, markup=False)

    def start(self, step: int, steps: int) -> None:
        self.task = self.bar.add_task("", total=steps, completed=step)
        self.bar.start()

    def step(self, done: Done) -> None:
        assert self.task is not None
        self.pace.steps = [*self.pace.steps[-FEW + 1 :], done]
        self.bar.update(self.task, completed=done.step, description=_numbers(done) + self.pace.told())

    def evaluated(self, found: Evaluation, unit: str) -> None:
        self.fact(found.told(unit))

    def saved(self, path: Path) -> None:
        """The bar keeps silent: a line for each checkpoint would push the losses away."""

    def stop(self) -> None:
        """Give the cursor back, after an error too."""
        self.bar.stop()


def report_to(out: TextIO) -> Lines | Bar:
    """A bar where `out` is a terminal."""
    return Bar() if out.isatty() else Lines(out)


def _numbers(done: Done) -> str:
    return f"loss {done.loss:.4f}  rate {done.rate:.2e}"


def _clock(seconds: float) -> str:
    """1:02:03, or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
