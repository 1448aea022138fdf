"""How diagnostics look, byte for byte, and what they suggest."""

from __future__ import annotations

import json

import pytest

from mptc.source.catalogue import CATALOGUE
from mptc.source.diagnostic import Diagnostics
from mptc.source.render import as_json, render
from mptc.source.suggest import closest
from mptc.source.text import Source, Span
from mptc.syntax.parse import parse


def told(text: str, path: str = "a.mpt") -> Diagnostics:
    diagnostics = Diagnostics()
    parse(Source(path, text), diagnostics)
    return diagnostics


def test_text() -> None:
    diagnostics = told("model m {\n  x = f(a\n}\n", "dir/a.mpt")
    assert render(diagnostics.found[0]) == (
        "dir/a.mpt:2:8: error[E0105]: this `(` is never closed\n"
        "  2 |   x = f(a\n"
        "    |        ^\n"
        "dir/a.mpt:3:1: note: no `)` before this\n"
        "  3 | }\n"
        "    | ^\n"
        "help: add the missing `)`"
    )


def test_underline_has_the_columns_of_the_text() -> None:
    source = Source("a.mpt", "x = 漢\t abc # \x1b[31m\u202e\n")
    diagnostics = Diagnostics()
    diagnostics.add("E0107", Span(source, 7, 10), "here\x1b[0m")
    assert render(diagnostics.found[0]).split("\n") == [
        "a.mpt:1:8: error[E0107]: here?[0m",
        "  1 | x = 漢     abc # ?[31m?",
        "    |            ^^^",
    ]


def test_long_lines_are_cut_around_the_span() -> None:
    text = "dim a = " + "1 + " * 20 + "1 1" + " + 1" * 60
    lines = render(told(text).found[0]).split("\n")
    assert all(len(line) < 180 for line in lines)
    assert lines[1][lines[2].index("^")] == "1"


def test_colour() -> None:
    (one,) = told("dim d 64\n").found
    assert "\x1b[" not in render(one)
    assert "\x1b[1;31merror[E0107]\x1b[0m" in render(one, colour=True)


def test_json() -> None:
    (record,) = json.loads(as_json(told("model m {\n  x = f(a\n}\n")))
    note = {"message": "no `)` before this", "path": "a.mpt", "line": 3, "column": 1, "end_line": 3, "end_column": 2}
    place = {"path": "a.mpt", "line": 2, "column": 8, "end_line": 2, "end_column": 9}
    expected = {
        "code": "E0105",
        "severity": "error",
        "message": "this `(` is never closed",
        "help": "add the missing `)`",
        "notes": [note],
        "way": [],
    }
    assert record == expected | place


MESSAGES = {
    "dim d 64": ("expected `=`, found `64`", None),
    "dim d = 64 65": ("expected the end of the line or an operator, found `65`", None),
    "dim block = 3": ("`block` is a reserved word and names nothing here", "call it `block_`, perhaps; any word may stand after `as`"),
    "block f() {\n  retrun 3\n}": ("`retrun` begins no statement", "did you mean `return`?"),
    "block f() {\n  tanh(3)\n}": ("expected `=` or `<-` after `tanh`, found `(`", "a statement binds what it computes: `h = tanh…`"),
    "modle m {\n}": ("`modle` does not begin a declaration", "did you mean `model`?"),
    "model m": ("expected `bidirectional` or `{`, found the end of the file", None),
    "block f() {\n  return on a <-b { 3 }\n}": (
        "expected `(` or `[`, found `<-`",
        "`<-` is always one token, the arrow of an update; write `a < -b` for a comparison",
    ),
    "block f() {\n  return each e {\n    x = 3\n  }\n}": (
        "expected the value of this body, found `}`",
        "the last line of `each` and `on` is an expression, its value",
    ),
}


@pytest.mark.parametrize("text", MESSAGES)
def test_words(text: str) -> None:
    (one,) = told(text).found
    assert (one.message, one.help) == MESSAGES[text]


def test_a_code_must_be_known() -> None:
    with pytest.raises(AssertionError, match="E0199"):
        Diagnostics().add("E0199", Span(Source("a.mpt", ""), 0, 0), "never")


def test_the_catalogue_explains_itself() -> None:
    for code, entry in CATALOGUE.items():
        assert entry.code == code
        assert entry.explanation.endswith(".")
        assert entry.example
        assert not entry.title.endswith(".")


SLIPS = [("rmsnrm", "rmsnorm"), ("hiden", "hidden"), ("retrun", "return"), ("D", "d"), ("dim", None), ("q", None), ("x" * 10_000, None)]


@pytest.mark.parametrize(("name", "meant"), SLIPS)
def test_closest(name: str, meant: str | None) -> None:
    assert closest(name, ["rmsnorm", "layernorm", "hidden", "head", "return", "d", "x"]) == meant
