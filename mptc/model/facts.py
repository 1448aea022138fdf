"""What a callable does with its arguments, read off its typed body once: how often its result exists, and what mixes tokens.

`floor`   how often the result exists even where every argument is one value for all
`viewed`  arguments whose values at other tokens are asked for (they must have one for each token), and the first expression that asks
`reached` the same for derivatives: what `stop` hides does not count
`bars`    what may not stand in an energy, here or in what is called
`leaks`   what shows a later token, here or in what is called
`late`    the balance of a choice, a mean over all tokens, that the result depends on: at home in a penalty, a leak in an output
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from mptc.ir.axis import SEQ
from mptc.model import tree
from mptc.model.tree import Apply, Binding, Callable, Expr, Per, Statement
from mptc.source.text import Span

VIEWS = frozenset({"past", "window", "all", "shift"})
REDUCTIONS = frozenset({"sum", "mean", "max", "logsumexp"})


@dataclass(frozen=True)
class Bar:
    """A construct by its name, where it stands, and the calls from there outwards."""

    what: str
    span: Span
    calls: tuple[Span, ...] = ()

    def under(self, call: Span) -> Bar:
        return Bar(self.what, self.span, (*self.calls, call))


@dataclass
class Facts:
    floor: Per = Per.CONSTANT
    viewed: dict[int, Apply] = field(default_factory=dict)
    reached: dict[int, Apply] = field(default_factory=dict)
    bars: dict[str, Bar] = field(default_factory=dict)
    leaks: dict[tuple[str, Span], Bar] = field(default_factory=dict)
    late: Bar | None = None


@dataclass(frozen=True)
class _Flow:
    """Of a value: how often it exists, the arguments that it depends on, those that it has a derivative by, and a balance that it depends on."""

    per: Per = Per.CONSTANT
    on: frozenset[int] = frozenset()
    by: frozenset[int] = frozenset()
    late: Bar | None = None

    def with_(self, others: Iterable[_Flow]) -> _Flow:
        flow = self
        for other in others:
            flow = _Flow(max(flow.per, other.per), flow.on | other.on, flow.by | other.by, flow.late or other.late)
        return flow


_known: WeakKeyDictionary[Callable, Facts] = WeakKeyDictionary()


def facts_of(callable: Callable) -> Facts:
    """The facts of a callable, found once."""
    facts = _known.get(callable)
    if facts is None:
        reader = _Reader()
        for index, binding in enumerate((*callable.args, *callable.conditions)):
            reader.flows[binding] = _Flow(Per.CONSTANT, frozenset({index}), frozenset({index}))
        reader.statements(callable.body)
        result = reader.expr(callable.result)
        reader.facts.floor, reader.facts.late = result.per, result.late
        facts = _known[callable] = reader.facts
    return facts


def facts_of_body(body: tuple[Statement, ...]) -> Facts:
    """The facts of a model's own body."""
    reader = _Reader()
    reader.statements(body)
    return reader.facts


