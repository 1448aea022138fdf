"""What is computed by rows: for 128 of the tokens that ask at a time, as the helper `by_rows` does, and once more on the way back.

One chunk is run on the tape, for a number of tokens that ask and of those that they see which stay symbols. What is counted in it is marked by a third,
which stands for all chunks: their sum is taken here, exactly at a length that is known. Where it is not, as if it were a multiple of 128, and longer than
any window: then sums are polynomials, whose factors are rounded to whole numbers; at such lengths products come out exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from mptc.cost.polynomial import Polynomial, Powers, total

SIZE = 128  # tokens that ask at a time
ASK, SEEN, EACH = "#ask", "#seen", "#each"  # of one chunk; EACH marks what every chunk does
ROWS = Polynomial.symbol(ASK)
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
    """What lives while one chunk is computed, of those that may have most: the last two."""
    if not any(name.startswith("#") for powers, _ in polynomial.terms for name, _ in powers):
        return [polynomial]
    if length is None:
        return [_put(polynomial, lambda sight: Polynomial.symbol("seq") if sight.window is None else Polynomial.number(sight.window + SIZE - 1), SIZE)]
    found = []
    for start, stop in list(chunks(length))[-2:]:
        found.append(_put(polynomial, lambda sight, start=start, stop=stop: Polynomial.number(sight.at(stop, start)), stop - start))  # type: ignore[misc]
    return found


def _put(polynomial: Polynomial, seen: Callable[[Sight], Polynomial], asking: int) -> Polynomial:
    parts = []
    for powers, factor in polynomial.terms:
        own, rest = _split(powers)
        part = Polynomial(((rest, factor * asking ** own.pop(ASK, 0)),))
        for symbol, power in own.items():
            for _ in range(power):
                part = part * seen(_sight(symbol))
        parts.append(part)
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
