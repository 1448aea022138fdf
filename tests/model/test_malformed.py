"""Specs with one thing wrong, or several: text files whose comments say what is reported where.

`# error[E0201] 3:12` stands for one diagnostic with its line and column; a file's diagnostics are exactly those of its comments.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mptc.model.resolve import resolve
from mptc.source.catalogue import CATALOGUE
from mptc.source.catalogue.example import SPEC, example_of
from mptc.source.diagnostic import Diagnostics
from mptc.source.render import render
from mptc.source.text import Source

FILES = sorted((Path(__file__).parent / "malformed").glob("*.mpt"))
EXPECTED = re.compile(r"# error\[(E\d{4})\] (\d+):(\d+)")
CODES = [code for code in CATALOGUE if "E0200" < code < "E0900"]


def test_there_are_files() -> None:
    assert len(FILES) >= 120


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_malformed(path: Path) -> None:
    source = Source.read(path)
    expected = [(code, int(line), int(column)) for code, line, column in EXPECTED.findall(source.text)]
    assert expected, "the file says nothing of what is expected"
    diagnostics = Diagnostics()
    assert resolve(source, {}, None, diagnostics) is None
    found = [(one.code, one.span.line, one.span.column) for one in diagnostics.found]
    assert sorted(found) == sorted(expected), "\n".join(map(render, diagnostics.found))
    assert all(one.span.source is source for one in diagnostics.found)


@pytest.mark.parametrize("code", CODES)
def test_example_triggers_exactly_its_code(code: str, tmp_path: Path) -> None:
    example = example_of(CATALOGUE[code])
    for name, text in example.files.items():
        (tmp_path / name).write_text(text)
    diagnostics = Diagnostics()
    assert resolve(Source.read(tmp_path / SPEC), example.settings, example.variant, diagnostics) is None
    assert [one.code for one in diagnostics.found] == [code], "\n".join(map(render, diagnostics.found))


def test_every_code_has_a_file() -> None:
    """What needs a second file or a setting is in the other tests of this room."""
    elsewhere = {code for code in CODES if code.startswith("E08")} | {"E0207"}
    written = {code for path in FILES for code, _, _ in EXPECTED.findall(path.read_text())}
    assert set(CODES) - elsewhere - written == set()
