"""Bodies at work: the statements of a model, block or energy, instantiated where they are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from mptc.build.arithmetic import arithmetic
from mptc.build.choices import CHOICES, Chosen, choice
from mptc.build.functions import NotLowered, Use, builtin, integral, raised, reseen
from mptc.build.ids import Partitions
from mptc.build.watch import Watched, at, outside, probe, together
from mptc.ir.axis import BATCH, SEQ, Axis, Role
from mptc.ir.node import Kind, Node, Type, axes_of, make
from mptc.ir.number import ONE, Monomial
from mptc.ir.program import Energy, Output, Parameter, Probe
from mptc.model import tree
from mptc.ops.chance import dropout
from mptc.ops.choose import Entry
from mptc.ops.chosen import On
from mptc.ops.compare import Compare
from mptc.ops.contract import number, product
from mptc.ops.leaf import Formal, Index, Input, Param, formal, fresh
from mptc.ops.region import Derivative, Loop, Result
from mptc.ops.token import CrossEntropy, MeanLoss
from mptc.ops.view import hold
from mptc.source.text import Span


class Unlowered(Exception):
    """A construct that has no IR yet, and where it stands."""

    def __init__(self, construct: str, span: Span) -> None:
        super().__init__(construct)
        self.construct, self.span = construct, span


@dataclass
class Ledger:
    """What the bodies of one model add up to."""

    sizes: dict[Axis, int]
    partitions: Partitions
    moved: Mapping[str, tuple[str, tuple[Axis, ...]]] = field(default_factory=dict)  # a path to what it is tied to, and the axes there
    inputs: list[Node] = field(default_factory=list)
    parameters: dict[str, Parameter] = field(default_factory=dict)
    copies: dict[str, int] = field(default_factory=dict)  # of each stack
    read: set[str] = field(default_factory=set)  # paths of parameters, stored ones
    outputs: list[Output] = field(default_factory=list)
    losses: list[Node] = field(default_factory=list)
    watched: list[Watched] = field(default_factory=list)
    names: dict[Node, str] = field(default_factory=dict)
    spans: dict[Node, Span] = field(default_factory=dict)
    energies: list[Energy] = field(default_factory=list)
    stated: list[Span] = field(default_factory=list)  # what has been lowered, in order
    bound: set[Node] = field(default_factory=set)
    contexts: dict[Axis, set[Axis]] = field(default_factory=dict)  # what stands along each: the tokens, or an input that is a memory

    def seen_as(self, axis: Axis, of: Axis) -> None:
        """Along a context stands what stands along another one, or the tokens."""
        if axis.role is Role.CONTEXT:
            self.contexts.setdefault(axis, set()).update(self.contexts.get(of, {SEQ}))

    def passes(self, count: int) -> Axis:
        """An axis for the passes of a loop. No name of a spec's has a space."""
        axis = Axis(Role.DIM, f"pass {len(self.sizes)}")
        self.sizes[axis] = count
        return axis

    @property
    def counts(self) -> list[Node]:
        """Conditions for a token to count: a first input of ids is below 0 where there is none."""
        return [make(Compare(">="), ids, number(0)) for ids in self.inputs[:1] if ids.type.kind is Kind.ID]

    @property
    def penalties(self) -> list[Node]:
        return [one.node for one in self.watched if one.name is None]

    @property
    def probes(self) -> tuple[Probe, ...]:
        """Probes under names that differ: where one statement runs at several places of one path, from the second on with a number."""
        found: dict[str, Probe] = {}
        for one in self.watched:
            if one.name is not None:
                same = sum(other.partition("#")[0] == one.name for other in found)
                name = f"{one.name}#{same + 1}" if same else one.name
                found[name] = one.probe(name)
        return tuple(found.values())

    def stored(self, path: str, axes: tuple[Axis, ...]) -> tuple[str, tuple[Axis, ...]]:
        """Where a parameter is stored and in which order, ties followed."""
        while path in self.moved:
            path, axes = self.moved[path]
        return path, axes

    def call(self, node: Node, name: str, span: Span, bound: bool = False) -> Node:
        """Remember what the spec calls a value, and where. A binding says more than a label."""
        if bound and node not in self.bound:
            self.names.pop(node, None)
            self.bound.add(node)
        self.names.setdefault(node, name)
        self.spans.setdefault(node, span)
        return node


@dataclass(frozen=True)
class Standing:
    """Where a share stands: the path and the stacks of its body, and the axes that parameters gain there."""

    path: str
    stacks: tuple[int, ...]
    gained: tuple[Axis, ...]


