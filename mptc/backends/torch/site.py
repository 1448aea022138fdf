"""One node's text: its operands brought into the memory order it wants, then its torch facet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from mptc.backends.grades import Grade, Grades
from mptc.ir.axis import Axis
from mptc.ir.node import Node
from mptc.ops.base import Arrangement, Operation, Order, is_truth
from mptc.ops.compare import Compare
from mptc.ops.site import tight


def reordered(code: str, order: Order, wanted: tuple[Axis | None, ...]) -> str:
    """A tensor of one memory order in another one, with dimensions of size 1 where they are wanted."""
    kept = tuple(axis for axis in wanted if axis is not None)
    assert set(kept) == set(order), (order, wanted)
    places = [order.index(axis) for axis in kept]
    moved = [place for place, from_ in enumerate(places) if place != from_]
    if len(moved) == 2:
        first, second = moved
        last = len(places) - 1
        code = f"{tight(code)}.mT" if (first, second) == (last - 1, last) and last > 0 else f"{tight(code)}.transpose({first}, {second})"
    elif moved:
        code = f"{tight(code)}.permute({', '.join(map(str, places))})"
    if None not in wanted:
        return code
    picks = [":" if axis is not None else "None" for axis in wanted]
    first_gap = picks.index("None")
    if all(pick == "None" for pick in picks[first_gap:]) and first_gap > 1:
        return f"{tight(code)}[..., {', '.join(picks[first_gap:])}]"
    while picks[-1] == ":" and len(picks) > 1:
        picks.pop()
    return f"{tight(code)}[{', '.join(picks)}]"


def cast(code: str, grade: Grade, ask: Callable[[str], str]) -> str:
    """A value as a number of the parameters' dtype."""
    if grade is Grade.SCALAR:
        return number(code, ask, "dtype")
    return code if grade is Grade.NUMBER else f"{tight(code)}.to({ask('dtype')})"


def widened(code: str, ask: Callable[[str], str]) -> str:
    return f"{tight(code)}.to({ask('wide')})"


def number(code: str, ask: Callable[[str], str], dtype: str) -> str:
    """A number of Python's as a tensor."""
    return f"torch.full((), {code}, dtype={ask(dtype)}, device={ask('device')})"


@dataclass
class TorchSite:
    """What a torch facet sees of its node. `ask` provides the generated module's helpers."""

    node: Node
    sizes: Mapping[Axis, int]
    arrangement: Arrangement
    given: tuple[tuple[str, Order], ...]
    ask: Callable[[str], str]
    grade: Callable[[Node], Grade] = field(default_factory=Grades)

    @property
    def orders(self) -> tuple[Order, ...]:
        return tuple(tuple(axis for axis in wanted if axis is not None) for wanted in self.arrangement.wanted)

    @property
    def order(self) -> Order:
        return self.arrangement.order

    def whole(self, index: int) -> str:
        code, order = self.given[index]
        return reordered(self._graded(index, code), order, self.arrangement.wanted[index])

    def _graded(self, index: int, code: str) -> str:
        """An operand in the precision in which this node is computed."""
        arg, op = self.node.args[index], self.node.op
        assert isinstance(op, Operation)
        found = self.grade(arg)
        if found is Grade.SCALAR:
            return code if op.takes_scalar(self.node, index, self.sizes) else number(code, self.ask, "wide")
        if op.takes_exact(self.node, index):
            meets = any(self.grade(other) is Grade.NUMBER for other in self.node.args)
            return widened(code, self.ask) if isinstance(op, Compare) and meets and found is Grade.EXACT and not is_truth(arg) else code
        if found is Grade.EXACT and self.grade(self.node) is Grade.WIDE:
            return widened(code, self.ask)
        return cast(code, found, self.ask) if self.grade(self.node) is Grade.NUMBER else code

    def tight(self, index: int) -> str:
        return tight(self.whole(index))

    def helper(self, name: str) -> str:
        return self.ask(name)
