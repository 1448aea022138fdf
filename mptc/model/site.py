"""A builtin function where it is called, and what its typing rule may ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction

from mptc.ir.axis import SEQ, Axis
from mptc.ir.number import Monomial
from mptc.model.scope import Scope
from mptc.model.shapes import PER_WORDS, UNKNOWN, brackets, is_context, known, shown, words
from mptc.model.tree import Expr, Per, Shape
from mptc.source.text import Span


@dataclass(frozen=True)
class Function:
    """A builtin: how it is written, and the rule that gives its result's shape.

    `brackets`: `none`, `some` (one axis or more), `one`, `view` (a context, `ctx` when left out). `values` positional arguments are followed by the
    numbers named in `numbers`; `options` are numbers by name, `expressions` values by name.
    """

    name: str
    rule: Callable[[Site], Shape]
    values: int = 1
    brackets: str = "none"
    numbers: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    expressions: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    defaults: tuple[tuple[str, Fraction], ...] = ()
    ids: bool = False  # whether it takes ids

    @property
    def written(self) -> str:
        """As a message shows it."""
        if self.brackets == "argument":
            return f"{self.name}(axis)"
        inside = {"some": "[axis, …]", "one": "[axis]"}.get(self.brackets, "")
        args = list("abc"[: self.values]) if self.values > 1 else ["…"] * self.values
        several = ", ".join([*args, *self.numbers, *(f"{name} = …" for name in self.required)])
        return f"{self.name}{inside}({several})"


@dataclass
class Site:
    function: Function
    span: Span
    scope: Scope
    args: list[Expr]
    axes: tuple[Axis, ...]
    spans: tuple[Span, ...]  # of the axes
    options: dict[str, Monomial] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.function.name

    @property
    def shape(self) -> Shape:
        """Of the first argument."""
        return self.args[0].shape

    def fail(self, code: str, span: Span, message: str, help: str | None = None) -> Shape:
        self.scope.diagnostics.add(code, span, message, help)
        return UNKNOWN

    def known(self) -> bool:
        return known(*(arg.shape for arg in self.args))

    def number(self, name: str) -> Fraction | None:
        """An option's value, where the sizes in it are known."""
        value = self.options.get(name)
        return None if value is None else value.resolved(self.scope.world.numbers.sizes)

    def require(self, name: str, holds: Callable[[Fraction], bool], what: str) -> bool:
        """Checks an option's value; true also where it is not known yet."""
        value = self.number(name)
        if value is None or holds(value):
            return True
        self.fail("E0309", self.span, f"`{name}` of `{self.name}` is {value}; it must be {what}")
        return False

    def has(self, index: int, shape: Shape) -> bool:
        """Whether an axis in the brackets is one of the value; reports it where not. `seq` is there when each token has a value."""
        axis = self.axes[index]
        if axis in shape.axes or (axis == SEQ and shape.per is Per.TOKEN):
            return True
        span = self.spans[index] if index < len(self.spans) else self.span
        if axis in self.scope.gone:
            self.fail("E0303", span, f"inside `each {axis}` the axis `{axis}` is gone", f"work over `{axis}` outside, on the result of the `each`")
        elif axis == SEQ:
            self.fail("E0303", span, f"`{self.name}[seq]` works over the sequence, and this has {PER_WORDS[shape.per]}")
        else:
            have = f"has the axes {brackets(shape.axes)}" if shape.axes else "has no axes"
            help = f"name one of {words(shape.axes, 'or')}" if shape.axes else "it is one number for each token already"
            self.fail("E0303", span, f"`{self.name}[{axis}]` works over `{axis}`, and its argument {have}", help)
        return False

    def limited(self, shape: Shape) -> bool:
        """Whether every context in the brackets is limited by a view."""
        for index, axis in enumerate(self.axes):
            if is_context(axis) and axis not in shape.limited:
                span = self.spans[index] if index < len(self.spans) else self.span
                self.fail(
                    "E0304",
                    span,
                    f"`{self.name}[{axis}]` would run over all of `{axis}`: no view limits it here",
                    "view the tokens: `past(…)`, `window(…, n)`, `all(…)`",
                )
                return False
        return True

    def tokens(self, arg: Expr) -> bool:
        """Whether an argument has a value for each token."""
        if arg.shape.per is Per.TOKEN:
            return True
        self.fail("E0313", arg.span, f"`{self.name}` wants one value for each token, and this has {PER_WORDS[arg.shape.per]}")
        return False

    def are_ids(self, arg: Expr) -> bool:
        if arg.shape.vocabulary is not None:
            return True
        self.fail("E0307", arg.span, f"`{self.name}` wants ids here, and this is {shown(arg.shape)}, numbers")
        return False
