"""The two that are timed, on the same inputs: what a call of each is, how far their answers are apart, how long they take."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mptc.runtime.bench.by_hand import fed, guarded
from mptc.runtime.bench.job import Job
from mptc.runtime.bench.peak import peak
from mptc.runtime.bench.report import Figures, Row
from mptc.runtime.bench.rounds import interval, ratios, timed
from mptc.runtime.errors import UserError

MOST = 1e-4  # that answers in float32 may differ by, as a part of the largest magnitude
SMALL = 1e-3  # of the largest gradient: below it, what is left of terms that cancel is rounding
SHORTEST = 0.01  # seconds that one side of a round takes at least, by calling it more often
MOST_CALLS = 100


@dataclass(frozen=True, eq=False)
class Side:
    """`call` is the module, compiled or not; `feed` what it is called with; `leaves` what has a gradient, by name; `names` the spec's outputs."""

    what: str
    call: Callable[..., Any]
    feed: Mapping[str, Any]
    leaves: Mapping[str, Tensor]
    names: tuple[str, ...]
    slopes: list[Tensor]

    def outputs(self) -> dict[str, Tensor]:
        """Of a call without gradients, by the spec's names."""
        with torch.no_grad():
            return named(self.call(**self.feed), self.names)

    def forward(self) -> object:
        with torch.no_grad():
            return self.call(**self.feed)

    def both(self) -> tuple[Tensor | None, ...]:
        """Forward, and the gradients of all leaves, along the same random slope of the outputs in each call."""
        found = [value for value in named(self.call(**self.feed), self.names).values() if value.requires_grad]
        if not self.slopes:
            chance = torch.Generator().manual_seed(0)
            self.slopes.extend(torch.randn(value.shape, generator=chance).to(value.device, value.dtype) for value in found)
        return torch.autograd.grad(found, list(self.leaves.values()), self.slopes, allow_unused=True)


def named(result: object, names: tuple[str, ...]) -> dict[str, Tensor]:
    """The tensors of a result: one, or those of a mapping or a named tuple that are called like the spec's outputs, or else all, in order."""
    if isinstance(result, Tensor):
        return dict(zip(names, [result], strict=False))
    record = result._asdict() if hasattr(result, "_asdict") else result
    if isinstance(record, Mapping) and all(isinstance(record.get(name), Tensor) for name in names):
        return {name: record[name] for name in names}
    parts = list(record.values()) if isinstance(record, Mapping) else list(record) if isinstance(record, tuple | list) else []
    tensors = [part for part in parts if isinstance(part, Tensor)]
    return dict(zip([*names, *(f"result {place}" for place in range(len(names), len(tensors)))], tensors, strict=False))


def pair(
    job: Job, ours: nn.Module, theirs: nn.Module | None, given: dict[str, Tensor], seq: int, names: tuple[str, ...], compiled: bool
) -> Pair:
    """Both sides. An input has a gradient where it is a number and is handed on to both as it is."""
    if compiled:
        torch._dynamo.reset()  # noqa: SLF001 -- each length is compiled for itself, as if it were the only one
    modules, feeds = {"ours": ours}, {"ours": dict[str, Any](given)}
    if theirs is not None:
        modules["theirs"], feeds["theirs"] = theirs, fed(theirs, job, given)
    free = [name for name, value in given.items() if value.is_floating_point() and all(_holds(feed, value) for feed in feeds.values())]
    for name in free:
        given[name].requires_grad_()
    shared = {name: given[name] for name in free}
    return Pair({key: _side(job, key, module, feeds[key], shared, names, compiled) for key, module in modules.items()}, seq)


def _side(
    job: Job, key: str, module: nn.Module, feed: Mapping[str, Any], free: Mapping[str, Tensor], names: tuple[str, ...], compiled: bool
) -> Side:
    leaves = {**{f"input {name}": value for name, value in free.items()}, **{name: p for name, p in module.named_parameters() if p.requires_grad}}
    call = torch.compile(module, dynamic=False) if compiled else module
    return Side("the spec's module" if key == "ours" else str(job.against), call, feed, leaves, names, [])


