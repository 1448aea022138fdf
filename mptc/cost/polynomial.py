"""Exact polynomials in the lengths that a spec leaves open: `2.1e6·batch·seq + 512·batch·seq²`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

Powers = tuple[tuple[str, int], ...]  # of each symbol that is there, sorted by name

SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB")
EXACT = 1_000_000  # coefficients below it are printed whole


@dataclass(frozen=True, slots=True)
class Polynomial:
    """A sum of whole multiples of products of symbols, sorted by those; no multiple is 0."""

    terms: tuple[tuple[Powers, int], ...] = ()

    @staticmethod
    def of(terms: Mapping[Powers, int]) -> Polynomial:
        return Polynomial(tuple(sorted((powers, factor) for powers, factor in terms.items() if factor)))

    @staticmethod
    def number(value: int) -> Polynomial:
        return Polynomial((((), value),)) if value else ZERO

    @staticmethod
    def symbol(name: str) -> Polynomial:
        return Polynomial(((((name, 1),), 1),))

    def __add__(self, other: Polynomial) -> Polynomial:
        return total((self, other))

    def __neg__(self) -> Polynomial:
        return self.times(-1)

    def __mul__(self, other: Polynomial) -> Polynomial:
        found: dict[Powers, int] = {}
        for mine, factor in self.terms:
            for theirs, by in other.terms:
                powers = joined(mine, theirs)
                found[powers] = found.get(powers, 0) + factor * by
        return Polynomial.of(found)

    def times(self, factor: int) -> Polynomial:
        return Polynomial(tuple((powers, own * factor) for powers, own in self.terms)) if factor else ZERO

    def at(self, lengths: Mapping[str, int]) -> Polynomial:
        """With numbers in the place of some symbols."""
        found: dict[Powers, int] = {}
        for powers, factor in self.terms:
            for name, power in powers:
                factor *= lengths[name] ** power if name in lengths else 1
            left = tuple((name, power) for name, power in powers if name not in lengths)
            found[left] = found.get(left, 0) + factor
        return Polynomial.of(found)

    @property
    def value(self) -> int | None:
        """The number that it is; None where symbols are left."""
        if any(powers for powers, _ in self.terms):
            return None
        return sum(factor for _, factor in self.terms)

    def within(self, other: Polynomial) -> bool:
        """Whether no multiple is above the other's: then it is nowhere larger, for symbols from 0 on."""
        mine, above = dict(self.terms), dict(other.terms)
        return all(mine.get(powers, 0) <= above.get(powers, 0) for powers in {*mine, *above})

    def shifted(self) -> Polynomial:
        """With each symbol 1 longer: a polynomial in what lengths are above 1, the least that they are."""
        parts = []
        for powers, factor in self.terms:
            part = Polynomial.number(factor)
            for name, power in powers:
                part = part * product([ONE + Polynomial.symbol(name)] * power)
            parts.append(part)
        return total(parts)

    def __str__(self) -> str:
        return self.text(short)

    def text(self, number: Callable[[int], str]) -> str:
        """Highest powers first; `number` writes what stands before them."""
        ordered = sorted(self.terms, key=lambda term: (-sum(power for _, power in term[0]), [(name, -power) for name, power in term[0]]))
        result = ""
        for powers, factor in ordered:
            sign = " − " if factor < 0 else " + "
            result += (sign if result else sign.strip(" +")) + _term(powers, abs(factor), number)
        return result or "0"


ZERO = Polynomial()
ONE = Polynomial((((), 1),))


def total(parts: Iterable[Polynomial]) -> Polynomial:
    found: dict[Powers, int] = {}
    for part in parts:
        for powers, factor in part.terms:
            found[powers] = found.get(powers, 0) + factor
    return Polynomial.of(found)


def product(parts: Iterable[Polynomial]) -> Polynomial:
    result = ONE
    for part in parts:
        result = result * part
    return result


def joined(left: Powers, right: Powers) -> Powers:
    """The powers of a product."""
    if not left or not right:
        return left or right
    found = dict(left)
    for name, power in right:
        found[name] = found.get(name, 0) + power
    return tuple(sorted(found.items()))


def short(number: int) -> str:
    """A number for people: whole below a million, `2.1e6` from there."""
    if abs(number) < EXACT:
        return f"{number:,}"
    digits, _, power = f"{number:.2e}".partition("e")
    return f"{digits.rstrip('0').rstrip('.')}e{int(power)}"


def sized(number: int) -> str:
    """Bytes for people, in the largest unit of which there is one, with three digits."""
    amount, unit = float(number), "B"
    for larger in UNITS:
        if amount < 1000:
            break
        amount, unit = amount / 1024, larger
    return f"{amount:.3g} {unit}"


def _term(powers: Powers, factor: int, number: Callable[[int], str]) -> str:
    symbols = [name + (str(power).translate(SUPERSCRIPTS) if power > 1 else "") for name, power in powers]
    return "·".join([number(factor), *symbols] if factor != 1 or not symbols else symbols)
