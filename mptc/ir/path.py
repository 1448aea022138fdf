"""Paths of parameters, as `outer[*].layers[3].attention.W_q`, and the ties between them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from mptc.ir.axis import Axis

ALL = "*"  # the copies of a stack, together
_COPY = re.compile(r"\[(\d+|\*)\]")


@dataclass(frozen=True)
class Path:
    """One tensor or, where a star is among `copies`, those of every copy. `stem` has `[*]` at each stack, `copies` what stands in its place."""

    stem: str
    copies: tuple[int | str, ...] = ()

    @staticmethod
    def parse(text: str) -> Path:
        return Path(_COPY.sub("[*]", text), tuple(copy if copy == ALL else int(copy) for copy in _COPY.findall(text)))

    def __str__(self) -> str:
        return self._written("[{}]")

    @property
    def name(self) -> str:
        """`outer.*.layers.3.attention.W_q`: without stars, a name in `state_dict`."""
        return self._written(".{}")

    def _written(self, copy: str) -> str:
        first, *rest = self.stem.split("[*]")
        return first + "".join(copy.format(each) + after for each, after in zip(self.copies, rest, strict=True))

    def covers(self, other: Path) -> bool:
        return self.stem == other.stem and all(mine in (ALL, theirs) for mine, theirs in zip(self.copies, other.copies, strict=True))

    def meet(self, other: Path) -> Path | None:
        """The copies that both stand for."""
        if self.stem != other.stem:
            return None
        both = tuple(theirs if mine == ALL else mine for mine, theirs in zip(self.copies, other.copies, strict=True))
        met = replace(self, copies=both)
        return met if self.covers(met) and other.covers(met) else None


@dataclass(frozen=True)
class Tie:
    """`path` has no tensor of its own but is the one at `home`, of the axes `axes` there. The stars of `home` are the first of those of `path`."""

    path: Path
    home: Path
    axes: tuple[Axis, ...] = ()

    def of(self, path: Path) -> Path | None:
        """What a path that this tie covers is tied to; None of any other, and of what would be tied to itself (`layers[*].W = layers[0].W`)."""
        if not self.path.covers(path):
            return None
        starred = iter([copy for mine, copy in zip(self.path.copies, path.copies, strict=True) if mine == ALL])
        home = Path(self.home.stem, tuple(next(starred) if copy == ALL else copy for copy in self.home.copies))
        return None if home == path else home


def stored(path: Path, axes: tuple[Axis, ...], ties: Iterable[Tie]) -> tuple[Path, tuple[Axis, ...]]:
    """Where the tensor of a path is, and its axes there, chains of ties followed."""
    ties = tuple(ties)
    while True:
        found = next(((home, tie.axes) for tie in ties if (home := tie.of(path)) is not None), None)
        if found is None:
            return path, axes
        path, axes = found
