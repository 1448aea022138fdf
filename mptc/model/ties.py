"""Ties beside each other: no tensor is tied twice, and no chain of ties closes, stars and whole calls included.

`tie layers[*].W = …` covers `layers[3].W`, and `tie f = g` all that is under `f`. The left sides are kept as a tree of steps, so that what covers a
path is found by walking it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from mptc.model.order import dependencies_first
from mptc.source.diagnostic import Diagnostics, Note
from mptc.syntax import tree as syntax

MOST_MET = 1_000  # ties that meet one path: so many are followed
Index = int | str | None  # of a step: a copy, `*`, or none


@dataclass
class _Place:
    """One step of the left sides; `tied` is the tie that ends here."""

    under: dict[str, dict[Index, _Place]] = field(default_factory=dict)
    tied: int | None = None

    def put(self, path: syntax.Path, number: int) -> None:
        place = self
        for step in path.steps:
            place = place.under.setdefault(step.name.text, {}).setdefault(step.index, _Place())
        place.tied = number

    def meeting(self, path: syntax.Path) -> Iterator[int]:
        """The ties whose left sides have a tensor in common with a path."""
        waiting = [(self, 0)]
        while waiting:
            place, depth = waiting.pop()
            if place.tied is not None:
                yield place.tied
            if depth == len(path.steps):
                waiting.extend((each, depth) for several in place.under.values() for each in several.values())
                continue
            step = path.steps[depth]
            several = place.under.get(step.name.text, {})
            indices = several if step.index == "*" else (step.index, "*")
            waiting.extend((several[index], depth + 1) for index in indices if index in several)


def written(path: syntax.Path) -> str:
    """`layers[*].interaction.W_q`"""
    return ".".join(step.name.text if step.index is None else f"{step.name.text}[{step.index}]" for step in path.steps)


def check_ties(ties: list[syntax.Tie], diagnostics: Diagnostics) -> None:
    """Reports what is tied a second time or, through others, to itself."""
    lefts, sound = _Place(), dict[int, syntax.Tie]()
    for number, tie in enumerate(ties):
        before = next(lefts.meeting(tie.left), None)
        if before is not None:
            _twice(tie, ties[before], diagnostics)
        elif _same(tie.left, tie.right):
            diagnostics.add("E0213", tie.span, f"`{written(tie.left)}` would be tied to itself", "remove the tie")
        else:
            lefts.put(tie.left, number)
            sound[number] = tie
    _closed(lefts, sound, diagnostics)


def _twice(tie: syntax.Tie, before: syntax.Tie, diagnostics: Diagnostics) -> None:
    same = _same(tie.left, before.left)
    message = (
        f"`{written(tie.left)}` is tied a second time" if same else f"`{written(tie.left)}` and `{written(before.left)}`, which is tied too, meet"
    )
    diagnostics.add("E0213", tie.span, message, f"tie `{written(before.right)}` instead", (Note(before.span, "it is tied here"),))


def _closed(lefts: _Place, ties: dict[int, syntax.Tie], diagnostics: Diagnostics) -> None:
    """`tie layers[*].W = layers[0].W` is no circle: the first copy stays what it is."""
    following = {number: [other for other in islice(lefts.meeting(tie.right), MOST_MET) if other != number] for number, tie in ties.items()}
    for circle in dependencies_first(ties, lambda number: following[number])[1]:
        last = max(circle)
        others = tuple(Note(ties[number].span, "through this") for number in sorted(circle) if number != last)
        diagnostics.add("E0213", ties[last].span, f"`{written(ties[last].left)}` would be tied to itself", "remove one of the ties", others)


def _same(one: syntax.Path, other: syntax.Path) -> bool:
    return written(one) == written(other)
