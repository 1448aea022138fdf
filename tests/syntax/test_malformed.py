"""Malformed texts, each a file whose comments say what is reported where.

`# error[E0107] 3:12` stands for one diagnostic with its line and column; a file's diagnostics are exactly those of its comments.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mptc.source.catalogue import CATALOGUE
from mptc.source.diagnostic import Diagnostics
from mptc.source.render import render
from mptc.source.text import Source
from mptc.syntax.parse import parse

FILES = sorted((Path(__file__).parent / "malformed").glob("*.mpt"))
EXPECTED = re.compile(r"# error\[(E\d{4})\] (\d+):(\d+)")


def test_there_are_files() -> None:
    assert len(FILES) >= 40


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_malformed(path: Path) -> None:
    source = Source.read(path)
    expected = [(code, int(line), int(column)) for code, line, column in EXPECTED.findall(source.text)]
    assert expected, "the file says nothing of what is expected"
    diagnostics = Diagnostics()
    assert parse(source, diagnostics) is None
    found = [(one.code, one.span.line, one.span.column) for one in diagnostics.found]
    assert found == sorted(expected, key=lambda one: one[1:]), "\n".join(map(render, diagnostics.found))


@pytest.mark.parametrize("code", [code for code in CATALOGUE if code.startswith("E01")])
def test_example_triggers_exactly_its_code(code: str) -> None:
    diagnostics = Diagnostics()
    parse(Source("example.mpt", CATALOGUE[code].example), diagnostics)
    assert [one.code for one in diagnostics.found] == [code]
