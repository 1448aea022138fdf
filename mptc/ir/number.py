"""Exact numbers: `rational × Π base^power`, the coefficients of the IR.

`sqrt(key) * key^(-1/2)` is exactly 1; a float would leave 1.0000000000000002 in the generated code and break equality of what is equal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from mptc.ir.axis import Axis

Base = Axis | int  # the size of a dim, or a prime under a root


@dataclass(frozen=True, slots=True)
class Monomial:
    """`rational` times a product of dim sizes (any power) and primes (powers between 0 and 1)."""

    rational: Fraction = Fraction(1)
    powers: tuple[tuple[Base, Fraction], ...] = ()

    @staticmethod
    def of(value: int | Fraction | float | Monomial) -> Monomial:
        """A float enters as the decimal that it prints as: 0.3 is 3/10."""
        if isinstance(value, Monomial):
            return value
        return Monomial(Fraction(repr(value)) if isinstance(value, float) else Fraction(value))

    @staticmethod
    def size(axis: Axis) -> Monomial:
        """How long an axis is. Which contexts are as long as the sequence, a program tells."""
        return Monomial(Fraction(1), ((Axis(axis.role, axis.name), Fraction(1)),))

    def __mul__(self, other: Monomial) -> Monomial:
        if not self.powers and not other.powers:
            return Monomial(self.rational * other.rational)
        if not self.rational or not other.rational:
            return ZERO
        powers = dict(self.powers)
        for base, power in other.powers:
            powers[base] = powers.get(base, Fraction(0)) + power
        return _normal(self.rational * other.rational, powers)

    def __neg__(self) -> Monomial:
        return Monomial(-self.rational, self.powers)

    def power(self, exponent: Fraction) -> Monomial | None:
        """This number to a rational power; None where that is not a real monomial (a root of a negative number, 0 to a power below 0)."""
        exponent = Fraction(exponent)
        if exponent == 0:
            return ONE
        if not self.rational:
            return ZERO if exponent > 0 else None
        if exponent.denominator == 1:
            return _normal(self.rational**exponent.numerator, {base: power * exponent for base, power in self.powers})
        if self.rational < 0:
            return None
        powers: dict[Base, Fraction] = {base: power * exponent for base, power in self.powers}
        for number, sign in ((self.rational.numerator, 1), (self.rational.denominator, -1)):
            factors = _factor(number)
            if factors is None:
                return None
            for prime, count in factors.items():
                powers[prime] = powers.get(prime, Fraction(0)) + sign * count * exponent
        return _normal(Fraction(1), powers)

    def over(self, other: Monomial) -> Monomial:
        inverse = other.power(Fraction(-1))
        if inverse is None:
            raise ZeroDivisionError("division by zero")
        return self * inverse

    def evaluate(self, sizes: Mapping[Axis, int]) -> float:
        """The number, with the dims' sizes put in."""
        value = float(self.rational)
        exact = self.resolved(sizes)
        if exact is not None:
            return float(exact)
        for base, power in self.powers:
            value *= float(sizes[base] if isinstance(base, Axis) else base) ** float(power)
        return value

    def resolved(self, sizes: Mapping[Axis, int]) -> Fraction | None:
        """The number as a fraction with the dims' sizes put in; None where it is irrational or a size is not known."""
        value = Monomial(self.rational)
        for base, power in self.powers:
            if isinstance(base, Axis) and base not in sizes:
                return None
            factor = Monomial(Fraction(sizes[base] if isinstance(base, Axis) else base)).power(power)
            if factor is None:
                return None
            value = value * factor
        return None if value.powers else value.rational

    def __str__(self) -> str:
        parts = [f"{base}" if power == 1 else f"{base}^{_exponent(power)}" for base, power in self.powers]
        if self.rational == 1 and parts:
            return " ".join(parts)
        if self.rational == -1 and parts:
            return "-" + " ".join(parts)
        return " ".join([str(self.rational), *parts])


def _exponent(power: Fraction) -> str:
    return str(power) if power.denominator == 1 and power > 0 else f"({power})"


def _normal(rational: Fraction, powers: dict[Base, Fraction]) -> Monomial:
    if not rational:
        return ZERO
    kept: list[tuple[Base, Fraction]] = []
    for base, power in powers.items():
        if isinstance(base, int):
            whole = math.floor(power)
            rational *= Fraction(base) ** whole
            power -= whole
        if power:
            kept.append((base, power))
    kept.sort(key=lambda item: (isinstance(item[0], int), str(item[0])))
    return Monomial(rational, tuple(kept))


def _factor(number: int) -> dict[int, int] | None:
    """Prime factors by trial division; None where what is left has none below 10,000 and is above its square (then it is no monomial for us)."""
    factors: dict[int, int] = {}
    prime = 2
    while prime * prime <= number:
        if prime > 10_000:
            return None
        while number % prime == 0:
            factors[prime] = factors.get(prime, 0) + 1
            number //= prime
        prime += 1 if prime == 2 else 2
    if number > 1:
        factors[number] = factors.get(number, 0) + 1
    return factors


ZERO = Monomial(Fraction(0))
ONE = Monomial(Fraction(1))
