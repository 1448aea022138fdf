"""The settings of a training run."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from mptc.runtime.errors import UserError

Value = str | int | float | bool | None

# May change between a run and its resumption without changing what is trained: what the data are is told by their fingerprint.
FREE = ("eval_every", "save_every", "keep", "tensorboard", "memory", "tokenizer", "field", "ids")
FROM_0 = ("warmup", "seed", "threads", "decay")
LEAST = {"length": 2} | dict.fromkeys(("steps", "batch", "accumulate", "eval_every", "save_every", "keep"), 1) | dict.fromkeys(FROM_0, 0)
AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B", re.IGNORECASE)
ONE_OF = {
    "dtype": ("float32", "bfloat16"),
    "device": ("cpu", "cuda"),
    "ids": ("uint8", "uint16", "uint32", "int32", "int64"),
}


@dataclass(frozen=True)
class Settings:
    """`lr` is the peak rate; `final` the part of it that is left at the last step. `threads` 0 leaves torch's own choice.

    `warmup` None is a tenth of the steps, at most 100. `dtype`: in which products are computed, weights stay float32. `accumulate`: in how many
    parts a step's examples go through the model. `memory`: what a step may take, as "8GB". `keep`: how many checkpoints stay. `tokenizer`, `field`,
    `ids`: how data are read.
    """

    seed: int = 0
    steps: int = 1500
    batch: int = 32
    accumulate: int = 1
    length: int = 128
    lr: float = 0.0
    warmup: int | None = None
    final: float = 0.1
    decay: float = 0.1
    clip: float = 1.0
    dtype: str = "float32"
    compile: bool = False
    device: str = "cpu"
    threads: int = 0
    memory: str | None = None
    eval_every: int = 250
    save_every: int = 250
    keep: int = 2
    tensorboard: bool = False
    tokenizer: str | None = None
    field: str = "text"
    ids: str = "uint16"

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


def settings(given: Mapping[str, Value], base: Settings | None = None) -> Settings:
    """`base`, or the defaults, under what was given (None is not given). Raises `UserError` for a value out of range."""
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    chosen = replace(base or Settings(), **changes)
    for name, least in LEAST.items():
        at_least(name, changes.get(name), least)
    for name in ("lr", "clip"):
        value = changes.get(name)
        if value is not None and not 0 < value < math.inf:
            raise UserError(f"error: --{name} is {value:g}; it must be a number above 0")
    for name, words in ONE_OF.items():
        if getattr(chosen, name) not in words:
            raise UserError(f"error: --{name} is {getattr(chosen, name)}; it must be one of {', '.join(words)}")
    if not 0 <= chosen.final <= 1:
        raise UserError(f"error: --final is {chosen.final:g}; it must be from 0 to 1")
    if chosen.warmup is not None and chosen.warmup > chosen.steps:
        raise UserError(f"error: --warmup is {chosen.warmup}; it must be at most {chosen.steps}, the number of steps")
    if chosen.memory is not None:
        amount(chosen.memory)
    if chosen.accumulate > chosen.batch:
        raise UserError(f"error: --accumulate is {chosen.accumulate}; it must be at most {chosen.batch}, the examples in a step")
    return chosen


def amount(text: str) -> int:
    """Bytes, of `8GB` or `512MiB`. Raises `UserError`."""
    found = AMOUNT.fullmatch(text.strip())
    if not found:
        raise UserError(f"error: --memory is {text}; it must be an amount such as 8GB or 512MiB")
    number, prefix, binary = found.groups()
    unit: int = (1024 if binary else 1000) ** " KMGT".index((prefix or " ").upper())
    return round(float(number) * unit)


def at_least(option: str, value: float | None, least: int) -> None:
    """Raise `UserError`, naming the option, for a number below `least` or none at all; None is not given."""
    if value is not None and not value >= least:
        raise UserError(f"error: --{option.replace('_', '-')} is {value:g}; it must be at least {least}")


def default_rate(parameters: int) -> float:
    """A peak rate for a model of this many parameters: 1e-2 up to 100,000, then falling with the cube root (1e-3 at 100 million)."""
    return 1e-2 * min(1.0, (100_000 / parameters) ** (1 / 3)) if parameters else 1e-2
