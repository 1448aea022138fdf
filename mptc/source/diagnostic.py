"""Diagnostics as values. A stage takes a `Diagnostics`, adds what it finds, and goes on where it can."""

from __future__ import annotations

from dataclasses import dataclass, field

from mptc.source.catalogue import CATALOGUE
from mptc.source.text import Span


@dataclass(frozen=True)
class Note:
    span: Span
    message: str


@dataclass(frozen=True)
class Diagnostic:
    """One message about one place. `code` is an entry of `mptc.source.catalogue`; `way` leads through the text, drawn line by line."""

    code: str
    span: Span
    message: str
    help: str | None = None
    notes: tuple[Note, ...] = ()
    way: tuple[Note, ...] = ()

    @property
    def severity(self) -> str:
        return "error" if self.code.startswith("E") else "warning"


@dataclass
class Diagnostics:
    """What the stages have to say, in the order found, each once."""

    found: list[Diagnostic] = field(default_factory=list)
    failed: bool = False
    _known: set[Diagnostic] = field(default_factory=set, repr=False)

    def add(self, code: str, span: Span, message: str, help: str | None = None, notes: tuple[Note, ...] = (), way: tuple[Note, ...] = ()) -> None:
        assert code in CATALOGUE, f"{code} is not in the catalogue"
        diagnostic = Diagnostic(code, span, message, help, notes, way)
        if diagnostic not in self._known:
            self._known.add(diagnostic)
            self.found.append(diagnostic)
            self.failed = self.failed or diagnostic.severity == "error"
