"""Interleaved rounds, and how sure their median is. The one implementation: whatever here is timed against something else is timed by it."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

WARM_UP = 2  # rounds that are not counted
DRAWS = 2000
FEW = 6  # rounds that an interval of their median takes


def timed(
    calls: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.perf_counter, repeats: int = 1
) -> dict[str, list[float]]:
    """Seconds of one call, by name and round. In a round each is called `repeats` times; who goes first changes from round to round."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    for number in range(rounds + WARM_UP):
        for name in order if number % 2 else reversed(order):
            call = calls[name]
            began = clock()
            for _ in range(repeats):
                call()
            if number >= WARM_UP:
                seconds[name].append((clock() - began) / repeats)
    return seconds


def ratios(seconds: Mapping[str, Sequence[float]], ours: str = "ours", theirs: str = "theirs") -> list[float]:
    """Theirs / ours of each round: above 1 ours was the faster one. Both halves of a round see the same machine, so what disturbs it cancels."""
    return [other / own for own, other in zip(seconds[ours], seconds[theirs], strict=True)]


def interval(values: Sequence[float], draws: int = DRAWS) -> tuple[float, float]:
    """The bootstrap's middle 95 % of the median: the medians of rounds drawn anew, with replacement. The same for the same values.

    Of fewer than `FEW` values, which say too little of that, the lowest and the highest.
    """
    if len(values) < FEW:
        return min(values), max(values)
    chance = random.Random(0)  # noqa: S311 -- no secret
    medians = sorted(statistics.median(chance.choices(values, k=len(values))) for _ in range(draws))
    return medians[draws // 40], medians[-draws // 40]
