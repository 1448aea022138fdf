"""One node's text: its operands brought into the memory order it wants, then its torch facet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mptc.ir.axis import Axis
from mptc.ir.node import Node
from mptc.ops.base import Arrangement, Operation, Order
from mptc.ops.contract import is_number
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


@dataclass
class TorchSite:
    """What a torch facet sees of its node. `ask` provides the generated module's helpers."""

    node: Node
    sizes: Mapping[Axis, int]
    arrangement: Arrangement
    given: tuple[tuple[str, Order], ...]
    ask: Callable[[str], str]

    @property
    def orders(self) -> tuple[Order, ...]:
        return tuple(tuple(axis for axis in wanted if axis is not None) for wanted in self.arrangement.wanted)

    @property
    def order(self) -> Order:
        return self.arrangement.order

    def whole(self, index: int) -> str:
        code, order = self.given[index]
        arg, op = self.node.args[index], self.node.op
        assert isinstance(op, Operation)
        if isinstance(arg.op, Operation) and arg.op.is_exact(arg) and not op.takes_exact(self.node, index):
            code = f"{tight(code)}.to({self.ask('dtype')})"
        return code if is_number(arg) else reordered(code, order, self.arrangement.wanted[index])

    def tensor(self, index: int) -> str:
        code = self.whole(index)
        return f"torch.tensor({code}, dtype={self.ask('dtype')}, device={self.ask('device')})" if is_number(self.node.args[index]) else code

    def tight(self, index: int) -> str:
        return tight(self.tensor(index))

    def helper(self, name: str) -> str:
        return self.ask(name)
