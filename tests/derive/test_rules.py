"""Each rule holds in value, fires, and makes both sides of its equation one node; where its condition is missing it refuses, and the value stays."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mptc.derive
from mptc.derive.calculus import Calculus
from mptc.interpret import Lengths, interpret
from mptc.ir.axis import Axis
from mptc.ir.node import Node
from mptc.ops.sample import SIZES as SAMPLE_SIZES
from tests.derive.rule import H, Sides, Variables
from tests.derive.rules import RULES

SIZES = Lengths({**SAMPLE_SIZES, H: 2})
Alike = tuple[Axis, ...]


def cases(kind: str) -> Any:
    found: list[Any] = []
    for rule in RULES:
        for place, sides in enumerate(getattr(rule, kind)):
            found += [pytest.param(rule.name, sides, alike, id=f"{rule.name}-{place}-{','.join(map(str, alike)) or 'alone'}") for alike in rule.alike]
    return pytest.mark.parametrize(("name", "sides", "alike"), found)


def made(sides: Sides, alike: Alike) -> tuple[Variables, Node, Node]:
    variables = Variables(alike, SIZES, seed=len(alike))
    return variables, *sides(variables)


def same_value(variables: Variables, calculus: Calculus, *nodes: Node) -> None:
    """In float64: as written, and as the calculus has it; what one has no axis for is constant along it."""
    with np.errstate(all="ignore"):
        values = interpret(nodes, variables.given(calculus.canonical), SIZES)
    axes = sorted({axis for node in nodes for axis in node.axes})
    lacking = [[place for place, axis in enumerate(axes) if axis not in node.axes] for node in nodes]
    first, *others = (np.expand_dims(value, places) for value, places in zip(values, lacking, strict=True))
    for other in others:
        np.testing.assert_allclose(*np.broadcast_arrays(first, other), rtol=1e-12, atol=1e-12)


@cases("holds")
def test_holds(name: str, sides: Sides, alike: Alike) -> None:
    variables, left, right = made(sides, alike)
    calculus = Calculus(dict(SIZES))
    canonical = calculus.canonical(left)
    assert calculus.fired[name], f"{name!r} did not fire, but {dict(calculus.fired)}"
    assert calculus.canonical(right) is canonical
    same_value(variables, calculus, left, right, canonical)


@cases("refuses")
def test_refuses(name: str, sides: Sides, alike: Alike) -> None:
    variables, left, right = made(sides, alike)
    calculus = Calculus(dict(SIZES))
    canonical = calculus.canonical(left)
    same_value(variables, calculus, left, canonical)
    assert calculus.canonical(right) is not canonical


def test_every_rule_has_a_case() -> None:
    assert set(fired_in_source()) == {rule.name for rule in RULES}


def fired_in_source() -> Iterator[str]:
    """The names that rules are fired under."""
    for path in Path(mptc.derive.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "fire":
                (name,) = node.args
                assert isinstance(name, ast.Constant) and isinstance(name.value, str), "a rule is fired under a name that is written out"
                yield name.value
