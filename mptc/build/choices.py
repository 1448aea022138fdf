"""Choosing among entries and tokens, and what sees the tokens that an `on` works for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mptc.build.functions import NotLowered, Use, builtin, masks_of
from mptc.ir.axis import CTX, SEQ
from mptc.ir.node import Kind, Node, make
from mptc.ops.chosen import LoadBalance, SoftTopK, among
from mptc.ops.compare import Compare, Where
from mptc.ops.contract import number, summed, total
from mptc.ops.elementwise import apply
from mptc.ops.leaf import Mask
from mptc.ops.view import Hold, Limit, View

VIEWS = ("past", "window", "all")
CHOICES = ("topk", "softtopk", "load_balance")


@dataclass(frozen=True)
class Chosen:
    """The tokens that an `on` works for, and the values from outside it: those keep all their tokens."""

    condition: Node
    outside: frozenset[Node]

    def is_outside(self, node: Node) -> bool:
        while node not in self.outside and isinstance(node.op, Hold | Limit):
            node = node.args[0]
        return node in self.outside

    def applied(self, use: Use) -> Node:
        """A builtin on what is made here: other tokens are those chosen."""
        if not use.args or all(map(self.is_outside, use.args)):
            return builtin(use)
        if use.function in VIEWS:
            seen = make(View(use.axes[0]), self.condition)  # by the others of all, so that what is thrown away is a number
            return make(Limit(use.axes[0], (make(Where(), self.condition, seen, number(1)),)), builtin(use))
        if use.function == "shift":
            return self._shifted(use.args[0], int(use.options["n"]))
        return builtin(self.limited(use))

    def _shifted(self, node: Node, by: int) -> Node:
        """What the chosen token has that is `by` places earlier among the chosen: of all that are seen, the one whose number says so."""
        if node.type.kind is Kind.ID or CTX in node.axes:
            raise NotLowered("`shift` of such a value inside `on`")
        here, limits = self.truth, ("past",) if by >= 0 else ()
        count = summed([make(View(CTX, ("past",)), here), make(Mask(CTX, past=True))], [CTX])
        wanted = make(Compare("=="), make(View(CTX), count), total((1, count), (-by, number(1))))
        seen = make(View(CTX, limits), node)
        return summed([seen, make(Mask(CTX, bool(limits)), wanted, make(View(CTX), here))], [CTX])

    def limited(self, use: Use) -> Use:
        """What is reduced or chosen from over the sequence, as a value of the chosen tokens alone."""
        if SEQ not in use.axes or self.is_outside(use.args[0]):
            return use
        return replace(use, args=(make(Limit(SEQ, (self.condition,)), use.args[0]), *use.args[1:]))

    @property
    def truth(self) -> Node:
        """1 for the chosen tokens, 0 for the others."""
        return make(Mask(SEQ), self.condition)


def choice(use: Use, chosen: Chosen | None, counts: Sequence[Node]) -> Node:
    """`topk`, `softtopk` or `load_balance`, which is of the tokens that `counts` and an `on` around leave."""
    use = use if chosen is None else chosen.limited(use)
    masks = masks_of(use.args[0], use.axes)
    if len(masks) > 1:
        raise NotLowered(f"`{use.function}` over two contexts at once")
    first, last = use.args[0], use.args[-1]
    match use.function:
        case "topk":
            return among(first, last, use.axes, int(use.options["n"]), masks)
        case "softtopk":
            steps = use.options.get("steps")
            return make(SoftTopK(use.options["eps"], None if steps is None else int(steps)), first, apply("ceil", last), *masks)
    return make(LoadBalance(use.axes[0]), first, last, *counts, *([] if chosen is None else [chosen.condition]))
