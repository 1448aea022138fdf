"""Whole or not there."""

from pathlib import Path
from typing import BinaryIO

import pytest

from mptc.runtime.errors import UserError
from mptc.runtime.files import whole_directory, write_all


def test_writes_all_with_folders(tmp_path: Path) -> None:
    write_all({tmp_path / "a/b.txt": "x\n", tmp_path / "a/c.txt": "é"})
    assert sorted(path.name for path in tmp_path.rglob("*.*")) == ["b.txt", "c.txt"]
    assert (tmp_path / "a/c.txt").read_text(encoding="utf-8") == "é"


def test_a_failure_leaves_every_file_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "old.txt").write_text("old")
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(UserError, match="cannot write"):
        write_all({tmp_path / "old.txt": "new", tmp_path / "file/below.txt": "new"})
    assert (tmp_path / "old.txt").read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "old.txt"]


def test_what_fails_while_it_is_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"old")

    def half(stream: BinaryIO) -> None:
        stream.write(b"half")
        raise UserError("error: no more")

    with pytest.raises(UserError, match="no more"):
        write_all({tmp_path / "old": b"new", tmp_path / "large": half})
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("old", b"old")]


def test_a_directory_appears_only_when_it_is_whole(tmp_path: Path) -> None:
    with whole_directory(tmp_path / "done") as folder:
        (folder / "x").write_text("1")
        assert not (tmp_path / "done").exists()
    assert (tmp_path / "done/x").read_text() == "1"


def test_a_directory_that_fails_is_deleted(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), whole_directory(tmp_path / "done") as folder:
        (folder / "x").write_text("1")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
