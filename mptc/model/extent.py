"""How large a spec is once its calls are put in place: few lines can ask for more than any machine has.

A block that calls another twice, which calls a third twice, doubles with every line. So the size of each callable is counted when it is checked, from
those of what it calls, and what is beyond the limits is refused where it passes them, before anything is put in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from weakref import WeakKeyDictionary

from mptc.ir.axis import Axis
from mptc.model import tree
from mptc.model.paths import Branch, Copies, Leaf, Node, expressions, parts
from mptc.model.tree import Callable, Expr, Statement
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Span

MOST_PLACED = 50_000  # operations
DEEPEST = 150  # operations inside operations and calls
MOST_NUMBERS = 2**50  # in all parameters together
MOST_AXES = 24  # of one value


@dataclass(frozen=True)
class Extent:
    """`operations`, with those of what is called; `depth`: how deep they lie in each other."""

    operations: int = 0
    depth: int = 0

    def beside(self, other: Extent) -> Extent:
        return Extent(self.operations + other.operations, max(self.depth, other.depth))


_known: WeakKeyDictionary[Callable, Extent] = WeakKeyDictionary()


def check_callable(callable: Callable, diagnostics: Diagnostics) -> bool:
    """Whether a block or energy is of a size that can be put in place; reports it where not."""
    extent = _known[callable] = _statements(callable.body).beside(_expr(callable.result))
    return _fits(extent, f"`{callable.name}`", callable.span, diagnostics)


def check_model(name: str, body: tuple[Statement, ...], sizes: Mapping[Axis, int], span: Span, diagnostics: Diagnostics) -> None:
    """The same of a model, and that its parameters are not too many."""
    if _fits(_statements(body), f"the model `{name}`", span, diagnostics):
        count = _numbers(Branch(body), sizes)
        if count > MOST_NUMBERS:
            message = f"the parameters of `{name}` are {count:_} numbers; at most {MOST_NUMBERS:_} can be"
            diagnostics.add("E0225", span, message, "make its dims or its stacks smaller")


def _fits(extent: Extent, what: str, span: Span, diagnostics: Diagnostics) -> bool:
    if extent.operations > MOST_PLACED:
        message = f"{what} has more than {MOST_PLACED:_} operations once all that it calls is put in place"
        diagnostics.add("E0225", span, message, "what repeats itself is written as `stack` or `repeat`, which cost their body once")
    elif extent.depth > DEEPEST:
        message = f"in {what} calls and operators lie more than {DEEPEST} deep in each other"
        diagnostics.add("E0225", span, message, "bind parts of it to names, and call one block after another, not inside another")
    else:
        return True
    return False


def _statements(body: tuple[Statement, ...]) -> Extent:
    extent = Extent()
    for statement in body:
        match statement:
            case tree.Stack(body=inner) | tree.Repeat(body=inner):
                inside = _statements(inner)
                extent = extent.beside(Extent(inside.operations, inside.depth + 1))
            case _:
                for expr in expressions(statement):
                    extent = extent.beside(_expr(expr))
    return extent


def _expr(expr: Expr) -> Extent:
    inside = Extent()
    for part in parts(expr):
        inside = inside.beside(_expr(part))
    if isinstance(expr, tree.Each | tree.On):
        inside = inside.beside(_statements(expr.body)).beside(_expr(expr.value))
    if isinstance(expr, tree.Invoke):
        inside = inside.beside(_known.get(expr.callee, Extent()))
    return Extent(inside.operations + 1, inside.depth + 1)


def _numbers(node: Node, sizes: Mapping[Axis, int]) -> int:
    """How many numbers the parameters under a body are."""
    match node:
        case Leaf(axes=axes):
            return prod(sizes.get(axis, 1) for axis in axes)
        case Copies(count=count, one=one):
            return count * _numbers(one, sizes)
        case Branch():
            return sum(_numbers(member, sizes) for member in node.members().values())
