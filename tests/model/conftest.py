"""Text to typed model, for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from mptc.model import tree
from mptc.model.resolve import resolve
from mptc.source.diagnostic import Diagnostic, Diagnostics
from mptc.source.render import render
from mptc.source.text import Source

Resolve = Callable[..., "tree.Model | None"]
Refuse = Callable[..., list[tuple[str, str]]]


@pytest.fixture
def sound(tmp_path: Path) -> Resolve:
    """Resolve a text that has no errors (warnings it may have); other files lie beside it."""

    def run(text: str, settings: Mapping[str, str] | None = None, variant: str | None = None, **files: str) -> tree.Model | None:
        diagnostics = Diagnostics()
        model = resolve(_written(tmp_path, text, files), settings or {}, variant, diagnostics)
        assert not diagnostics.failed, "\n".join(map(render, diagnostics.found))
        return model

    return run


@pytest.fixture
def refused(tmp_path: Path) -> Refuse:
    """Resolve a text that has errors: their codes and messages."""

    def run(text: str, settings: Mapping[str, str] | None = None, variant: str | None = None, **files: str) -> list[tuple[str, str]]:
        diagnostics = Diagnostics()
        assert resolve(_written(tmp_path, text, files), settings or {}, variant, diagnostics) is None
        return [(one.code, one.message) for one in diagnostics.found]

    return run


def _written(folder: Path, text: str, files: Mapping[str, str]) -> Source:
    for name, content in files.items():
        (folder / f"{name}.mpt").write_text(content)
    return Source(str(folder / "spec.mpt"), text)


@pytest.fixture
def told(tmp_path: Path) -> Callable[..., list[Diagnostic]]:
    """Resolve a text and give every diagnostic."""

    def run(text: str, settings: Mapping[str, str] | None = None, variant: str | None = None, **files: str) -> list[Diagnostic]:
        diagnostics = Diagnostics()
        resolve(_written(tmp_path, text, files), settings or {}, variant, diagnostics)
        return diagnostics.found

    return run
