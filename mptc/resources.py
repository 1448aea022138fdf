"""Where the files beside the code are: the grammar, the prelude, the templates.

In a checkout they are top-level directories; an installed wheel carries them in `mptc/_data`.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_CARRIED = _PACKAGE / "_data"


def _find(carried: str, checkout: str) -> Path:
    """The installed copy where there is one: a checkout never has `_data`."""
    installed = _CARRIED / carried
    return installed if installed.is_dir() else _PACKAGE.parent / checkout


def helpers_path() -> Path:
    """The functions that generated torch modules are made with."""
    return _PACKAGE / "backends" / "torch" / "helpers.py"


def tiles_dir() -> Path:
    """The lock files of kernels: their tiles, by architecture."""
    return _PACKAGE / "backends" / "triton" / "tiles"


def grammar_path() -> Path:
    return _find("grammar", "grammar") / "mpt.lark"


def prelude_dir() -> Path:
    """The directory that `use "lib/…"` falls back to holds the files of `lib` directly."""
    return _find("lib", "specs/lib")


def templates_dir() -> Path:
    return _find("templates", "codegen_templates")
