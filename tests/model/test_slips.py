"""What is well formed and hardly ever meant: warnings, and what an unknown name may have been."""

from __future__ import annotations

from pathlib import Path

import pytest

from mptc.model.resolve import resolve
from mptc.source.diagnostic import Diagnostic, Diagnostics
from mptc.source.text import Source

HEAD = "dim d = 8\nenergy well(x: [d]) { minimize sum[d](x^4) }\n"


def found(text: str, tmp_path: Path, variant: str | None = None) -> list[Diagnostic]:
    diagnostics = Diagnostics()
    resolve(Source(str(tmp_path / "spec.mpt"), text), {}, variant, diagnostics)
    return diagnostics.found


def model(body: str) -> str:
    return f"model m {{\n  input x: [d]\n  {body}\n  output y = x\n}}\n"


@pytest.mark.parametrize("value", ["x - well(x)", "x + 0.5 * well(x)", "tanh(x) - 2 - (well(x) + 1) / 2", "-well(x) + x"])
def test_a_forgotten_grad(value: str, tmp_path: Path) -> None:
    [warning] = found(HEAD + model(f"x <- {value}"), tmp_path)
    assert (warning.code, warning.severity, warning.span.text) == ("W0603", "warning", "well(x)")
    assert warning.help is not None
    assert warning.help.endswith("write `grad well(x)`")


@pytest.mark.parametrize(
    "body",
    ["x <- x - grad well(x)", "e = well(x)\n  x <- x - e", "param W: [d]\n  x <- x - W * well(x)", "s = sum[d](x)\n  s <- s + well(x)\n  x <- x * s"],
)
def test_an_energy_that_is_meant(body: str, tmp_path: Path) -> None:
    assert found(HEAD + model(body), tmp_path) == []


def test_names_that_nothing_reads(tmp_path: Path) -> None:
    text = HEAD + "block f(x: [d]) {\n  param bias: [d]\n  h = 2 * x\n  return x\n}\n" + model("x <- f(x)\n  param W: [d]\n  tie W = f.bias")
    assert [(one.code, one.span.text) for one in found(text, tmp_path)] == [("W0604", "h")]
    assert [(one.code, one.span.text) for one in found(HEAD + model("param W: [d]\n  k = x"), tmp_path)] == [("W0604", "W"), ("W0604", "k")]


def test_libraries_are_not_asked_what_they_read(tmp_path: Path) -> None:
    library = "block f(x: []) {\n  h = 2 * x\n  return x\n}\n"
    (tmp_path / "a.mpt").write_text(library)
    assert found(library, tmp_path) == []
    assert found('use "a.mpt"\ndim d = 8\n' + model("x <- f(x)"), tmp_path) == []


@pytest.mark.parametrize(
    ("body", "file"),
    [
        ("x <- rmsnorm(x)", "std"),
        ("x <- x - grad interaction(x | past(x))", "cem"),
        ("share a: attention\n  x <- a(x)", "std"),
        ("x <- x * attention", "std"),
    ],
)
def test_a_use_line_that_is_not_there(body: str, file: str, tmp_path: Path) -> None:
    [error] = found(HEAD + model(body), tmp_path)
    assert error.help == f'the prelude declares it: `use "lib/{file}.mpt"`'


def test_of_two_names_as_near_the_users_own_is_meant(tmp_path: Path) -> None:
    [error] = found(HEAD + "const step = 2\n" + model("x <- x * sep"), tmp_path)
    assert error.help == "did you mean `step`?"


TWICE = model("x <- 2 * x")
VARIANTS = "dim d = 8\ndim head = 2\ndim key = d / head\nvariant good { d = 16 }\n"


@pytest.mark.parametrize(
    ("variant", "code", "place"),
    [
        ("v { d = 0 }", "E0217", "0"),
        ("v { head = 3 }", "E0217", "v"),
        ("v { d = 2 * deph }", "E0201", "deph"),
        ("v { d = key }", "E0218", "key"),
        ("v { d = 8 / (head - 2) }", "E0217", None),
    ],
)
def test_a_variant_that_is_not_chosen_is_checked(variant: str, code: str, place: str | None, tmp_path: Path) -> None:
    [error] = found(f"{VARIANTS}variant {variant}\n{TWICE}", tmp_path, "good")
    assert error.code == code
    assert error.span.line == 5
    assert place is None or error.span.text == place


def test_settings_from_outside_are_not_held_against_a_variant(tmp_path: Path) -> None:
    diagnostics = Diagnostics()
    text = f"{VARIANTS}variant three {{ d = 9, head = 3 }}\n{TWICE}"
    assert resolve(Source(str(tmp_path / "spec.mpt"), text), {"head": "4"}, None, diagnostics) is not None


ODD = "dim d = 10\ndim head = 2\ndim key = d / head\n"


def test_what_a_library_declares_and_nothing_calls_asks_nothing_of_sizes(tmp_path: Path) -> None:
    text = f'use "lib/cem.mpt"\n{ODD}dim hidden = 4\n'
    assert found(text + model("x <- x - grad gated(x | x)"), tmp_path) == []
    assert {one.code for one in found(text + model("x <- x - grad interaction(x | past(x))"), tmp_path)} == {"E0309"}
    own = f"{ODD}block turn(q: [key]) {{ return rope[key](q) }}\n{TWICE}"
    assert [one.code for one in found(own, tmp_path)] == ["E0309"]


def test_a_const_that_only_an_unused_block_cannot_have(tmp_path: Path) -> None:
    (tmp_path / "a.mpt").write_text("block f(x: []) {\n  repeat count { x <- 2 * x }\n  return x\n}\nblock g(x: []) { return tanh(x) }\n")
    text = 'use "a.mpt"\ndim d = 8\nconst count = 1.5\n'
    assert found(text + model("x <- g(x)"), tmp_path) == []
    assert [one.code for one in found(text + model("x <- f(x)"), tmp_path)] == ["E0219"]
