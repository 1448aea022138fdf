"""What a callable does with its arguments, read off its typed body once: how often its result exists, and what mixes tokens.

`result`  how the result depends on the arguments, and on tokens after the one that it belongs to (see `flow`)
`viewed`  arguments whose values at other tokens are asked for (they must have one for each token), and the first expression that asks
`bars`    what may not stand in an energy, here or in what is called
"""

from __future__ import annotations

import math
from collections.abc import Callable as Function
from dataclasses import dataclass, field, replace
from weakref import WeakKeyDictionary

from mptc.ir.axis import SEQ
from mptc.model import tree
from mptc.model.flow import FOREVER, TOKENS, Back, Bar, Flow, Trail, joined
from mptc.model.tree import Apply, Binding, Callable, Expr, Per, Statement
from mptc.source.text import Span

VIEWS = frozenset({"past", "window", "all", "shift"})
REDUCTIONS = frozenset({"sum", "mean", "max", "logsumexp"})
FLAT = frozenset({"<", "<=", ">", ">=", "==", "in", "ceil", "floor", "types", "next", "stop"})  # whose derivative is 0
SLOPED = {"where": (1, 2), "lookup": (0,), "only": (0,), "topk": (0,)}  # the arguments that others have a derivative by, where not by all
PATIENCE = 3  # passes over a loop after which what grows is taken to grow for ever

Sink = Function[[tree.Output, Flow], None]


@dataclass
class Facts:
    result: Flow = field(default_factory=Flow)
    viewed: dict[int, Apply] = field(default_factory=dict)
    bars: dict[str, Bar] = field(default_factory=dict)

    @property
    def floor(self) -> Per:
        """How often the result exists even where every argument is one value for all."""
        return self.result.per


_known: WeakKeyDictionary[Callable, Facts] = WeakKeyDictionary()


def facts_of(callable: Callable) -> Facts:
    """The facts of a callable, found once."""
    facts = _known.get(callable)
    if facts is None:
        reader = _Reader(lambda output, flow: None)
        for index, binding in enumerate((*callable.args, *callable.conditions)):
            reader.flows[binding] = Flow(Per.CONSTANT, {index: 0}, {index: Back(0)})
        reader.statements(callable.body)
        result = reader.expr(callable.result)
        reader.facts.result = result.through(callable.result.span, "into the result")
        facts = _known[callable] = reader.facts
    return facts


def read(body: tuple[Statement, ...], sink: Sink) -> None:
    """Reads a model's own body and hands over every output with what it depends on."""
    _Reader(sink).statements(body)


