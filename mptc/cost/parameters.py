"""How many numbers a model learns: what its module has, each tied tensor once, and how much of it gradients are made for."""

from __future__ import annotations

from collections.abc import Container, Iterator
from itertools import product
from math import prod

from mptc.backends.deployment import MOST, TooLarge
from mptc.cost.rows import home_of
from mptc.ir.path import Path, stored
from mptc.ir.program import Parameter, Program


def counted(program: Program) -> tuple[dict[str, int], int]:
    """The numbers stored, by row of the table, and how many of them are trained. A tied tensor counts where it is stored.

    Raises `TooLarge` where the copies of stacks come to more than `MOST` tensors.
    """
    rows: dict[str, int] = {}
    trained = 0
    seen: set[Path] = set()
    taken = 0
    for parameter in program.parameters:
        for path in copies(program, parameter):
            taken += 1
            if taken > MOST:
                raise TooLarge
            home, axes = stored(path, parameter.axes, program.ties)
            if home in seen:
                continue
            seen.add(home)
            size = prod(program.sizes[axis] for axis in axes)
            rows[home_of(home.stem)] = rows.get(home_of(home.stem), 0) + size
            trained += size * (not any(frozen.covers(home) for frozen in _frozen(program, home)))
    return rows, trained


def numbers(program: Program, paths: Container[str]) -> int:
    """How many numbers some parameters have, in all copies together, each tied tensor once."""
    homes = {stored(path, each.axes, program.ties) for each in program.parameters if each.path in paths for path in copies(program, each)}
    return sum(prod(program.sizes[axis] for axis in axes) for axes in dict(homes).values())


def copies(program: Program, parameter: Parameter) -> Iterator[Path]:
    """The path of a parameter in each copy of the stacks around it."""
    parts = parameter.path.split("[*]")
    stacks = ["[*]".join(parts[: place + 1]) for place in range(len(parts) - 1)]
    for numbers in product(*(range(program.copies[stack]) for stack in stacks)):
        yield Path(parameter.path, numbers)


def _frozen(program: Program, home: Path) -> tuple[Path, ...]:
    return next((parameter.frozen for parameter in program.parameters if parameter.path == home.stem), ())
