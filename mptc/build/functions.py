"""What each builtin of the language is in raw IR."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from mptc.ir.axis import SEQ, Axis, Role
from mptc.ir.node import Node, make
from mptc.ir.number import ONE, Monomial
from mptc.ops.choose import Shift
from mptc.ops.compare import SIGNS, Compare, Extreme, Where
from mptc.ops.contract import contract, number, power, product, renamed, summed, total
from mptc.ops.elementwise import FUNCTIONS, Map, apply
from mptc.ops.leaf import Index, Mask, Position
from mptc.ops.norm import Rms
from mptc.ops.reduce import Lse, Max, Softmax
from mptc.ops.rotary import Rope, ones, token_axis
from mptc.ops.token import CrossEntropy, Next
from mptc.ops.view import Limit, Stop, View


class NotLowered(Exception):
    """A construct that resolves but has no IR yet."""

    def __init__(self, construct: str) -> None:
        super().__init__(construct)
        self.construct = construct


@dataclass(frozen=True)
class Use:
    """One use of a builtin: its arguments as nodes, its axes and numbers."""

    function: str
    args: tuple[Node, ...]
    axes: tuple[Axis, ...]
    options: Mapping[str, Fraction]


def builtin(use: Use) -> Node:
    if use.function in ("max", "min") and use.axes:
        return _reduction(Max, use)
    made = BUILTINS.get(use.function)
    if made is not None:
        return made(use)
    if use.function in FUNCTIONS:
        return apply(use.function, use.args[0])
    raise NotLowered(f"`{use.function}`")


def integral(function: str, argument: Node) -> Node:
    """∫_0^e f"""
    if function == "sqrt":
        return power(argument, Fraction(3, 2), Monomial.of(Fraction(2, 3)))
    if function == "rsqrt":
        return power(argument, Fraction(1, 2), Monomial.of(2))
    if function not in FUNCTIONS or not FUNCTIONS[function].integrable:
        raise NotLowered(f"`integral({function})`")
    return make(Map(function, -1), argument)


# -- tokens and what they see ------------------------------------------------------------------------


def mask_of(node: Node, over: Axis) -> Node | None:
    """The mask of what a value shows of a context; None where it shows all of it."""
    limits = dict(node.type.seen).get(over, ())
    conditions = [limit for limit in limits if isinstance(limit, Node)]
    windows = [limit[1] for limit in limits if isinstance(limit, tuple)]
    past = "past" in limits or bool(windows)
    if not past and not conditions:
        return None
    return make(Mask(over, past, min(windows) if windows else None), *conditions)


def masks_of(node: Node, axes: tuple[Axis, ...]) -> list[Node]:
    found = [mask_of(node, axis) for axis in axes if axis.role is not Role.DIM]
    return [mask for mask in found if mask is not None]


def _sum(use: Use) -> Node:
    (node,) = use.args
    return summed([node, *masks_of(node, use.axes)], use.axes)


def _mean(use: Use) -> Node:
    """Over a context, of those that are seen; 0 where conditions leave none."""
    (node,) = use.args
    total_ = _sum(use)
    coef = ONE
    counts: list[Node] = []
    for axis in use.axes:
        masks = masks_of(node, (axis,))
        if masks:
            count = summed(masks, [axis])
            counts.append(make(Extreme(largest=True), count, number(1)) if any(mask.args for mask in masks) else count)
        else:
            coef = coef.over(Monomial.size(axis))
    parts = [(total_, total_.axes, Fraction(1)), *((count, count.axes, Fraction(-1)) for count in counts)]
    return contract(coef, parts)


def _reduction(op: type[Lse] | type[Softmax] | type[Max], use: Use) -> Node:
    (node,) = use.args
    masks = masks_of(node, use.axes)
    if len(masks) > 1:
        raise NotLowered(f"`{use.function}` over two contexts at once")
    return make(op(use.axes), _of_tokens(node) if SEQ in use.axes and SEQ not in node.axes else node, *masks)


def _view(use: Use) -> Node:
    limits: dict[str, tuple[object, ...]] = {"past": ("past",), "all": (), "window": (("window", int(use.options.get("n", 1))),)}
    return make(View(use.axes[0], limits[use.function]), use.args[0])


def _only(use: Use) -> Node:
    return make(Limit(use.axes[0], (use.args[1],)), use.args[0])


def _distance(use: Use) -> Node:
    return total((1, make(Position())), (-1, make(Index(use.axes[0]))))


def _rope(use: Use) -> Node:
    """What is the same for every token is turned by each one's own position all the same."""
    (node,) = use.args
    return make(Rope(use.axes[0], use.options.get("base", Fraction(10_000))), node if token_axis(node.axes) in node.axes else _of_tokens(node))


