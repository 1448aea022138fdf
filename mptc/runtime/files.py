"""Writing that is either whole or not there: into a temporary neighbour first, renamed when it is on the disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mptc.runtime.errors import UserError


def write_all(files: Mapping[Path, str]) -> None:
    """Write every text, creating folders as needed; a failure while writing leaves all of them as they were. Raises `UserError`."""
    pending: dict[Path, Path] = {}
    try:
        for path, text in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            pending[path] = _neighbour(path)
            pending[path].write_text(text, encoding="utf-8", newline="\n")
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
