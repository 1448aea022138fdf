"""Writing that is either whole or not there: into a temporary neighbour first, renamed when it is on the disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from mptc.runtime.errors import UserError

Content = str | bytes | Callable[[BinaryIO], None]  # a text, or bytes as they are, or as they come


def write_all(files: Mapping[Path, Content]) -> None:
    """Write every file, creating folders as needed; a failure while writing leaves all of them as they were. Raises `UserError`."""
    pending: dict[Path, Path] = {}
    try:
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            pending[path] = _neighbour(path)
            write(pending[path], content)
            if path.exists():
                shutil.copymode(path, pending[path])
            sync(pending[path])
        for path, temporary in pending.items():
            temporary.replace(path)
    except OSError as error:
        raise UserError(f"error: cannot write {error.filename2 or error.filename or ', '.join(map(str, files))}: {error.strerror}") from error
    finally:
        for temporary in pending.values():
            temporary.unlink(missing_ok=True)


def write(path: Path, content: Content) -> None:
    """Write one file as it stands, of which nothing is sure until it is done. Raises `OSError`."""
    if callable(content):
        with path.open("wb") as stream:
            content(stream)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """A new directory to fill, which becomes `path` when the block ends and is deleted when it fails. `path` must not exist."""
    temporary = _neighbour(path)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        for file in temporary.iterdir():
            sync(file)
        sync(temporary)
        temporary.rename(path)
        sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sync(path: Path) -> None:
    """Wait until a file or a directory is on the disk, so that a rename never precedes what it names."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _neighbour(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")
