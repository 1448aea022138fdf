"""Dims and consts: exact, overridden from outside, the nearest declaration first."""

from __future__ import annotations

from fractions import Fraction

import pytest

from mptc.ir.axis import dim
from mptc.ir.number import Monomial
from mptc.model import tree

LOOPS = "model m {\n  input x: []\n  stack n + 1 as s { x <- 2 * x }\n  repeat 2 * n { x <- x + 1 }\n  output y = c * x\n}\n"
MODEL = "model m {\n  input x: []\n  output y = c * x\n}\n"


def const(model: tree.Model | None) -> Monomial:
    assert model is not None
    bind = next(each for each in model.body if isinstance(each, tree.Bind))
    assert isinstance(bind.value, tree.Apply)
    number = bind.value.args[0]
    assert isinstance(number, tree.Number)
    return number.value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.1 + 0.2", Fraction(3, 10)),
        ("2 ^ 10 / 3", Fraction(1024, 3)),
        ("-2 ^ 2", Fraction(-4)),
        ("ceil(7 / 2) - floor(7 / 2)", Fraction(1)),
        ("sqrt(16) + 9 ^ 0.5", Fraction(7)),
        ("2 ^ 0.5 * 2 ^ 0.5", Fraction(2)),
        ("1e-6 * 1_000_000", Fraction(1)),
    ],
)
def test_exact(sound, text: str, value: Fraction) -> None:
    assert const(sound(f"const c = {text}\n{MODEL}")) == Monomial(value)


def test_order_of_declaration_does_not_matter(sound) -> None:
    model = sound("const c = a * 2\nconst a = b + 1\ndim b = 4\n" + MODEL)
    assert const(model) == Monomial(Fraction(10))


def test_a_dim_as_a_number_keeps_its_name(sound) -> None:
    assert const(sound("dim c = 4\n" + MODEL)) == Monomial.size(dim("c"))


@pytest.mark.parametrize(("value", "expected"), [("6", 6), ("2 * b", 8), ("1.5", Fraction(3, 2)), ("ceil(b / 3)", 2), ("-1", -1), ("1_0", 10)])
def test_set(sound, value: str, expected: Fraction) -> None:
    model = sound("const c = 1\ndim b = 4\n" + MODEL, {"c": value})
    assert const(model) == Monomial(Fraction(expected))


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"cc": "1"}, "E0801"),
        ({"c": "one two"}, "E0803"),
        ({"c": ""}, "E0803"),
        ({"c": "1\nconst k = 2"}, "E0803"),
        ({"c": "__import__('os')"}, "E0803"),
        ({"c": "tanh(1)"}, "E0803"),
        ({"c": "nothing"}, "E0201"),
        ({"b": "0.5"}, "E0217"),
        ({"b": "-4"}, "E0217"),
        ({"b": "1e30"}, "E0217"),
        ({"c": "c"}, "E0218"),
        ({"f": "1"}, "E0804"),
        ({"v": "1"}, "E0804"),
    ],
)
def test_set_refused(refused, settings: dict[str, str], code: str) -> None:
    text = "const c = 1\ndim b = 4\nblock f(x: []) { return x }\ntypes t of v { p = 1, q = 2 }\n" + MODEL
    assert [found for found, _ in refused(text, settings)] == [code]


def test_types_declare_their_parts_their_sum_and_their_number(sound) -> None:
    model = sound("types kind of vocab { text = 30, image = 12 }\nconst c = vocab - kind\n" + MODEL, {"image": "20"})
    assert const(model) == Monomial(Fraction(48))
    assert {axis.name: size for axis, size in model.sizes.items()} == {"kind": 2, "vocab": 50, "text": 30, "image": 20}
    assert model.partitions == {dim("vocab"): (dim("text"), dim("image"))}


def test_variant_then_set(sound) -> None:
    text = "const c = a + b\nconst a = 1\nconst b = 2\nvariant big { a = 10, b = 2 * a }\n" + MODEL
    assert const(sound(text)) == Monomial(Fraction(3))
    assert const(sound(text, variant="big")) == Monomial(Fraction(30))
    assert const(sound(text, {"a": "5"}, "big")) == Monomial(Fraction(15))


def test_counts_follow(sound) -> None:
    model = sound("const n = 3\nconst c = 1\n" + LOOPS, {"n": "5"})
    counts = [each.count for each in model.body if isinstance(each, tree.Stack | tree.Repeat)]
    assert counts == [6, 10]
