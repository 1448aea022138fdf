"""Contracts and sums in the listing of the IR: the mathematics, with exact coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from mptc.ir.axis import Axis
from mptc.ir.node import Node
from mptc.ir.number import ONE, Monomial

if TYPE_CHECKING:
    from mptc.ops.contract import Contract, Label, Operand, Sum


def listed_contract(self: Contract, node: Node, names: Sequence[str]) -> str:
    """`-1/2 · Σ_{key} %3[batch, seq, key] %4[head, key]^(1/2)`; labels are left out where they are the operands' own axes and none is summed."""
    letters = _letters(self, node)
    relabelled = self.bound or any(operand.labels != arg.axes for operand, arg in zip(self.operands, node.args, strict=True))
    factors = [_factor(operand, name, letters if relabelled else {}) for operand, name in zip(self.operands, names, strict=True)]
    if self.bound:
        factors.insert(0, "Σ_{" + ", ".join(letters[label] for label in self.bound) + "}")
    return _scaled(self.coef, " ".join(factors))


def _factor(operand: Operand, name: str, letters: dict[Label, str]) -> str:
    labels = f"[{', '.join(letters[label] for label in operand.labels)}]" if letters else ""
    return name + labels + ("" if operand.power == 1 else f"^{_exponent(operand.power)}")


def _exponent(power: Fraction) -> str:
    return str(power) if power.denominator == 1 and power > 0 else f"({power})"


def _letters(self: Contract, node: Node) -> dict[Label, str]:
    """A name for each label: its axis, ticked where that is taken."""
    taken: set[Axis] = set(node.axes)
    found: dict[Label, str] = {}
    for label, axis in self.label_axes(arg.type for arg in node.args).items():
        while isinstance(label, int) and axis in taken:
            axis = Axis(axis.role, axis.name, axis.tick + 1)
        taken.add(axis)
        found[label] = str(axis)
    return found


def _scaled(coef: Monomial, text: str) -> str:
    if not text or coef == ONE:
        return text or str(coef)
    return f"-{text}" if coef == -ONE else f"{coef} · {text}"


def listed_sum(self: Sum, names: Sequence[str]) -> str:
    """`%1 - 2 · %2`"""
    text = ""
    for coef, name in zip(self.coefs, names, strict=True):
        minus = coef.rational < 0
        term = _scaled(-coef if minus else coef, name)
        text += (" - " if minus else " + ") + term if text else ("-" if minus else "") + term
    return text