class _Reader:
    """One walk over a body, in the order of its statements. A name's flow is that of its latest value."""

    def __init__(self, sink: Sink) -> None:
        self.facts = Facts()
        self.flows: dict[Binding, Flow] = {}
        self.heads: dict[tuple[int, Binding], Flow] = {}  # at the begin of a loop, over all passes
        self.chosen = False  # inside `on`
        self.sink = sink

    # -- statements ----------------------------------------------------------------------------

    def statements(self, body: tuple[Statement, ...]) -> None:
        for statement in body:
            self._statement(statement)

    def _statement(self, statement: Statement) -> None:
        match statement:
            case tree.Input(binding=binding):
                self.flows[binding] = Flow(binding.shape.per, {TOKENS: 0} if binding.shape.per is Per.TOKEN else {})
            case tree.Bind(binding=binding, value=value) | tree.Update(binding=binding, value=value):
                self.flows[binding] = self.expr(value).through(statement.span, f"into `{binding.name}`")
            case tree.Stack(body=body, carried=carried) | tree.Repeat(body=body, carried=carried):
                self._bar("stack" if isinstance(statement, tree.Stack) else "repeat", statement.span)
                self._loop(statement, body, carried)
            case tree.Output(value=value):
                self.sink(statement, self.expr(value))
            case tree.Probe(value=value) | tree.Loss(value=value) | tree.Penalty(value=value):
                self.expr(value)  # no output: later tokens are their business
            case _:
                pass

    def _loop(self, loop: Statement, body: tuple[Statement, ...], carried: tuple[Binding, ...]) -> None:
        """What a pass carries into the next may depend on more each time; it ends, because dependence only grows.

        What is known at the begin is kept between visits, so that loops inside loops do not begin again each time.
        """
        patience, settled = PATIENCE, False
        self._begin(loop, carried, Flow.grown if patience < 0 else _both)
        while not settled:
            self.statements(body)
            patience -= 1
            settled = not self._begin(loop, carried, Flow.grown if patience < 0 else _both, peek=True)

    def _begin(self, loop: Statement, carried: tuple[Binding, ...], join: Function[[Flow, Flow], Flow], *, peek: bool = False) -> bool:
        """Joins what the bindings are now into what they are at the begin of a pass; whether that made it more.

        With `peek` the bindings keep their values where nothing grew: the loop is over, and these are what it leaves.
        """
        heads = {}
        for binding in carried:
            now = self.flows.get(binding, Flow())
            before = self.heads.get((id(loop), binding))
            heads[binding] = now if before is None else join(before, now)
        grew = any((id(loop), binding) not in self.heads or self.heads[id(loop), binding].state() != head.state() for binding, head in heads.items())
        if grew or not peek:
            for binding, head in heads.items():
                self.flows[binding] = self.heads[id(loop), binding] = head
        return grew

    # -- expressions ---------------------------------------------------------------------------

    def expr(self, expr: Expr) -> Flow:
        match expr:
            case tree.Number(value=value):
                if any(base == SEQ for base, _ in value.powers):
                    return self._let_in(Flow(Per.SEQUENCE, {TOKENS: FOREVER}), "seq", expr.span, "`seq` counts later tokens")
                return Flow()
            case tree.Load(of=of):
                return self.flows.get(of, Flow()) if isinstance(of, Binding) else Flow()
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
            case tree.On():
                return self._on(expr)
        raise AssertionError(expr)

    def _on(self, expr: tree.On) -> Flow:
        self._bar("on", expr.span)
        flow = self.expr(expr.condition)
        before, self.chosen = self.chosen, True
        self.statements(expr.body)
        value = self.expr(expr.value)
        self.chosen = before
        return joined([value, flow])

    def _apply(self, expr: Apply) -> Flow:
        name = expr.function
        flow = joined(_sloped(expr, index, self.expr(arg)) for index, arg in enumerate(expr.args))
        whole = SEQ in expr.axes
        if whole or name == "dropout":
            self._bar(f"{name}[seq]" if whole else name, expr.span)
        if name in VIEWS or whole:
            for index in flow.on:
                if index != TOKENS:
                    self.facts.viewed.setdefault(index, expr)
        ahead, back = _span(expr)
        if self.chosen:
            ahead, back = (FOREVER if each > 0 else each for each in (ahead, back))
        flow = flow.moved(ahead).reaching(back, expr)
        if ahead > 0:
            flow = self._let_in(flow, _what(expr), expr.span, _sees(expr))
        return replace(flow, per=_often(expr, flow))

    def _invoke(self, expr: tree.Invoke) -> Flow:
        flows = [self.expr(arg) for arg in expr.args]
        facts = facts_of(expr.callee)
        for index, flow in enumerate(flows):
            if index in facts.viewed:
                for mine in flow.on:
                    if mine != TOKENS:
                        self.facts.viewed.setdefault(mine, facts.viewed[index])
        for bar in facts.bars.values():
            self.facts.bars.setdefault(bar.what, bar.under(expr.span))
        result = facts.result.scattered() if self.chosen else facts.result
        made = result.under(flows, expr.span, expr.callee.name)
        if expr.grad:
            made = self._grad(expr, result, made)
        return replace(made, per=min(expr.callee.result.shape.per, made.per))

    def _grad(self, expr: tree.Invoke, energy: Flow, made: Flow) -> Flow:
        """At token i it gathers from the energies of all tokens that depend on the variable there; those of later tokens are the leak."""
        self._bar("grad", expr.span)
        back = energy.by.get(0)
        if back is None or back.tokens <= 0:
            return made
        made = made.moved(back.tokens)
        if back.view is None or back.view.function == "all":  # `all` is a leak of its own
            return made
        name, view = expr.callee.name, back.view.function
        text = f"`grad {name}` gathers from later tokens, which see this one through `{view}`"
        return made.let_in((f"grad {name} {view}", expr.span), Trail(expr.span, text, view=back.view.span))

    def _bar(self, what: str, span: Span) -> None:
        self.facts.bars.setdefault(what, Bar(what, span))

    def _let_in(self, flow: Flow, what: str, span: Span, text: str) -> Flow:
        return flow.let_in((what, span), Trail(span, text))


def _both(before: Flow, now: Flow) -> Flow:
    return joined((before, now))


def _sloped(expr: Apply, index: int, flow: Flow) -> Flow:
    """An argument's part in the result; no derivative where the function is flat in it."""
    flat = expr.function in FLAT or index not in SLOPED.get(expr.function, (index,))
    return replace(flow, by={}) if flat else flow


def _span(expr: Apply) -> tuple[float, float]:
    """How many tokens ahead of its argument a function looks, and how many back."""
    match expr.function:
        case "past":
            return 0, FOREVER
        case "window":
            return 0, _places(expr) - 1
        case "shift":
            return _shifted(_places(expr))
        case "all" | "load_balance":
            return FOREVER, FOREVER
    return (FOREVER, FOREVER) if SEQ in expr.axes else (0, 0)


def _places(expr: Apply) -> float:
    """The `n` of `window` and `shift`. One that follows from a dim is only known to be above or below 0."""
    n = expr.options.get("n")
    if n is None or n.powers:
        return math.copysign(FOREVER, n.rational) if n is not None else FOREVER
    return float(n.rational)


def _shifted(places: float) -> tuple[float, float]:
    return (0, FOREVER) if places == FOREVER else (-places, places)


def _what(expr: Apply) -> str:
    return f"{expr.function}[seq]" if SEQ in expr.axes else expr.function


def _sees(expr: Apply) -> str:
    if expr.function == "all":
        return "`all` sees a later token"
    if expr.function == "shift":
        return "`shift` fetches a later token"
    return f"`{_what(expr)}` takes in later tokens"


def _often(expr: Apply, flow: Flow) -> Per:
    if expr.function == "load_balance":
        return Per.CONSTANT
    if SEQ in expr.axes and expr.function in REDUCTIONS:
        return Per.SEQUENCE
    return expr.shape.per if expr.function in VIEWS or not expr.args else flow.per
