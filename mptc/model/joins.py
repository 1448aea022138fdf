"""All ties of a model together, those of the bodies that it calls included.

What one body says is compared where it is checked (`mptc.model.ties`). Here a tie of the model meets those inside a block: `tie g = f` covers
a `W` of `g` that `g` itself ties to its `U`. That is sound where every way on from a tensor ends at the same one, and an error where it does not. The
copies of a stack that no tie names by number are alike, so one of them stands for all.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import chain, islice, product

from mptc.ir.path import ALL, Path, Tie
from mptc.model import tree
from mptc.model.order import dependencies_first
from mptc.model.paths import Branch, frozen, tied
from mptc.source.diagnostic import Diagnostics, Note

MOST_JOINED = 10_000  # tensors under the paths of ties and freezes

Step = tuple[Path, int]  # what a path is tied to, and by which tie


def check_joins(model: Branch, diagnostics: Diagnostics) -> None:
    """Reports ties that meet and do not agree, circles that several bodies make, and more of them than can be followed."""
    for _, statement in islice(chain(tied(model), frozen(model)), MOST_JOINED, None):
        message = f"up to here ties and freezes are about more than {MOST_JOINED:_} tensors"
        diagnostics.add("E0225", statement.span, message, "write the copies of a stack as `layers[*]`, and what is one thing as a `share`")
        return
    ties = list(tied(model))
    if not ties:
        return
    ways = _Ways([tie for tie, _ in ties])
    statements = [statement for _, statement in ties]
    paths = list(islice(ways.all(), MOST_JOINED + 1))
    if len(paths) > MOST_JOINED:
        message = f"with the copies that ties name by number, these are about more than {MOST_JOINED:_} tensors"
        diagnostics.add("E0225", statements[-1].span, message, "write the copies of a stack as `layers[*]`")
        return
    order, circles = dependencies_first(paths, lambda path: [_alone(home) for home, _ in ways.on(path)])
    for numbers, path in {_ties_of(circle, ways): circle[0] for circle in reversed(circles)}.items():
        first, *others = (statements[number].span for number in numbers)
        notes = tuple(Note(span, "through this") for span in others)
        diagnostics.add("E0213", first, f"`{_shown(path)}` would be tied to itself", "remove one of the ties", notes)
    if not circles:
        _check_ends(order, ways, statements, diagnostics)


def _ties_of(circle: list[Path], ways: _Ways) -> tuple[int, ...]:
    return tuple(sorted({number for path in circle for home, number in ways.on(path) if _alone(home) in circle}))


def _check_ends(order: list[Path], ways: _Ways, statements: list[tree.Tie], diagnostics: Diagnostics) -> None:
    """Every way on from a tensor has the same end. `order`: what a path is tied to comes before it."""
    ends: dict[Path, Path] = {}
    told: set[tuple[int, int]] = set()
    for path in order:
        found = [(_replaced(ends[_alone(home)], home), number) for home, number in ways.on(path)]
        ends[path] = found[0][0] if found else path
        for end, number in found[1:]:
            outer, inner = sorted((found[0], (end, number)), key=lambda one: one[1])
            if end != ends[path] and (outer[1], inner[1]) not in told:
                told.add((outer[1], inner[1]))
                message = f"`{_shown(path)}` is tied to `{_shown(outer[0])}` here and to `{_shown(inner[0])}` elsewhere"
                notes = (Note(statements[inner[1]].span, "this ties it, too"),)
                diagnostics.add("E0213", statements[outer[1]].span, message, "remove one of the ties", notes)


class _Ways:
    """Ties by what they cover. A copy that no tie names has its place in the path for a number, as a string."""

    def __init__(self, ties: list[Tie]) -> None:
        self.ties = ties
        self._covering: dict[Path, list[int]] = defaultdict(list)
        self._stars: dict[str, dict[tuple[bool, ...], None]] = defaultdict(dict)
        for number, tie in enumerate(ties):
            self._covering[tie.path].append(number)
            self._stars[tie.path.stem][tuple(copy == ALL for copy in tie.path.copies)] = None
        self._named = _named(ties)

    def on(self, path: Path) -> Iterator[Step]:
        for stars in self._stars.get(path.stem, ()):
            copies = tuple((ALL if star else copy) for star, copy in zip(stars, path.copies, strict=True))
            for number in self._covering.get(Path(path.stem, copies), ()):
                home = self.ties[number].of(path)
                if home is not None:
                    yield home, number

    def all(self) -> Iterator[Path]:
        """Every tensor that is tied: each star as the copies that are named by number, and one for the others."""
        for tie in self.ties:
            steps = zip(_stacks(tie.path), tie.path.copies, strict=True)
            choices: list[tuple[int | str, ...]] = [(ALL, *self._named[stack]) if copy == ALL else (copy,) for stack, copy in steps]
            for copies in product(*choices):
                yield _alone(Path(tie.path.stem, copies))


def _named(ties: list[Tie]) -> dict[str, list[int]]:
    """The copies named by number, for each stack; stacks whose stars run together have them in common."""
    with_: dict[str, str] = {}

    def first(stack: str) -> str:
        while with_.setdefault(stack, stack) != stack:
            stack = with_[stack] = with_[with_[stack]]
        return stack

    for tie in ties:
        starred = [[stack for stack, copy in zip(_stacks(path), path.copies, strict=True) if copy == ALL] for path in (tie.path, tie.home)]
        for left, right in zip(*starred, strict=False):
            with_[first(left)] = first(right)
    numbers: dict[str, set[int]] = defaultdict(set)
    for tie in ties:
        for path in (tie.path, tie.home):
            for stack, copy in zip(_stacks(path), path.copies, strict=True):
                numbers[first(stack)].update([copy] if isinstance(copy, int) else [])
    return {stack: sorted(numbers[first(stack)]) for stack in tuple(with_)}


def _stacks(path: Path) -> list[str]:
    """`outer` and `outer[*].inner` of `outer[*].inner[*].W`"""
    steps = path.stem.split("[*]")
    return ["[*]".join(steps[: count + 1]) for count in range(len(steps) - 1)]


def _alone(path: Path) -> Path:
    """The path with each copy that is not numbered called by its place."""
    return Path(path.stem, tuple(copy if isinstance(copy, int) else str(place) for place, copy in enumerate(path.copies)))


def _replaced(end: Path, home: Path) -> Path:
    """The end of a way from `_alone(home)`, with the copies that `home` has."""
    return Path(end.stem, tuple(copy if isinstance(copy, int) else home.copies[int(copy)] for copy in end.copies))


def _shown(path: Path) -> Path:
    return Path(path.stem, tuple(copy if isinstance(copy, int) else ALL for copy in path.copies))
