"""What texts mean: precedence, newlines, reserved words, every construct."""

from __future__ import annotations

import re
import textwrap
from fractions import Fraction
from pathlib import Path

import pytest

from mptc.resources import prelude_dir
from mptc.source.diagnostic import Diagnostics
from mptc.source.render import render
from mptc.source.text import Source
from mptc.syntax import tree
from mptc.syntax.parse import parse
from mptc.syntax.unparse import show, unparse

HERE = Path(__file__).parent


def read(text: str) -> tree.File:
    diagnostics = Diagnostics()
    file = parse(Source("test.mpt", text), diagnostics)
    assert file is not None, "\n".join(map(render, diagnostics.found))
    return file


def body(text: str) -> tuple[tree.Statement, ...]:
    declaration = read(f"model m {{\n{text}\n}}\n").declarations[0]
    assert isinstance(declaration, tree.Model)
    return declaration.body


def expr(text: str) -> tree.Expr:
    (statement,) = body(f"y = ({text})")
    assert isinstance(statement, tree.Bind)
    return statement.value


def spelled(one: tree.Expr) -> str:
    """An expression with all of its parentheses."""
    if isinstance(one, tree.Binary):
        return f"({spelled(one.left)} {one.operator} {spelled(one.right)})"
    if isinstance(one, tree.Negate):
        return f"(-{spelled(one.operand)})"
    return show(one)


# What was written; with all parentheses; in the canonical spelling.
PRECEDENCE = [
    ("a ^ b ^ c", "(a ^ (b ^ c))", "a^b^c"),
    ("(a ^ b) ^ c", "((a ^ b) ^ c)", "(a^b)^c"),
    ("a @ b @ c", "(a @ (b @ c))", "a @ b @ c"),
    ("(a @ b) @ c", "((a @ b) @ c)", "(a @ b) @ c"),
    ("a @ b ^ c", "(a @ (b ^ c))", "a @ b^c"),
    ("a ^ b @ c", "((a ^ b) @ c)", "a^b @ c"),
    ("-a @ b", "(-(a @ b))", "-a @ b"),
    ("(-a) @ b", "((-a) @ b)", "(-a) @ b"),
    ("-a ^ b", "(-(a ^ b))", "-a^b"),
    ("a ^ -b", "(a ^ (-b))", "a^-b"),
    ("a ^ -b ^ c", "(a ^ (-(b ^ c)))", "a^-b^c"),
    ("a ^ -b @ c", "((a ^ (-b)) @ c)", "a^-b @ c"),
    ("a ^ (-b @ c)", "(a ^ (-(b @ c)))", "a^-(b @ c)"),
    ("a @ -b @ c", "(a @ (-(b @ c)))", "a @ -b @ c"),
    ("a @ -b * c", "((a @ (-b)) * c)", "a @ -b * c"),
    ("a @ (-(b * c))", "(a @ (-(b * c)))", "a @ -(b * c)"),
    ("-a * b", "((-a) * b)", "-a * b"),
    ("-(a * b)", "(-(a * b))", "-(a * b)"),
    ("a * -b", "(a * (-b))", "a * -b"),
    ("a - -b", "(a - (-b))", "a - -b"),
    ("- - a", "(-(-a))", "--a"),
    ("a * b @ c", "(a * (b @ c))", "a * b @ c"),
    ("a / b / c", "((a / b) / c)", "a / b / c"),
    ("a / (b * c)", "(a / (b * c))", "a / (b * c)"),
    ("a + b * c - d", "((a + (b * c)) - d)", "a + b * c - d"),
    ("a - (b - c)", "(a - (b - c))", "a - (b - c)"),
    ("a + b < c * d", "((a + b) < (c * d))", "a + b < c * d"),
    ("(a < b) < c", "((a < b) < c)", "(a < b) < c"),
    ("a < -b", "(a < (-b))", "a < -b"),
    ("ids + 1 in a", "((ids + 1) in a)", "ids + 1 in a"),
    ("(x in a) * b", "((x in a) * b)", "(x in a) * b"),
    ("W @ f(x) as last", "(W @ f(x) as last)", "W @ f(x) as last"),
    ("-f(x) as y * 2", "((-f(x) as y) * 2)", "-f(x) as y * 2"),
    ("a * q[d -> e] ^ 2", "(a * (q[d -> e] ^ 2))", "a * q[d -> e]^2"),
    ("(a * q)[d -> e]", "(a * q)[d -> e]", "(a * q)[d -> e]"),
    ("f(x) as y[d -> e]", "f(x) as y[d -> e]", "f(x) as y[d -> e]"),
    ("f[d -> e](x)[a -> b]", "f[d -> e](x)[a -> b]", "f[d -> e](x)[a -> b]"),
    ("q[a -> b, c -> d][e -> f]", "q[a -> b, c -> d][e -> f]", "q[a -> b, c -> d][e -> f]"),
    ("-grad E(x | c, b) as n", "(-grad E(x | c, b) as n)", "-grad E(x | c, b) as n"),
    ("a * integral(silu)(b + c)", "(a * integral(silu)(b + c))", "a * integral(silu)(b + c)"),
    ("w * each e { f(x) }", "(w * each e { f(x) })", "w * each e { f(x) }"),
    ("on x in a { x } + 1", "(on x in a { x } + 1)", "on x in a { x } + 1"),
    ("softtopk[seq](s, keep = n / 2, eps = 0.03)", "softtopk[seq](s, keep = n / 2, eps = 0.03)", "softtopk[seq](s, keep = n / 2, eps = 0.03)"),
]


