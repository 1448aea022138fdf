"""What decoding keeps of earlier tokens: the tokens of one call are the next ones, behind those that a cache holds already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mptc.ir.axis import BATCH, SEQ, Axis
from mptc.ir.node import Kind, Node, Type, absent, axes_of
from mptc.ops.arrays import Sizes
from mptc.ops.base import Arrangement, Operation, Order
from mptc.ops.contract import Contract
from mptc.ops.leaf import Param
from mptc.ops.site import Site

STATE = "what it is depends on the calls before; the calls together are held against the whole sequence at once"


def after_parameter(node: Node) -> str | None:
    """What a linear map is called: `v` for what `W_v` makes."""
    for arg in node.args if isinstance(node.op, Contract) and len(node.args) == 2 else ():
        if isinstance(arg.op, Param) and arg.op.order and arg.op.order[-1] not in node.axes:
            name = arg.op.path.rpartition(".")[2]
            return name[2:] if name.startswith("W_") and len(name) > 2 else None
    return None


class State(Operation, abstract=True):
    """A value that a cache has a part in."""

    def cost(self, node: Node, sizes: Sizes) -> float:
        return 0.0

    gradient = absent("decoding is not trained through")
    reference = absent(STATE)
    samples = absent(STATE)
    triton = absent("printed by the region that contains it")


@dataclass(frozen=True)
class Place(State):
    """The position of each token along `axis`: of the next ones along `seq`; along a context, of those kept, of which a `window` keeps the last.

    Sequences of one batch may be of different lengths, so it has the batch too.
    """

    axis: Axis
    window: int | None = None

    def infer(self, *types: Type) -> Type:
        return Type((BATCH, self.axis))

    def arrange(self, node: Node, orders: Sequence[Order]) -> Arrangement:
        return Arrangement((), (BATCH, self.axis))

    def is_exact(self, node: Node) -> bool:
        return True

    def torch(self, site: Site) -> str:
        if self.axis == SEQ:
            return site.helper("position")
        return f"{site.helper('cache')}.places({'' if self.window is None else self.window})"

    onnx = absent("given by the graph of the next tokens")


@dataclass(frozen=True)
class Kept(State):
    """A value of every token so far along context `over`, the next ones last: of all, or of the last `window` - 1 and the next ones.

    `label` says what it is, for those who read; `number` tells it from every other.
    """

    over: Axis
    window: int | None
    label: str
    number: int

    def infer(self, *types: Type) -> Type:
        return Type(axes_of(self.over if axis == SEQ else axis for axis in types[0].axes), types[0].kind)

    def arrange(self, node: Node, orders: Sequence[Order]) -> Arrangement:
        return Arrangement(tuple(orders), tuple(self.over if axis == SEQ else axis for axis in orders[0]))

    def is_exact(self, node: Node) -> bool:
        arg = node.args[0]
        return isinstance(arg.op, Operation) and arg.op.is_exact(arg)

    def takes_exact(self, node: Node, index: int) -> bool:
        return True

    def torch(self, site: Site) -> str:
        window = "" if self.window is None else f", {self.window}"
        return f"{site.helper('cache')}.keep({site.helper(f'kept({self.number})')}, {site.whole(0)}, {site.order.index(self.over)}{window})"

    onnx = absent("an output of the graph of the next tokens")


@dataclass(frozen=True)
class Earlier(State):
    """The value (or id) `by` tokens earlier; 0 (masked, -1) before the first. `label`, `number`: as of `Kept`."""

    by: int
    label: str
    number: int

    def infer(self, *types: Type) -> Type:
        return types[0]

    def arrange(self, node: Node, orders: Sequence[Order]) -> Arrangement:
        return Arrangement(tuple(orders), orders[0])

    is_exact = Kept.is_exact
    takes_exact = Kept.takes_exact

    def torch(self, site: Site) -> str:
        blank = ", -1" if site.node.type.kind is Kind.ID else ""
        place = site.order.index(SEQ)
        return f"{site.helper('cache')}.earlier({site.helper(f'kept({self.number})')}, {site.whole(0)}, {place}, {self.by}{blank})"

    onnx = absent("an output of the graph of the next tokens")