class _Reader:
    def __init__(self) -> None:
        self.facts = Facts()
        self.flows: dict[Binding, _Flow] = {}

    # -- statements ----------------------------------------------------------------------------

    def statements(self, body: tuple[Statement, ...]) -> None:
        for statement in body:
            self._statement(statement)

    def _statement(self, statement: Statement) -> None:
        match statement:
            case tree.Input(binding=binding):
                self.flows[binding] = _Flow(binding.shape.per)
            case tree.Bind(binding=binding, value=value):
                self.flows[binding] = self.expr(value)
            case tree.Update(binding=binding, value=value):
                flow = self.expr(value)
                self.flows[binding] = self.flows.get(binding, _Flow()).with_([flow])
            case tree.Stack(body=body) | tree.Repeat(body=body):
                self._bar("stack" if isinstance(statement, tree.Stack) else "repeat", statement.span)
                self._until_stable(body)
            case tree.Output(value=value):
                late = self.expr(value).late
                if late is not None:
                    self.facts.leaks.setdefault((late.what, late.span), late)
            case tree.Probe(value=value):
                self.expr(value)
            case tree.Loss(value=value) | tree.Penalty(value=value):
                self._aside(value)
            case _:
                pass

    def _until_stable(self, body: tuple[Statement, ...]) -> None:
        """What a pass carries into the next may depend on more each time; it ends, because dependence only grows."""
        before = None
        while before != self.flows:
            before = dict(self.flows)
            self.statements(body)

    def _aside(self, value: Expr) -> None:
        """A loss or penalty: later tokens are its business, so it leaks nothing."""
        leaks = dict(self.facts.leaks)
        self.expr(value)
        self.facts.leaks = leaks

    # -- expressions ---------------------------------------------------------------------------

    def expr(self, expr: Expr) -> _Flow:
        match expr:
            case tree.Number(value=value):
                if any(base == SEQ for base, _ in value.powers):
                    self._leak("seq", expr.span)
                    return _Flow(Per.SEQUENCE)
                return _Flow()
            case tree.Load(of=of):
                return self.flows.get(of, _Flow()) if isinstance(of, Binding) else _Flow()
            case tree.Apply():
                return self._apply(expr)
            case tree.Integral(operand=operand) | tree.Rename(operand=operand):
                return self.expr(operand)
            case tree.Invoke():
                return self._invoke(expr)
            case tree.Each(body=body, value=value):
                self._bar("each", expr.span)
                self.statements(body)
                return self.expr(value)
            case tree.On(condition=condition, body=body, value=value):
                self._bar("on", expr.span)
                flow = self.expr(condition)
                self.statements(body)
                return self.expr(value).with_([flow])
        raise AssertionError(expr)

    def _apply(self, expr: Apply) -> _Flow:
        name = expr.function
        flow = _Flow().with_([self.expr(arg) for arg in expr.args])
        if SEQ in expr.axes:
            self._leak(f"{name}[seq]", expr.span)
            self._bar(f"{name}[seq]", expr.span)
        if name == "dropout":
            self._bar(name, expr.span)
        if name == "all" or (name == "shift" and expr.options["n"].rational < 0):
            self._leak(name, expr.span)
        if name in VIEWS or SEQ in expr.axes:
            self._mix(expr, flow)
        return _after(expr, flow)

    def _mix(self, expr: Apply, flow: _Flow) -> None:
        for index in flow.on:
            self.facts.viewed.setdefault(index, expr)
        for index in flow.by:
            self.facts.reached.setdefault(index, expr)

    def _invoke(self, expr: tree.Invoke) -> _Flow:
        flows = [self.expr(arg) for arg in expr.args]
        facts = facts_of(expr.callee)
        for index, flow in enumerate(flows):
            if index in facts.viewed:
                for mine in flow.on:
                    self.facts.viewed.setdefault(mine, facts.viewed[index])
            if index in facts.reached:
                for mine in flow.by:
                    self.facts.reached.setdefault(mine, facts.reached[index])
        for bar in facts.bars.values():
            self.facts.bars.setdefault(bar.what, bar.under(expr.span))
        for key, leak in facts.leaks.items():
            self.facts.leaks.setdefault(key, leak.under(expr.span))
        if expr.grad:
            self._grad(expr, facts)
        whole = _Flow().with_(flows)
        late = whole.late or (facts.late.under(expr.span) if facts.late is not None else None)
        return _Flow(min(expr.callee.result.shape.per, max(whole.per, facts.floor)), whole.on, whole.by, late)

    def _grad(self, expr: tree.Invoke, facts: Facts) -> None:
        self._bar("grad", expr.span)
        view = facts.reached.get(0)
        if view is not None and view.function != "all":  # `all` is a leak of its own
            self.facts.leaks.setdefault(("grad", expr.span), Bar(f"grad {expr.callee.name} {view.function}", expr.span, (view.span,)))

    def _bar(self, what: str, span: Span) -> None:
        self.facts.bars.setdefault(what, Bar(what, span))

    def _leak(self, what: str, span: Span) -> None:
        self.facts.leaks.setdefault((what, span), Bar(what, span))


def _after(expr: Apply, flow: _Flow) -> _Flow:
    name = expr.function
    if name == "load_balance":
        return _Flow(Per.CONSTANT, flow.on, flow.by, flow.late or Bar(name, expr.span))
    if SEQ in expr.axes and name in REDUCTIONS:
        return _Flow(Per.SEQUENCE, flow.on, flow.by, flow.late)
    if name in VIEWS or not expr.args:
        return _Flow(expr.shape.per, flow.on, flow.by, flow.late)
    return _Flow(flow.per, flow.on, frozenset() if name == "stop" else flow.by, flow.late)
