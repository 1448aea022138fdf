"""Named axes: what values broadcast, contract and reduce by."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class Role(IntEnum):
    BATCH = 0
    TOKEN = 1
    CONTEXT = 2
    DIM = 3


@dataclass(frozen=True, order=True, slots=True)
class Axis:
    """A named axis. Two axes of one size but two names never mix.

    `tick` tells two axes of one name apart inside the compiler (`W.T @ W` has a `d` and a `d'`); a spec never sees it.
    """

    role: Role
    name: str
    tick: int = 0

    def __str__(self) -> str:
        return self.name + "'" * self.tick

    def __repr__(self) -> str:
        return str(self)


class Sizes(dict[Axis, int]):
    """The sizes of axes: an axis and its ticked copies are of one size."""

    def __missing__(self, axis: Axis) -> int:
        if not axis.tick:
            raise KeyError(axis)
        return self[Axis(axis.role, axis.name)]


BATCH = Axis(Role.BATCH, "batch")
SEQ = Axis(Role.TOKEN, "seq")
CTX = Axis(Role.CONTEXT, "ctx")


def dim(name: str) -> Axis:
    return Axis(Role.DIM, name)


def context(name: str) -> Axis:
    return Axis(Role.CONTEXT, name)
