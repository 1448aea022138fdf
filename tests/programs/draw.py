"""Choices: by hypothesis, which can shrink them, or by a seed. The first of several is the simplest."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


class Draw:
    """`integer(low, high)`: any whole number between the two, both included."""

    def __init__(self, integer: Callable[[int, int], int]) -> None:
        self.integer = integer

    @classmethod
    def seeded(cls, seed: int) -> Draw:
        return cls(random.Random(seed).randint)

    def chance(self, percent: int) -> bool:
        return self.integer(0, 99) >= 100 - percent

    def choice(self, several: Sequence[T]) -> T:
        return several[0] if len(several) == 1 else several[self.integer(0, len(several) - 1)]

    def weighted(self, several: Sequence[tuple[int, T]]) -> T:
        place = self.integer(0, sum(weight for weight, _ in several) - 1)
        for weight, item in several:
            place -= weight
            if place < 0:
                return item
        raise AssertionError(several)

    def some(self, several: Sequence[T], least: int, most: int) -> list[T]:
        """So many of them, in their order."""
        left = list(several)
        count = self.integer(min(least, len(left)), min(most, len(left)))
        while len(left) > count:
            left.pop(self.integer(0, len(left) - 1))
        return left
