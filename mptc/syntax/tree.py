"""What was written: one class for each rule of `grammar/mpt.lark`, under the same name.

Every class holds the span it was read from. Two trees are equal when their text means the same, so spans do not take part in equality.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from mptc.source.text import Span


@dataclass(frozen=True, kw_only=True)
class Syntax:
    span: Span = field(compare=False, repr=False)


@dataclass(frozen=True)
class Word(Syntax):
    """A name where it stands: a declared one, a use of one, an axis, a label."""

    text: str


# -- expressions -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Expr(Syntax):
    pass


@dataclass(frozen=True)
class Number(Expr):
    """`30_000`, `0.5`, `1e-6`: exact, as decimals are."""

    value: Fraction


@dataclass(frozen=True)
class Name(Expr):
    """A name used as a value: a binding, parameter, input, dim, const, or a bare function (`position`, the `silu` of `integral(silu)`)."""

    text: str


@dataclass(frozen=True)
class Negate(Expr):
    operand: Expr


@dataclass(frozen=True)
class Binary(Expr):
    """`operator` is one of `+ - * / ^ @ < <= > >= == in`."""

    operator: str
    left: Expr
    right: Expr


@dataclass(frozen=True)
class Arrow(Syntax):
    """`old -> new` in brackets."""

    old: Word
    new: Word


@dataclass(frozen=True)
class Option(Syntax):
    """`eps = 1e-6` among the arguments of a call."""

    name: Word
    value: Expr


@dataclass(frozen=True)
class Callee(Syntax):
    """`f`, `f[a, b]` (axes) or `f[d -> e]` (arrows). Never both axes and arrows."""

    name: Word
    axes: tuple[Word, ...] = ()
    arrows: tuple[Arrow, ...] = ()


@dataclass(frozen=True)
class Call(Expr):
    """`f[…](args | conditions, option = …) as label`."""

    callee: Callee
    args: tuple[Expr, ...]
    conditions: tuple[Expr, ...] = ()
    options: tuple[Option, ...] = ()
    label: Word | None = None


@dataclass(frozen=True)
class Integral(Expr):
    """`integral(f)(e)`"""

    function: Word
    operand: Expr


@dataclass(frozen=True)
class Grad(Expr):
    """`grad E(x | c)`; the label, where there is one, is the call's."""

    call: Call


@dataclass(frozen=True)
class Rename(Expr):
    """`e[a -> b, …]`"""

    operand: Expr
    arrows: tuple[Arrow, ...]


@dataclass(frozen=True)
class Each(Expr):
    """`each e { statements… expression }`"""

    axis: Word
    body: tuple[Statement, ...]
    value: Expr


@dataclass(frozen=True)
class On(Expr):
    """`on cond { statements… expression }`"""

    condition: Expr
    body: tuple[Statement, ...]
    value: Expr


# -- statements ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Statement(Syntax):
    pass


@dataclass(frozen=True)
class TypeOf(Syntax):
    """`[a, b]`, `id[v]`, `[a] id[v]`"""

    axes: tuple[Word, ...]
    vocabulary: Word | None = None


@dataclass(frozen=True)
class Init(Syntax):
    """`~ normal(s)`, `~ uniform(a)`, or `= e`; `kind` is `normal`, `uniform` or `fill`."""

    kind: str
    value: Expr


@dataclass(frozen=True)
class Param(Statement):
    name: Word
    type: TypeOf
    init: Init | None = None


@dataclass(frozen=True)
class Input(Statement):
    name: Word
    type: TypeOf
    per_sequence: bool = False


@dataclass(frozen=True)
class Bind(Statement):
    """`n = e`"""

    name: Word
    value: Expr


@dataclass(frozen=True)
class Update(Statement):
    """`x <- e`"""

    name: Word
    value: Expr


@dataclass(frozen=True)
class Stack(Statement):
    count: Expr
    label: Word
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class Repeat(Statement):
    count: Expr
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class Share(Statement):
    name: Word
    callee: Callee


@dataclass(frozen=True)
class Step(Syntax):
    """One part of a path: `layers`, `layers[3]`, `layers[*]` (`index` is then "*")."""

    name: Word
    index: int | str | None = None


@dataclass(frozen=True)
class Path(Syntax):
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Tie(Statement):
    left: Path
    right: Path


@dataclass(frozen=True)
class Freeze(Statement):
    path: Path


@dataclass(frozen=True)
class Penalty(Statement):
    value: Expr


@dataclass(frozen=True)
class Probe(Statement):
    name: Word
    value: Expr


@dataclass(frozen=True)
class Loss(Statement):
    value: Expr


@dataclass(frozen=True)
class Output(Statement):
    """`output n = e`, or `output n: [axes] = e`"""

    name: Word
    axes: tuple[Word, ...] | None
    value: Expr


@dataclass(frozen=True)
class Minimize(Statement):
    value: Expr


@dataclass(frozen=True)
class Return(Statement):
    value: Expr


# -- declarations ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Declaration(Syntax):
    pass


@dataclass(frozen=True)
class Use(Declaration):
    path: str


@dataclass(frozen=True)
class Dim(Declaration):
    name: Word
    value: Expr


@dataclass(frozen=True)
class Const(Declaration):
    name: Word
    value: Expr


@dataclass(frozen=True)
class Setting(Syntax):
    name: Word
    value: Expr


@dataclass(frozen=True)
class Types(Declaration):
    name: Word
    vocabulary: Word
    settings: tuple[Setting, ...]


@dataclass(frozen=True)
class Context(Declaration):
    name: Word


@dataclass(frozen=True)
class Variant(Declaration):
    name: Word
    settings: tuple[Setting, ...]


@dataclass(frozen=True)
class Argument(Syntax):
    name: Word
    type: TypeOf


@dataclass(frozen=True)
class Energy(Declaration):
    name: Word
    variable: Argument
    conditions: tuple[Argument, ...]
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class Block(Declaration):
    name: Word
    args: tuple[Argument, ...]
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class Model(Declaration):
    name: Word
    bidirectional: bool
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class File(Syntax):
    declarations: tuple[Declaration, ...]
