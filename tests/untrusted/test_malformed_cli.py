"""Every malformed spec through the command line: exit 1, what is wrong on stderr, no traceback, nothing written."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from mptc.cli import main

ROOT = Path(__file__).resolve().parent.parent
FILES = sorted(path for room in ("model", "syntax") for path in (ROOT / room / "malformed").glob("*.mpt"))
HEAD = re.compile(r":\d+:\d+: (error|warning)\[[EW]\d{4}\]: \S")


def test_there_are_enough() -> None:
    assert len(FILES) >= 150


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.parent.name}-{path.stem}")
def test_in_this_process(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (["check", str(path)], ["compile", str(path)], ["compile", str(path), "-o", "there"]):
        done = CliRunner().invoke(main, command)
        assert done.exit_code == 1, done.output
        assert done.exception is None or isinstance(done.exception, SystemExit)
        assert done.stdout == ""
        assert HEAD.search(done.stderr)
        assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_as_a_process(mptc: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path) -> None:
    """A few, as a user runs them."""
    for path in FILES[:: len(FILES) // 4]:
        done = mptc("compile", path)
        assert (done.returncode, done.stdout) == (1, ""), done.stderr
        assert HEAD.search(done.stderr)
        assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