def _shift(use: Use) -> Node:
    """Before the first token there is 0, also where all tokens have the same."""
    (node,) = use.args
    return make(Shift(int(use.options["n"])), node if SEQ in node.axes else _of_tokens(node))


def _of_tokens(node: Node) -> Node:
    """A value that is the same for every token, of each."""
    return product(node, ones(make(Position())))


def _rms(use: Use) -> Node:
    return make(Rms(use.axes, use.options.get("eps", Fraction(1, 10**6))), use.args[0])


def _quotient(use: Use) -> Node:
    above, below = use.args
    return contract(ONE, [(above, above.axes, Fraction(1)), (below, below.axes, Fraction(-1))])


BUILTINS: dict[str, Callable[[Use], Node]] = {
    "+": lambda use: total(*((1, arg) for arg in use.args)),
    "-": lambda use: total((1, use.args[0]), (-1, use.args[1])),
    "*": lambda use: product(*use.args),
    "/": _quotient,
    "@": lambda use: summed(use.args, use.axes),
    "neg": lambda use: product(*use.args, coef=-ONE),
    **dict.fromkeys(SIGNS, lambda use: make(Compare(use.function), *use.args)),
    "where": lambda use: make(Where(), *use.args),
    "min": lambda use: make(Extreme(largest=False), *use.args),
    "max": lambda use: make(Extreme(largest=True), *use.args),
    "sqrt": lambda use: power(use.args[0], Fraction(1, 2)),
    "rsqrt": lambda use: power(use.args[0], Fraction(-1, 2)),
    "sum": _sum,
    "mean": _mean,
    "logsumexp": lambda use: _reduction(Lse, use),
    "softmax": lambda use: _reduction(Softmax, use),
    "past": _view,
    "window": _view,
    "all": _view,
    "only": _only,
    "distance": _distance,
    "position": lambda use: make(Position()),
    "index": lambda use: make(Index(use.axes[0])),
    "rope": _rope,
    "rms": _rms,
    "shift": _shift,
    "next": lambda use: make(Next(), *use.args),
    "cross_entropy": lambda use: make(CrossEntropy(use.axes[0]), *use.args),
    "stop": lambda use: make(Stop(), *use.args),
}


def raised(base: Node, exponent: Fraction | None, written: Node) -> Node:
    """a ^ b: a power where b is a number, else exp(b log a)."""
    if exponent is not None:
        return power(base, exponent)
    return apply("exp", product(written, apply("log", base)))


def reseen(node: Node, arrows: dict[Axis, Axis]) -> Node:
    """A value with axes renamed; a context keeps what limits it under its new name."""
    result = renamed(node, arrows)
    for axis, limits in node.type.seen:
        if axis in arrows:
            kept = tuple(renamed(limit, arrows) if isinstance(limit, Node) else limit for limit in limits)
            result = make(Limit(arrows[axis], kept), result)
    return result


def loss_of(losses: list[Node]) -> Node | None:
    if not losses:
        return None
    return losses[0] if len(losses) == 1 else total(*((1, loss) for loss in losses))
