"""Ties of single copies, as lines of the generated model's `__init__`."""

from __future__ import annotations

from itertools import groupby

from mptc.ir.path import ALL, Path, Tie
from mptc.ir.program import Program


def tie_lines(program: Program) -> list[str]:
    """A call for each tied tensor, in a loop for each star that its path has."""
    axes = {parameter.path: parameter.axes for parameter in program.parameters}
    lines: list[str] = []
    for heads, ties in groupby(program.ties, lambda tie: _heads(tie, program)):
        lines += ["    " * depth + head for depth, head in enumerate(heads)]
        for tie in ties:
            given = [*_place(tie.path), *_place(tie.home)]
            order = tuple(tie.axes.index(axis) for axis in axes[tie.path.stem])
            given += [str(order)] if order != tuple(sorted(order)) else []
            lines.append("    " * len(heads) + f"tie({', '.join(given)})")
    return lines


def _heads(tie: Tie, program: Program) -> list[str]:
    steps = tie.path.stem.split("[*]")
    stacks = ["[*]".join(steps[: count + 1]) for count in range(len(steps) - 1)]
    counts = [program.copies[stack] for stack, copy in zip(stacks, tie.path.copies, strict=True) if copy == ALL]
    return [f"for {_index(place)} in range({count}):" for place, count in enumerate(counts)]


def _place(path: Path) -> tuple[str, str]:
    """The module that has a tensor, `self.outer[i].layers[2]`, and the way from there, `"attention.W_q"`."""
    stars = iter(range(len(path.copies)))
    copies = tuple(_index(next(stars)) if copy == ALL else copy for copy in path.copies)
    module, bracket, below = str(Path(f"self.{path.stem}", copies)).rpartition("]")
    return (module + bracket, f'"{below[1:]}"') if bracket else ("self", f'"{path.stem}"')


def _index(place: int) -> str:
    return "ijk"[place] if place < 3 else f"i{place}"