@dataclass
class Body:
    """One body being instantiated. `axes` renames its axes to those of the model; `inside` an energy nothing is a barrier."""

    ledger: Ledger
    path: str = ""
    axes: dict[Axis, Axis] = field(default_factory=dict)
    inside: bool = False
    watched: list[Watched] = field(default_factory=list)  # in the loop around, or in the model
    passing: int | None = None  # a variable of the innermost loop around, by its key
    bindings: dict[tree.Binding, Node] = field(default_factory=dict)
    parameters: dict[tree.Parameter, Node] = field(default_factory=dict)
    chosen: Chosen | None = None
    shares: dict[tree.Share, Standing] = field(default_factory=dict)
    stacks: tuple[int, ...] = ()  # the loop of each stack that the path goes through
    gained: tuple[Axis, ...] = ()  # of every `each` around: parameters have them first

    # -- statements ---------------------------------------------------------------------------------

    def run(self, statements: tuple[tree.Statement, ...]) -> None:
        for statement in statements:
            self.ledger.stated.append(statement.span)
            try:
                self.statement(statement)
            except NotLowered as missing:
                raise Unlowered(missing.construct, statement.span) from missing

    def statement(self, statement: tree.Statement) -> None:
        match statement:
            case tree.Parameter():
                self.parameter(statement)
            case tree.Input():
                self.input(statement)
            case tree.Bind(binding=binding, value=value) | tree.Update(binding=binding, value=value):
                node = self.value(value)
                barrier = isinstance(statement, tree.Update) or type(node.op).__name__ == "Sum"
                node = self.kept(node, binding.shape) if isinstance(statement, tree.Update) else node
                node = self.barrier(node) if barrier else node
                self.bindings[binding] = self.ledger.call(node, binding.name, statement.span, bound=True)
            case tree.Stack() | tree.Repeat():
                self.loop(statement)
            case tree.Loss():
                self.ledger.losses.append(self.loss(statement.value))
            case tree.Output():
                node = self.ledger.call(self.value(statement.value), statement.name, statement.span)
                per_token = statement.value.shape.per is not tree.Per.SEQUENCE
                self.ledger.outputs.append(Output(statement.name, node, tuple(self.axis(axis) for axis in statement.axes), per_token))
            case tree.Penalty():
                self.watched.append(Watched(make(MeanLoss(), self.value(statement.value))))
            case tree.Probe(value=value):
                axes = tuple(self.axis(axis) for axis in value.shape.axes)
                self.watched.append(probe(self.path + statement.name, self.value(value), value.shape, axes))
            case tree.Tie() | tree.Freeze():
                pass  # `mptc.build.ties` follows them
            case tree.Share():
                self.shares[statement] = Standing(self.path, self.stacks, self.gained)
            case _:
                raise Unlowered(f"`{type(statement).__name__.lower()}`", statement.span)

    def kept(self, node: Node, shape: tree.Shape) -> Node:
        """The new value of a binding, along every axis that the binding has."""
        return self.along(node, [axis for axis in map(self.axis, shape.axes) if axis.role is Role.DIM])

    def along(self, node: Node, axes: Sequence[Axis]) -> Node:
        """The value, of each index of axes that it may be the same for."""
        ones = [make(Compare("=="), here, here) for here in (make(Index(axis)) for axis in axes if axis not in node.axes)]
        return product(node, *ones) if ones else node

    def parameter(self, statement: tree.Parameter) -> None:
        own = self.path + statement.name
        axes = (*self.gained, *(self.axis(axis) for axis in statement.axes))
        value = self.number(statement.init.value)
        if value is None:
            raise Unlowered("a parameter that begins with anything but a number", statement.init.value.span)
        path, axes = self.ledger.stored(own, axes)
        if path == own:
            self.ledger.parameters[path] = Parameter(path, axes, statement.init.kind, value.evaluate(self.ledger.sizes))
        self.ledger.read.add(path)
        node = make(Param(path, axes, self.stacks[: path.count("[*]")]), span=statement.span)
        self.parameters[statement] = self.ledger.call(node, statement.name, statement.span)

    def input(self, statement: tree.Input) -> None:
        shape = statement.binding.shape
        kind = Kind.NUMBER if shape.vocabulary is None else Kind.ID
        per_token = shape.per is tree.Per.TOKEN
        if not self.ledger.inputs and not per_token:
            raise Unlowered("a first input that is per sequence", statement.span)
        node = make(Input(statement.binding.name, shape.axes, per_token, kind), span=statement.span)
        for axis in shape.axes:
            if axis.role is Role.CONTEXT:
                self.ledger.contexts[axis] = {axis}
        self.ledger.inputs.append(node)
        self.bindings[statement.binding] = self.ledger.call(node, statement.binding.name, statement.span)

    def loop(self, statement: tree.Stack | tree.Repeat) -> None:
        """A loop over what `<-` updates in it. The state's axes grow until a pass keeps them."""
        label = statement.label if isinstance(statement, tree.Stack) else None
        path = f"{self.path}{label}[*]." if label else self.path
        stacks = (*self.stacks, fresh()) if label else self.stacks
        if label:
            self.ledger.copies[path.removesuffix("[*].")] = statement.count
        initial = [self.bindings[binding] for binding in statement.carried]
        types = [Type(node.axes, node.type.kind) for node in initial]
        energies = len(self.ledger.energies)
        while True:
            del self.ledger.energies[energies:]
            formals = tuple(make(formal(binding.name, type_)) for binding, type_ in zip(statement.carried, types, strict=True))
            passing = next((node.op.key for node in formals if isinstance(node.op, Formal)), self.passing)
            inner = replace(self, path=path, stacks=stacks, watched=[], passing=passing, bindings={**self.bindings}, parameters={**self.parameters})
            for binding, node in zip(statement.carried, formals, strict=True):
                inner.bindings[binding] = self.ledger.call(node, binding.name, statement.span)
            inner.run(statement.body)
            results = tuple(inner.bindings[binding] for binding in statement.carried)
            grown = [Type(axes_of((*type_.axes, *result.axes)), type_.kind) for type_, result in zip(types, results, strict=True)]
            if grown == types:
                break
            types = grown
        watched = together(inner.watched)
        passes = self.ledger.passes(statement.count) if watched else None
        seen = tuple(one.node for one in watched)
        loop = make(Loop(statement.count, label, path.rstrip("."), formals, results, stacks, seen, passes), *initial, span=statement.span)
        self.ledger.spans[loop] = statement.span
        self.watched += outside(watched, loop)
        for index, binding in enumerate(statement.carried):
            self.bindings[binding] = self.ledger.call(make(Result(index, types[index]), loop), binding.name, statement.span)

    def loss(self, value: tree.Expr) -> Node:
        """The mean over the tokens that count: those whose ids are not masked in any cross-entropy of the expression."""
        node = self.value(value)
        if isinstance(node.op, CrossEntropy):
            return make(CrossEntropy(node.op.axis, mean=True), *node.args, span=value.span)
        ids: list[Node] = []
        pending = [node]
        while pending:
            found = pending.pop()
            if isinstance(found.op, CrossEntropy):
                ids.append(found.args[1])
            pending.extend(found.args)
        return make(MeanLoss(), node, *ids, span=value.span)

    def barrier(self, node: Node) -> Node:
        """What stands between statements is not flattened, nor is what a block returns; scores are, for attention to be seen."""
        if self.inside or any(axis.role is Role.CONTEXT for axis in node.axes) or node.type.kind is Kind.ID:
            return node
        return hold(node)

    # -- expressions --------------------------------------------------------------------------------

    def axis(self, axis: Axis) -> Axis:
        return self.axes.get(axis, axis)

    def number(self, expr: tree.Expr) -> Monomial | None:
        """The value of an expression made of numbers alone; None of any other."""
        if isinstance(expr, tree.Number):
            powers = [(self.axis(base) if isinstance(base, Axis) else base, power) for base, power in expr.value.powers]
            return Monomial(expr.value.rational) * Monomial(Fraction(1), tuple(powers))
        if not isinstance(expr, tree.Apply) or expr.axes:
            return None
        values = [self.number(arg) for arg in expr.args]
        known = [value for value in values if value is not None]
        return arithmetic(expr.function, known, self.ledger.sizes) if len(known) == len(values) else None

    def value(self, expr: tree.Expr) -> Node:
        try:
            node = self._value(expr)
        except NotLowered as missing:
            raise Unlowered(missing.construct, expr.span) from missing
        return node

    def _value(self, expr: tree.Expr) -> Node:
        match expr:
            case tree.Number():
                value = self.number(expr)
                return number(ONE if value is None else value)
            case tree.Load(of=tree.Parameter() as parameter):
                return self.parameters[parameter]
            case tree.Load(of=tree.Binding() as binding):
                return self.bindings[binding]
            case tree.Rename():
                arrows = {self.axis(old): self.axis(new) for old, new in expr.arrows}
                for old, new in arrows.items():
                    self.ledger.seen_as(new, old)
                return reseen(self.value(expr.operand), arrows)
            case tree.Integral():
                return integral(expr.function, self.value(expr.operand))
            case tree.Invoke():
                return self.invoke(expr)
            case tree.On():
                return self.on(expr)
            case tree.Each():
                return self.each(expr)
            case tree.Apply(function="^"):
                exponent = self.number(expr.args[1])
                exact = None if exponent is None else exponent.resolved(self.ledger.sizes)
                return raised(self.value(expr.args[0]), exact, self.value(expr.args[1]))
            case tree.Apply():
                return self.apply(expr)
            case _:
                raise NotLowered(f"`{type(expr).__name__.lower()}`")

    def apply(self, expr: tree.Apply) -> Node:
        options: dict[str, Fraction] = {}
        for name, option in expr.options.items():
            exact = option.resolved(self.ledger.sizes)
            options[name] = Fraction(repr(option.evaluate(self.ledger.sizes))) if exact is None else exact
        if expr.function == "dropout":
            return make(dropout(options["p"], self.passing), self.value(expr.args[0]))
        if expr.function == "here":
            return product(self.value(expr.args[0]))
        use = Use(expr.function, tuple(self.value(arg) for arg in expr.args), tuple(self.axis(axis) for axis in expr.axes), options)
        match use:
            case Use(function="lookup", args=(table, ids), axes=(axis,)) if ids.type.kind is Kind.ID:
                return self.ledger.partitions.lookup(table, ids, axis)
            case Use(function="lookup", args=(table, place), axes=(axis,)):
                return make(Entry(axis), table, place)
            case Use(function="types", args=(ids,)):
                vocabulary = expr.args[0].shape.vocabulary
                assert vocabulary is not None
                return self.ledger.partitions.types(ids, vocabulary)
            case Use(function="in", args=(ids,), axes=(part,)):
                return self.ledger.partitions.of_type(ids, part)
        if expr.function in ("past", "window", "all"):
            self.ledger.seen_as(use.axes[0], SEQ)
        if expr.function in CHOICES:
            return choice(use, self.chosen, self.ledger.counts)
        return builtin(use) if self.chosen is None else self.chosen.applied(use)

    def on(self, expr: tree.On) -> Node:
        """The body for the chosen tokens, 0 for the others. What is made in it and then viewed is seen of chosen tokens alone."""
        condition = self.value(expr.condition)
        around = condition if self.chosen is None else product(condition, self.chosen.condition)
        inner = replace(self, bindings={**self.bindings}, parameters={**self.parameters}, chosen=Chosen(around, frozenset(self.bindings.values())))
        inner.run(expr.body)
        return make(On(), condition, inner.value(expr.value), number(0))

    def each(self, expr: tree.Each) -> Node:
        """The body with parameters that have the axis: what has it from outside meets it index by index."""
        axis = self.axis(expr.axis)
        inner = replace(self, bindings={**self.bindings}, parameters={**self.parameters}, gained=(*self.gained, axis))
        inner.run(expr.body)
        return self.along(inner.value(expr.value), [axis])

    # -- calls --------------------------------------------------------------------------------------

    def invoke(self, call: tree.Invoke) -> Node:
        args = [self.value(arg) for arg in call.args]
        renaming = {old: self.axis(new) for old, new in call.arrows}
        at = Standing(self.path, self.stacks, self.gained) if call.share is None else self.shares[call.share]
        path = at.path if call.label is None else f"{at.path}{call.label}."
        inside = self.inside or call.callee.kind == "energy"
        axes = {**self.axes, **renaming}
        inner = Body(self.ledger, path, axes, inside, self.watched, self.passing, chosen=self.chosen, stacks=at.stacks, gained=at.gained)
        declared = (*call.callee.args, *call.callee.conditions)
        if call.grad:
            return self.gradient(call, inner, declared, args)
        for binding, arg in zip(declared, args, strict=True):
            inner.bindings[binding] = inner.barrier(arg) if arg.args and not inner.inside else arg
            self.ledger.call(inner.bindings[binding], binding.name, call.span)
        self.ledger.stated += (call.callee.span, call.callee.result.span)
        inner.run(call.callee.body)
        result = inner.barrier(inner.value(call.callee.result))
        if call.label is not None and call.label != call.callee.name:
            self.ledger.call(result, call.label, call.span)
        return result

    def gradient(self, call: tree.Invoke, inner: Body, declared: tuple[tree.Binding, ...], args: list[Node]) -> Node:
        formals = []
        for place, (binding, arg) in enumerate(zip(declared, args, strict=True)):
            axes = (*arg.axes, *(inner.axis(axis) for axis in binding.shape.axes), *((BATCH, SEQ, *inner.gained) if place == 0 else ()))
            formals.append(make(formal(binding.name, Type(axes_of(axes), arg.type.kind, arg.type.seen))))
            inner.bindings[binding] = self.ledger.call(formals[-1], binding.name, binding.span)
        inner.watched = []
        before = len(self.ledger.stated)
        inner.run(call.callee.body)
        energy = inner.value(call.callee.result)
        self.watched += at(inner.watched, dict(zip(formals, args, strict=True)))
        step = make(Derivative(tuple(formals), energy, call.callee.name), *args, span=call.span)
        label = self.path + (call.label or call.callee.name)
        written = (call.callee.span, *self.ledger.stated[before:], call.callee.result.span)
        self.ledger.energies.append(Energy(call.callee.name, label, tuple(formals), energy, call.callee.span, call.span, step, written))
        return step
