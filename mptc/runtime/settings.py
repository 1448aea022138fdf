"""The numbers of a training run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from mptc.runtime.errors import UserError

# May change between a run and its resumption without changing what is trained.
FREE = ("eval_every", "save_every")
LEAST = {"steps": 1, "batch": 1, "length": 2, "warmup": 0, "eval_every": 1, "save_every": 1, "seed": 0, "threads": 0}


@dataclass(frozen=True)
class Settings:
    """`lr` is the peak rate; `final` the part of it that is left at the last step. `threads` 0 leaves torch's own choice.

    `warmup` None is a tenth of the steps, at most 100.
    """

    seed: int = 0
    steps: int = 1500
    batch: int = 32
    length: int = 128
    lr: float = 0.0
    warmup: int | None = None
    final: float = 0.1
    decay: float = 0.1
    clip: float = 1.0
    eval_every: int = 250
    save_every: int = 250
    threads: int = 0

    def rate(self, step: int) -> float:
        """Linear warm-up, then half a cosine down to `final` of the peak. `step` counts from 0."""
        warmup = min(100, max(self.steps // 10, 1)) if self.warmup is None else self.warmup
        if step < warmup:
            return self.lr * (step + 1) / warmup
        done = (step - warmup) / max(self.steps - warmup, 1)
        return self.lr * (self.final + (1 - self.final) * (1 + math.cos(math.pi * done)) / 2)

    def differences(self, other: Settings) -> list[tuple[str, object, object]]:
        """Name, value here and value there of what both must agree on."""
        here, there = asdict(self), asdict(other)
        return [(name, here[name], there[name]) for name in here if name not in FREE]


def settings(given: Mapping[str, int | float | None], base: Settings | None = None) -> Settings:
    """`base`, or the defaults, under what was given (None is not given). Raises `UserError` for a number out of range."""
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    chosen = replace(base or Settings(), **changes)
    for name, least in LEAST.items():
        at_least(name, given.get(name), least)
    lr = given.get("lr")
    if lr is not None and not 0 < lr < math.inf:
        raise UserError(f"error: --lr is {lr:g}; it must be a number above 0")
    if chosen.warmup is not None and chosen.warmup > chosen.steps:
        raise UserError(f"error: --warmup is {chosen.warmup}; it must be at most {chosen.steps}, the number of steps")
    return chosen


def at_least(option: str, value: float | None, least: int) -> None:
    """Raise `UserError`, naming the option, for a number below `least` or none at all; None is not given."""
    if value is not None and not value >= least:
        raise UserError(f"error: --{option.replace('_', '-')} is {value:g}; it must be at least {least}")


def default_rate(parameters: int) -> float:
    """A peak rate for a model of this many parameters: 1e-2 up to 100,000, then falling with the cube root (1e-3 at 100 million)."""
    return 1e-2 * min(1.0, (100_000 / parameters) ** (1 / 3)) if parameters else 1e-2
