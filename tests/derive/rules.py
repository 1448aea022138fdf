"""Every rule of the calculus as two sides of an equation, and what looks like it and is not: there the condition is missing."""

from tests.derive import exponents, products, tokens
from tests.derive.rule import RULES, Rule, Variables

__all__ = ["RULES", "Rule", "Variables", "exponents", "products", "tokens"]
