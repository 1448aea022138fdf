"""What is computed by rows: for 128 of the tokens that ask at a time, as the helper `by_rows` does, and once more on the way back.

One chunk is run on the tape, for a number of tokens that ask and of those that they see which stay symbols. What is counted in it is marked by a
third, which stands for all chunks: their sum is taken here, exactly at a length that is known. Where it is not, the length is taken for a multiple of
128, and for that much or more above any window: then sums are polynomials, whose factors are rounded to whole numbers, and exact for products.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

from mptc.cost.polynomial import Polynomial, Powers, product, total

SIZE = 128  # tokens that ask at a time
ASK, SEEN, EACH, MORE = "#ask", "#seen", "#each", "#more"  # EACH marks what every chunk does, MORE what is there of those that came before it
ROWS, OTHERS = Polynomial.symbol(ASK), Polynomial.symbol(MORE)
SUMS: tuple[tuple[Fraction, ...], ...] = (  # Σ of k⁰, k¹, k² for k from 1 to n, as polynomials in n, the constant first
    (Fraction(0), Fraction(1)),
    (Fraction(0), Fraction(1, 2), Fraction(1, 2)),
    (Fraction(0), Fraction(1, 6), Fraction(1, 2), Fraction(1, 3)),
)


@dataclass(frozen=True)
class Sight:
    """What the tokens of a chunk see: all up to the last of them, in a `window` only the last ones of those. `symbol`: how many."""

    window: int | None = None

    @property
    def symbol(self) -> str:
        return SEEN if self.window is None else f"{SEEN} {self.window}"

    def at(self, stop: int, start: int) -> int:
        return stop - (0 if self.window is None else max(0, start - self.window + 1))


def _sight(symbol: str) -> Sight:
    window = symbol.removeprefix(SEEN).strip()
    return Sight(int(window) if window else None)


def chunks(length: int) -> Iterator[tuple[int, int]]:
    """Where each begins and ends."""
    return ((start, min(start + SIZE, length)) for start in range(0, length, SIZE))


def summed(polynomial: Polynomial, length: int | None) -> Polynomial:
    """What is counted, of all chunks together. `length`: of the sequence, where it is known."""
    found: dict[Powers, Fraction] = {}
    for powers, factor in polynomial.terms:
        own, rest = _split(powers)
        if not own:
            found[powers] = found.get(powers, Fraction(0)) + factor
            continue
        for power, times in enumerate(_exactly(own, length) if length is not None else _openly(own)):
            added = tuple(sorted([*rest, ("seq", power)])) if power else rest
            added = _together(added)
            found[added] = found.get(added, Fraction(0)) + factor * times
    return Polynomial.of({powers: round(factor) for powers, factor in found.items()})


def largest_chunk(polynomial: Polynomial, length: int | None) -> list[Polynomial]:
    """What lives while one chunk is computed, of those that may have most: the last, which is the first on the way back, and the one before it."""
    if not any(name.startswith("#") for powers, _ in polynomial.terms for name, _ in powers):
        return [polynomial]
    if length is None:
        behind = Polynomial.symbol("seq") + Polynomial.number(-SIZE)
        return [_put(polynomial, {ASK: SIZE, MORE: more}, partial(_open, seen)) for more, seen in ((0, Polynomial.symbol("seq")), (1, behind))]
    found = []
    for start, stop in list(chunks(length))[-2:]:
        found.append(_put(polynomial, {ASK: stop - start, MORE: int(stop < length)}, partial(_known, start, stop)))
    return found


def _open(seen: Polynomial, sight: Sight) -> Polynomial:
    return seen if sight.window is None else Polynomial.number(sight.window + SIZE - 1)


def _known(start: int, stop: int, sight: Sight) -> Polynomial:
    return Polynomial.number(sight.at(stop, start))


def _put(polynomial: Polynomial, numbers: Mapping[str, int], seen: Callable[[Sight], Polynomial]) -> Polynomial:
    parts = []
    for powers, factor in polynomial.at(numbers).terms:
        own, rest = _split(powers)
        views = [seen(_sight(symbol)) for symbol, power in own.items() for _ in range(power)]
        parts.append(Polynomial(((rest, factor),)) * product(views))
    return total(parts)


def _split(powers: Powers) -> tuple[dict[str, int], Powers]:
    """The symbols of a chunk, and the others."""
    return {name: power for name, power in powers if name.startswith("#")}, tuple(each for each in powers if not each[0].startswith("#"))


def _together(powers: Powers) -> Powers:
    found: dict[str, int] = {}
    for name, power in powers:
        found[name] = found.get(name, 0) + power
    return tuple(sorted(found.items()))


def _exactly(own: dict[str, int], length: int) -> list[Fraction]:
    result = 0
    for start, stop in chunks(length):
        part = (stop - start) ** own.get(ASK, 0)
        for symbol, power in own.items():
            part *= _sight(symbol).at(stop, start) ** power if symbol.startswith(SEEN) else 1
        result += part
    return [Fraction(result)]


def _openly(own: dict[str, int]) -> list[Fraction]:
    """Factors of the powers of `seq`: chunks of 128, of which the k-th sees 128 k, or what its window leaves of that."""
    power = sum(each for symbol, each in own.items() if symbol == SEEN)
    windows = {_sight(symbol).window: each for symbol, each in own.items() if symbol.startswith(f"{SEEN} ")}
    asking = SIZE ** own.get(ASK, 0)
    factors = [asking * SIZE**power * factor / Fraction(SIZE) ** place for place, factor in enumerate(SUMS[power])]
    for window, each in windows.items():
        assert window is not None
        assert not power, "a region sees along one window"
        wide = window + SIZE - 1
        short = [SIZE * count for count in range(1, 1 + wide // SIZE)]  # before the window is full
        factors = [asking * Fraction(sum(seen**each - wide**each for seen in short)), Fraction(asking * wide**each, SIZE)]
    return factors
