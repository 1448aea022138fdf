"""What is wrong with a text, collected while it is read and told in the order of the text."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field

from mptc.source.diagnostic import Diagnostic, Diagnostics, Note
from mptc.source.text import Source, Span

MOST = 20


@dataclass
class Problems:
    """A place that has been complained about is not complained about again: `covers` is how later checks ask."""

    source: Source
    found: list[Diagnostic] = field(default_factory=list)
    _starts: list[int] = field(default_factory=list)

    def add(self, code: str, start: int, end: int, message: str, help: str | None = None, notes: tuple[Note, ...] = ()) -> None:
        if not self.enough:
            self.found.append(Diagnostic(code, self.span(start, end), message, help, notes))
            insort(self._starts, start)

    def span(self, start: int, end: int) -> Span:
        return Span(self.source, start, end)

    @property
    def enough(self) -> bool:
        """A text with so many errors is not in this language; more of them help nobody and cost time."""
        return len(self.found) >= MOST

    def covers(self, start: int, end: int) -> bool:
        """Whether something between these offsets, both included, has been reported."""
        place = bisect_left(self._starts, start)
        return place < len(self._starts) and self._starts[place] <= end

    def forget(self, code: str, regions: list[tuple[int, int]]) -> None:
        """Drop the problems of one code in regions that were skipped: they follow from what was skipped."""
        self.found = [one for one in self.found if one.code != code or not any(start < one.span.start < end for start, end in regions)]

    def tell(self, diagnostics: Diagnostics) -> None:
        for one in sorted(self.found, key=lambda one: one.span.start):
            diagnostics.add(one.code, one.span, one.message, one.help, one.notes)
