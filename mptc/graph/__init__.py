"""A model as a graph for people: statements and call sites, what flows between them, and what is tied."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Kind(Enum):
    """What a box stands for."""

    INPUT = "input"
    PARAMETER = "parameter"
    CALL = "call"  # of a block, an energy or the derivative of one
    SHARE = "share"
    VALUE = "value"
    STATE = "state"  # what a stack or a repeat hands on
    RESULT = "result"  # an output, the loss, a penalty or a probe


class Style(Enum):
    """FLOW: a value. HELD: a value that is held fixed, no gradient flows back. NEXT: to the next copy or pass. TIE: one tensor, in no direction."""

    FLOW = "flow"
    HELD = "held"
    NEXT = "next"
    TIE = "tie"


@dataclass(frozen=True)
class Box:
    """`group` is the number of the innermost stack, repeat or region around, or None."""

    number: int
    kind: Kind
    label: str
    group: int | None


@dataclass(frozen=True)
class Edge:
    """`labels`: contexts that the value is seen through, and why it is held."""

    source: int
    target: int
    style: Style = Style.FLOW
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Group:
    """A folded box around boxes: `stack 12 as layers`."""

    number: int
    title: str
    parent: int | None


@dataclass
class Graph:
    """Boxes are in the order of the text, numbered from 1; edges are there once."""

    name: str
    boxes: list[Box] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)

    def members(self) -> dict[int | None, tuple[list[Box], list[Group]]]:
        """The boxes and groups directly inside each group; of None, those that are in none."""
        found: dict[int | None, tuple[list[Box], list[Group]]] = {None: ([], []), **{group.number: ([], []) for group in self.groups}}
        for box in self.boxes:
            found[box.group][0].append(box)
        for group in self.groups:
            found[group.parent][1].append(group)
        return found
