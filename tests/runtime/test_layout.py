"""`mptc fmt`: what it writes, what it leaves, what it says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mptc.runtime.errors import UserError
from mptc.runtime.layout import lay_out
from mptc.source.diagnostic import Diagnostics
from tests.conftest import ROOT, Shell

RAGGED, LAID_OUT, WRONG = "dim d=8 # width\n", "dim d = 8         # width\n", "dim d = (8\n"


def piped(given: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([sys.executable, "-m", "mptc", "fmt", "-", *arguments], input=given, cwd=ROOT, capture_output=True, timeout=60, check=False)


def test_files_are_laid_out_in_place(mptc: Shell, tmp_path: Path) -> None:
    ragged, fine = tmp_path / "ragged.mpt", tmp_path / "fine.mpt"
    ragged.write_text(RAGGED)
    fine.write_text(LAID_OUT)
    ragged.chmod(0o640)
    before = fine.stat().st_mtime_ns
    done = mptc("fmt", "ragged.mpt", "fine.mpt")
    assert (done.returncode, done.stdout, done.stderr) == (0, "laid out ragged.mpt\n", "")
    assert ragged.read_text() == LAID_OUT
    assert ragged.stat().st_mode & 0o777 == 0o640
    assert fine.stat().st_mtime_ns == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fine.mpt", "ragged.mpt"]


def test_a_link_stays_a_link(mptc: Shell, tmp_path: Path) -> None:
    (tmp_path / "real.mpt").write_text(RAGGED)
    (tmp_path / "link.mpt").symlink_to("real.mpt")
    assert mptc("fmt", "link.mpt").returncode == 0
    assert (tmp_path / "link.mpt").is_symlink()
    assert (tmp_path / "real.mpt").read_text() == LAID_OUT


def test_check_writes_nothing(mptc: Shell, tmp_path: Path) -> None:
    (tmp_path / "ragged.mpt").write_text(RAGGED)
    (tmp_path / "windows.mpt").write_bytes(b"dim d = 8\r\n")
    (tmp_path / "fine.mpt").write_text(LAID_OUT)
    done = mptc("fmt", "--check", "ragged.mpt", "windows.mpt", "fine.mpt")
    assert (done.returncode, done.stdout) == (1, "would lay out ragged.mpt\nwould lay out windows.mpt\n")
    assert (tmp_path / "ragged.mpt").read_text() == RAGGED
    assert mptc("fmt", "--check", "fine.mpt").returncode == 0


def test_wrong_files_are_refused_and_the_others_laid_out(mptc: Shell, tmp_path: Path) -> None:
    (tmp_path / "wrong.mpt").write_text(WRONG)
    (tmp_path / "ragged.mpt").write_text(RAGGED)
    done = mptc("fmt", "wrong.mpt", "missing.mpt", "ragged.mpt")
    assert done.returncode == 1
    assert "wrong.mpt:1:9: error[E0105]" in done.stderr
    assert "missing.mpt:1:1: error[E0205]" in done.stderr
    assert (tmp_path / "wrong.mpt").read_text() == WRONG
    assert (tmp_path / "ragged.mpt").read_text() == LAID_OUT


@pytest.mark.parametrize(
    ("given", "arguments", "code", "out"),
    [
        (RAGGED.encode(), [], 0, LAID_OUT.encode()),
        (RAGGED.encode(), ["--check"], 1, b"would lay out <stdin>\n"),
        (LAID_OUT.encode(), ["--check"], 0, b""),
        (WRONG.encode(), [], 1, b""),
        (b"\xff", [], 1, b""),
    ],
)
def test_standard_input(given: bytes, arguments: list[str], code: int, out: bytes) -> None:
    done = piped(given, *arguments)
    assert (done.returncode, done.stdout) == (code, out)
    assert bool(done.stderr) == (code == 1 and not out)
    assert b"Traceback" not in done.stderr


def test_standard_input_stands_alone(mptc: Shell) -> None:
    assert mptc("fmt", "-", "spec.mpt").returncode == 2
    assert mptc("fmt").returncode == 2


def test_a_file_that_is_read_only_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write anything, so the system's answer is planted."""
    path = tmp_path / "ragged.mpt"
    path.write_text(RAGGED)
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(UserError, match="read-only"):
        lay_out([str(path)], Diagnostics(), write=True)
    assert path.read_text() == RAGGED
