"""Specs laid out in place: a file is rewritten whole, or not touched."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from mptc.compile import formatted
from mptc.runtime.errors import UserError
from mptc.runtime.files import write_all
from mptc.runtime.spec import UNREADABLE, read
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source, Span

STDIN = "-"


def lay_out(paths: Sequence[str], diagnostics: Diagnostics, write: bool) -> list[str]:
    """The files that were not in their layout; with `write`, now they are. What has errors stays as it is. Raises `UserError`."""
    changed: dict[Path, str] = {}
    shown: list[str] = []
    for path in dict.fromkeys(paths):
        source = read(path, diagnostics)
        text = None if source is None else formatted(source, diagnostics)
        if text is not None and Path(path).read_bytes() != text.encode():
            changed[Path(path).resolve()] = text
            shown.append(path)
    locked = [path for path in changed if not os.access(path, os.W_OK)]  # a rename would not ask
    if write and locked:
        raise UserError(f"cannot write {locked[0]}: it is read-only")
    if write:
        write_all(changed)
    return shown


def lay_out_input(diagnostics: Diagnostics) -> tuple[str, str | None]:
    """What stands on standard input, and its layout."""
    source = Source("<stdin>", "")
    try:
        source = Source("<stdin>", sys.stdin.buffer.read().decode())
    except UnicodeDecodeError as error:
        diagnostics.add(UNREADABLE, Span(source, 0, 0), f"cannot read this file: it is not UTF-8 (byte {error.start})")
        return "", None
    return source.text, formatted(source, diagnostics)
