"""The typed model: names resolved, axes known, every call site with its place in the parameter tree.

Bodies of blocks and energies are checked once, under their declared types; `mptc.build` instantiates them at each call site
(renaming axes by the call's arrows, carrying the axes that an argument has beyond its type).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from mptc.ir.axis import Axis
from mptc.ir.number import Monomial
from mptc.source.text import Span


class Per(IntEnum):
    """How often a value exists: once, once for each sequence, once for each token. Operations take the larger."""

    CONSTANT = 0
    SEQUENCE = 1
    TOKEN = 2


@dataclass(frozen=True)
class Shape:
    """What is known of a value. `axes` are in the language's order: contexts, then the others as they first appear."""

    axes: tuple[Axis, ...] = ()
    per: Per = Per.CONSTANT
    vocabulary: Axis | None = None  # for ids: what they index
    limited: frozenset[Axis] = frozenset()  # the context axes that a view (or a memory) limits
    chosen: frozenset[Axis] = frozenset()  # axes along which only some entries are there: the others are -inf
    sparse: frozenset[Axis] = frozenset()  # the same, and the others are 0


@dataclass(frozen=True, eq=False)
class Binding:
    """One bound name: an argument, an input, or what `=` binds. Identity is the binding; `<-` keeps it."""

    name: str
    shape: Shape
    span: Span


# -- expressions -----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class Expr:
    shape: Shape
    span: Span


@dataclass(frozen=True, eq=False)
class Number(Expr):
    """A literal, a const, or the size of a dim (kept by name, so that equations can say `key`)."""

    value: Monomial


@dataclass(frozen=True, eq=False)
class Load(Expr):
    """The value of a binding or of a parameter of the enclosing body."""

    of: Binding | Parameter


@dataclass(frozen=True, eq=False)
class Apply(Expr):
    """A builtin at work. `function` is the language's name or operator (`sum`, `past`, `@`, `neg`, `<`, …).

    `axes`: the axes in brackets; for `@` those summed; for `lookup` the one the ids index; for views, `only` and `distance` the context;
    for `index` its axis.
    `options`: numbers by name (`eps`, `base`, `n` of `window` and `shift`, `keep`, `steps`, `p`).
    """

    function: str
    args: tuple[Expr, ...] = ()
    axes: tuple[Axis, ...] = ()
    options: Mapping[str, Monomial] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Integral(Expr):
    """`integral(f)(e)`"""

    function: str
    operand: Expr


@dataclass(frozen=True, eq=False)
class Rename(Expr):
    operand: Expr
    arrows: tuple[tuple[Axis, Axis], ...]


@dataclass(frozen=True, eq=False)
class Invoke(Expr):
    """A call of a block or an energy, or (`grad`) the derivative of an energy by its variable.

    `label` is the segment of the parameter path under the enclosing body; None where the callee has no parameters.
    `args` are in declared order, an energy's variable first. `arrows` rename the callee's axes (left) to the caller's (right).
    `share`: the statement whose parameters this call uses; they lie where it stands, in this body or one around.
    """

    callee: Callable
    label: str | None
    args: tuple[Expr, ...]
    arrows: tuple[tuple[Axis, Axis], ...] = ()
    grad: bool = False
    share: Share | None = None


@dataclass(frozen=True, eq=False)
class Each(Expr):
    axis: Axis
    body: tuple[Statement, ...]
    value: Expr


@dataclass(frozen=True, eq=False)
class On(Expr):
    condition: Expr
    body: tuple[Statement, ...]
    value: Expr
    subtype: Axis | None = None  # `on ids in a`: the sub-axis


# -- statements ------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False, kw_only=True)
class Statement:
    span: Span


@dataclass(frozen=True, eq=False)
class Init:
    """`kind` is `normal`, `uniform` (then `value` is a Number) or `fill`."""

    kind: str
    value: Expr


@dataclass(frozen=True, eq=False)
class Parameter(Statement):
    """`axes` are in the declared order, which is the tensor's."""

    name: str
    axes: tuple[Axis, ...]
    init: Init


@dataclass(frozen=True, eq=False)
class Input(Statement):
    """In the model's own body. `binding.shape` says axes, vocabulary and whether per token or per sequence."""

    binding: Binding


@dataclass(frozen=True, eq=False)
class Bind(Statement):
    binding: Binding
    value: Expr


@dataclass(frozen=True, eq=False)
class Update(Statement):
    binding: Binding
    value: Expr


@dataclass(frozen=True, eq=False)
class Stack(Statement):
    """`carried`: the bindings from outside that `<-` updates inside, in order of first update."""

    label: str
    count: int
    body: tuple[Statement, ...]
    carried: tuple[Binding, ...]


@dataclass(frozen=True, eq=False)
class Repeat(Statement):
    count: int
    body: tuple[Statement, ...]
    carried: tuple[Binding, ...]


@dataclass(frozen=True, eq=False)
class Share(Statement):
    """One set of parameters, under `name`, for every call (`Invoke.share`) that uses it."""

    name: str
    callee: Callable
    arrows: tuple[tuple[Axis, Axis], ...] = ()


@dataclass(frozen=True, eq=False)
class Tie(Statement):
    """Full parameter paths (from the body it stands in), a stack copy written `layers[3]` or `layers[*]`."""

    left: str
    right: str


@dataclass(frozen=True, eq=False)
class Freeze(Statement):
    path: str


@dataclass(frozen=True, eq=False)
class Penalty(Statement):
    value: Expr


@dataclass(frozen=True, eq=False)
class Probe(Statement):
    name: str
    value: Expr


@dataclass(frozen=True, eq=False)
class Loss(Statement):
    value: Expr


@dataclass(frozen=True, eq=False)
class Output(Statement):
    """`axes`: the order of the axes of the tensor returned."""

    name: str
    axes: tuple[Axis, ...]
    value: Expr


# -- declarations ----------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Callable:
    """A block or an energy. `result` is what `return` or `minimize` states."""

    kind: str  # "block" or "energy"
    name: str
    args: tuple[Binding, ...]
    conditions: tuple[Binding, ...]
    body: tuple[Statement, ...]
    result: Expr
    parametric: bool  # whether it, or what it calls, has parameters
    span: Span


@dataclass(frozen=True, eq=False)
class Model:
    """One model, resolved. `sizes` holds every declared dim, with overrides and variant applied."""

    name: str
    causal: bool
    body: tuple[Statement, ...]
    sizes: Mapping[Axis, int]
    span: Span
    partitions: Mapping[Axis, tuple[Axis, ...]] = field(default_factory=dict)  # of `types`: a vocabulary's parts, in order
