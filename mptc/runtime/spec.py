"""From a path to a compiled model. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from mptc.compile import TARGETS, Compiled, Deployment, compile
from mptc.model.resolve import resolve
from mptc.model.tree import Model
from mptc.runtime.errors import SpecError
from mptc.source.diagnostic import Diagnostics
from mptc.source.render import render
from mptc.source.text import Source, Span

UNREADABLE = "E0205"

Overrides = Mapping[str, str | int | float]
Made = TypeVar("Made")


def read(path: str | Path, diagnostics: Diagnostics) -> Source | None:
    """The text of a spec; None, and a diagnostic, where it is missing, unreadable or not UTF-8."""
    try:
        return Source(str(path), Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        reason = error.strerror or str(error)
    except UnicodeDecodeError as error:
        reason = f"it is not UTF-8 (byte {error.start})"
    except ValueError as error:
        reason = str(error)
    empty = Source(str(path), "")
    diagnostics.add(UNREADABLE, Span(empty, 0, 0), f"cannot read this file: {reason}")
    return None


def compile_spec(
    path: str | Path,
    set: Overrides | None = None,
    variant: str | None = None,
    emit: Sequence[str] = TARGETS[:1],
    deployment: Deployment = Deployment(),
    kernels: str = "auto",
) -> Compiled:
    """The targets of a spec; the torch module, as text, unless others are asked for. Raises `SpecError`."""
    return through(lambda source, diagnostics: compile(source, diagnostics, as_settings(set or {}), variant, emit, deployment, kernels), path)


def typed_spec(path: str | Path, set: Overrides | None = None, variant: str | None = None) -> Model:
    """The typed model of a spec. Raises `SpecError`, for a file without a model too."""
    return through(lambda source, diagnostics: resolve(source, as_settings(set or {}), variant, diagnostics), path)


def through(stage: Callable[[Source, Diagnostics], Made | None], path: str | Path) -> Made:
    """What a stage makes of a file. Raises `SpecError` with what it had to say where it makes nothing."""
    diagnostics = Diagnostics()
    source = read(path, diagnostics)
    made = stage(source, diagnostics) if source else None
    if made is None or diagnostics.failed:
        raise SpecError("\n".join(render(diagnostic) for diagnostic in diagnostics.found) or f"{path}: error: there is no model in this file")
    return made


def as_settings(set: Overrides) -> dict[str, str]:
    """Overrides as `--set` would give them. Raises `TypeError` for what is neither a number nor a string."""
    for name, value in set.items():
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise TypeError(f"set[{name!r}] is {value!r}; it must be a number or a string")
    return {name: value if isinstance(value, str) else repr(value) for name, value in set.items()}
