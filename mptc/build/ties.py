"""Ties and freezes, from paths of the text to what is stored.

A tie of all copies to a tensor further out, or to one of the same copy, is a change of address: the left side is read where the right one is
stored, and the algebra sees one tensor. Any other (`layers[0].W = layers[2].W`) stays a tie in the program: each copy reads its own path, and what
runs the program knows where that is stored.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace

from mptc.build.body import Body, Ledger
from mptc.ir.path import ALL, Path, Tie
from mptc.ir.program import Parameter
from mptc.model import tree
from mptc.model.paths import Branch, frozen, leaves, tied


class Joins:
    """What the ties and freezes of a model come to. `moved`: changes of address, by stem; `ties`: those that remain, between what is stored."""

    def __init__(self, model: tree.Model) -> None:
        self._model = model
        ties = [tie for tie, _ in tied(Branch(model.body))]
        self.moved = {tie.path.stem: (tie.home.stem, tie.axes) for tie in ties if _moves(tie)}
        orders = {path: leaf.axes for path, leaf in leaves(Branch(model.body))}
        kept = [(tie.path, self._stored(tie.home)) for tie in ties if tie.path.stem not in self.moved]
        self.ties = tuple(Tie(path, home, orders[home.stem]) for path, home in kept)
        self._by_stem = defaultdict[str, list[Tie]](list)
        for tie in self.ties:
            self._by_stem[tie.path.stem].append(tie)

    def _stored(self, path: Path) -> Path:
        """The path that is read in the place of one, changes of address followed."""
        stem = path.stem
        while stem in self.moved:
            stem, _ = self.moved[stem]
        return Path(stem, path.copies[: stem.count("[*]")])

    def complete(self, ledger: Ledger) -> None:
        """What nothing reads is not tied; what is tied to, and has no reader under its own name (a share that nothing calls), is declared."""
        self.ties = tuple(tie for tie in self.ties if tie.path.stem in ledger.parameters)
        missing = {*ledger.read, *(tie.home.stem for tie in self.ties)} - ledger.parameters.keys()
        for path, leaf in leaves(Branch(self._model.body)) if missing else ():
            if path in missing:
                gained = leaf.axes[: len(leaf.axes) - len(leaf.declared.axes)]
                Body(ledger, path[: -len(leaf.declared.name)], dict(leaf.arrows), gained=gained).parameter(leaf.declared)

    def frozen(self, parameters: Iterable[Parameter]) -> tuple[Parameter, ...]:
        """The parameters, each with those of its copies that are frozen: a tensor is, under whichever of its names."""
        found = defaultdict[str, dict[Path, None]](dict)
        waiting = [self._stored(path) for path, _ in frozen(Branch(self._model.body))]
        known = set(waiting)
        while waiting:
            path = waiting.pop()
            ties = self._by_stem[path.stem]
            if all(tie.of(path) is None for tie in ties):
                found[path.stem][path] = None
            homes = [tie.of(met) for tie in ties if (met := tie.path.meet(path)) is not None]
            new = [home for home in homes if home is not None and home not in known]
            waiting += new
            known.update(new)
        return tuple(replace(parameter, frozen=tuple(sorted(found[parameter.path], key=str))) for parameter in parameters)


def _moves(tie: Tie) -> bool:
    """Whether every reader of the left path can as well read the right one: that is there for all of its copies, and known where it is read."""
    around, star, _ = tie.home.stem.rpartition("[*]")
    return all(copy == ALL for copy in (*tie.path.copies, *tie.home.copies)) and tie.path.stem.startswith(around + star)