def _holds(feed: Mapping[str, Any], value: Tensor) -> bool:
    return any(each is value for each in feed.values())


@dataclass(frozen=True, eq=False)
class Pair:
    """`ours`, and `theirs` where there is one, at so many tokens."""

    sides: dict[str, Side]
    seq: int

    def rows(self, job: Job) -> list[Row]:
        """Forward, and forward and backward where that is asked for and there is something to differentiate."""
        directions: dict[str, dict[str, Callable[[], object]]] = {"forward": {key: side.forward for key, side in self.sides.items()}}
        if not job.forward_only and all(side.leaves for side in self.sides.values()):
            directions["forward+backward"] = {key: side.both for key, side in self.sides.items()}
        return [self._row(name, calls, job) for name, calls in directions.items()]

    def _row(self, direction: str, calls: Mapping[str, Callable[[], object]], job: Job) -> Row:
        clock = _clock(job.device)
        for key, call in calls.items():
            guarded(f"{self.sides[key].what} failed", call)  # compiled here, too
        began = clock()
        calls["ours"]()
        repeats = min(MOST_CALLS, max(1, math.ceil(SHORTEST / max(clock() - began, 1e-9))))
        seconds = timed(calls, job.rounds, clock, repeats)
        figures = {key: Figures(statistics.median(seconds[key]), *interval(seconds[key]), peak(call, job.device)) for key, call in calls.items()}
        if "theirs" not in figures:
            return Row(direction, job.batch, self.seq, figures["ours"])
        found = ratios(seconds)
        return Row(direction, job.batch, self.seq, figures["ours"], figures["theirs"], statistics.median(found), *interval(found))


def _clock(device: str) -> Callable[[], float]:
    """Seconds, once all that was asked of the device is done."""

    def settled() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return settled if device == "cuda" else time.perf_counter


# -- answers -----------------------------------------------------------------------------------------------


def differences(both: Pair, map: Mapping[str, str]) -> Iterator[tuple[str, float]]:
    """How far outputs and gradients are apart, each by name, as parts of the largest magnitude. Raises `UserError` where they cannot be compared."""
    ours, theirs = both.sides["ours"], both.sides["theirs"]
    found, wanted = (guarded(f"{side.what} failed", side.outputs) for side in (ours, theirs))
    for name, value in found.items():
        other = wanted.get(name)
        if other is None or other.numel() != value.numel():
            given = "nothing" if other is None else str(list(other.shape))
            raise UserError(f"error: {theirs.what} gives {given} for output {name}, which is {list(value.shape)}")
        yield f"output {name}", _apart(value, other, 0.0)
    slopes = {side.what: guarded(f"{side.what} failed", side.both) for side in (ours, theirs)}
    own = dict(zip(ours.leaves, slopes[ours.what], strict=True))
    its = dict(zip(theirs.leaves, slopes[theirs.what], strict=True))
    largest = max((float(value.abs().max()) for value in own.values() if value is not None and value.numel()), default=0.0)
    for name, slope in own.items():
        its_slope = its.get(map.get(name, name))
        if slope is not None or its_slope is not None:
            whole = torch.zeros_like(ours.leaves[name]) if slope is None else slope
            yield f"the gradient of {name}", _apart(whole, torch.zeros_like(whole) if its_slope is None else its_slope, SMALL * largest)


def _apart(found: Tensor, wanted: Tensor, least: float) -> float:
    """As a part of the largest magnitude, or of `least` where that is more; infinite where one has what is not finite and the other has not."""
    found, wanted = found.detach().double(), wanted.detach().double().reshape(found.shape)
    finite = torch.isfinite(wanted)
    if not torch.equal(torch.isfinite(found), finite):
        return math.inf
    scale = max(float(wanted[finite].abs().max()) if bool(finite.any()) else 0.0, least, 1e-12)
    return float((found - wanted)[finite].abs().max()) / scale if bool(finite.any()) else 0.0
