"""`mptc explain`: for every code, what it says of the example is what the compiler says."""

from __future__ import annotations

import re

import pytest

from mptc.runtime.example import explained
from mptc.source.catalogue import CATALOGUE
from tests.conftest import Shell


@pytest.mark.parametrize("code", CATALOGUE)
def test_the_example_is_told_live(code: str) -> None:
    entry = CATALOGUE[code]
    head, _, said = explained(entry).rpartition("` says:\n")
    assert head.startswith(f"{code}: {entry.title}\n\n")
    assert "For example:\n" in head
    assert re.findall(r"(?:error|warning)\[([EW]\d{4})\]", said) == [code]
    assert re.search(r"(?m)^ +\| *\^", said)


def test_paths_are_those_of_the_example() -> None:
    assert "\n    a.mpt:1:7: note: it is declared here\n" in explained(CATALOGUE["E0207"])
    assert "`mptc check spec.mpt --variant tyni` says:" in explained(CATALOGUE["E0802"])
    assert "`mptc compile spec.mpt` says:" in explained(CATALOGUE["E0901"])


def test_without_a_code_all_are_listed(mptc: Shell) -> None:
    done = mptc("explain")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [f"{code}  {entry.title}" for code, entry in CATALOGUE.items()]
    assert mptc("explain", "E9999").returncode == 1