@pytest.mark.parametrize(("text", "meaning", "canonical"), PRECEDENCE)
def test_precedence(text: str, meaning: str, canonical: str) -> None:
    assert spelled(expr(text)) == meaning
    assert show(expr(text)) == canonical
    assert expr(meaning) == expr(canonical) == expr(text)


@pytest.mark.parametrize("text", ["a < b < c", "a in b in c", "a in b < c", "a < b in c", "a == b == c"])
def test_comparisons_do_not_chain(text: str) -> None:
    diagnostics = Diagnostics()
    assert parse(Source("test.mpt", f"const a = {text}\n"), diagnostics) is None
    assert [(one.code, one.message) for one in diagnostics.found] == [("E0107", "comparisons do not chain")]


NUMBERS = [
    *[("30_000", "30_000"), ("1000000", "1_000_000"), ("999", "999"), ("1e3", "1_000"), ("0.5", "0.5"), ("12.50", "12.5"), ("1234.5", "1_234.5")],
    *[("0.001", "0.001"), ("1e-6", "1e-6"), ("0.0000015", "1.5e-6"), ("0", "0"), ("0.0", "0"), ("1E+2", "100"), ("1e30", "1e30"), ("1_5.2_0", None)],
]


@pytest.mark.parametrize(("text", "canonical"), NUMBERS)
def test_numbers_are_exact(text: str, canonical: str | None) -> None:
    diagnostics = Diagnostics()
    file = parse(Source("test.mpt", f"const a = {text}\n"), diagnostics)
    if canonical is None:
        assert [one.code for one in diagnostics.found] == ["E0103"]
        return
    assert file is not None
    value = file.declarations[0].value
    assert value == tree.Number(Fraction(text.replace("_", "")), span=value.span)
    assert show(value) == canonical
    assert read(f"const a = {canonical}\n") == file


def test_newlines_in_brackets() -> None:
    assert expr("f(\n  a,\n\n  b[c\n -> d]\n)") == expr("f(a, b[c -> d])")
    assert body("x = f(each e {\n h = a\n h\n}\n)\ny = x") == body("\n\nx = f(each e { h = a\n h })  # c\n\n y = x # ends\n # here")
    assert len(body("x = a }\nmodel n { y = b")) == 1


def test_settings_are_separated_by_commas_or_newlines() -> None:
    assert read("variant v { a = 1, b = 2 }") == read("variant v {\n a = 1\n b = 2\n}") == read("variant v {\n a = 1,\n b = 2,\n}\n")
    assert read("types T of V { a = 1, b = 2 }").declarations[0].settings == read("variant v { a = 1, b = 2 }").declarations[0].settings


def test_reserved_words_are_labels_and_path_words() -> None:
    (stack,) = body("stack 4 as block {\n repeat 3 { x <- f(x) as context }\n}")
    assert stack.label.text == "block"
    (tie,) = body("tie layers[*].model.input = stack[3].of")
    assert tie.left.steps[1].name.text == "model"
    assert [step.index for step in tie.left.steps + tie.right.steps] == ["*", None, None, 3, None]


def test_a_count_may_be_a_call() -> None:
    (stack,) = body("stack ceil(n / 2) + 1 as half { x <- x }")
    assert stack.label.text == "half"
    assert show(stack.count) == "ceil(n / 2) + 1"


def test_functions_are_ordinary_names() -> None:
    read("dim max = 3\nblock sum(position: [max]) { min = position\n return rms[d](min) + lookup + next }")


def test_types() -> None:
    inputs = body("input a: []\ninput b: id[v]\ninput c: [x, y] id[v] per sequence\noutput d: [x, y] = a\noutput e: [] = a\noutput f = a")
    assert [(one.type.axes, one.type.vocabulary) != ((), None) for one in inputs[:3]] == [False, True, True]
    assert [one.per_sequence for one in inputs[:3]] == [False, False, True]
    assert [one.axes if one.axes is None else len(one.axes) for one in inputs[3:]] == [2, 0, None]


def test_spans_say_where() -> None:
    (bind,) = body("y = (a + b) * f(c) as g")
    assert bind.value.span.text == "(a + b) * f(c) as g"
    assert bind.value.left.span.text == "a + b"
    assert bind.value.right.label.span.text == "g"
    assert (bind.span.line, bind.span.column, bind.span.text) == (2, 1, "y = (a + b) * f(c) as g")


def test_line_endings_and_blank_files() -> None:
    assert read("dim a = 1\r\n\r\ndim b = 2\r\n") == read("dim a = 1\ndim b = 2")
    assert read("") == read("\n \t\n# only this\n") == read("\r\n")


def _snippets() -> list[str]:
    """The specs of `snippets.mpt`, between lines of dashes."""
    return re.split(r"(?m)^# -{10,}\n", (HERE / "snippets.mpt").read_text(encoding="utf-8"))


@pytest.mark.parametrize("text", _snippets())
def test_snippets_round_trip(text: str) -> None:
    file = read(text)
    assert file.declarations
    assert read(unparse(file)) == file
    assert unparse(read(unparse(file))) == unparse(file)


def _specs() -> list[Path]:
    return sorted(prelude_dir().parent.rglob("*.mpt"))


@pytest.mark.parametrize("path", _specs(), ids=lambda path: path.name)
def test_specs_round_trip(path: Path) -> None:
    file = read(path.read_text(encoding="utf-8"))
    assert read(unparse(file)) == file


def test_layout_is_kept() -> None:
    text = textwrap.dedent("""\
        use "lib/std.mpt"

        dim d = 64
        const n = 1e-6

        variant tiny { d = 8 }

        block f(x: [d]) {
          param W: [d] ~ normal(0.02)
          y = softmax[e](on x > 0 {
            h = W * x
            h^2
          })
          return y - f(x)
        }
        """)
    assert unparse(read(text)) == text
