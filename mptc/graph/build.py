"""Typed model → graph. A call is a box; so is a statement that computes more than one call. What only looks at a value is an edge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from mptc.graph import Box, Edge, Graph, Group, Kind, Style
from mptc.ir.path import Path
from mptc.model import tree
from mptc.model.listing import bare, line
from mptc.model.paths import Branch, expressions, parts, tied
from mptc.model.shapes import brackets

VIEWS = ("past", "window", "all", "only")
HELD = "held fixed"
WIDEST = 72  # characters of a label
DEEPEST = 200  # expressions inside one another: what a label shows


@dataclass(frozen=True)
class _Source:
    """A box that a value comes from, and what it is seen through on the way."""

    box: int
    labels: tuple[str, ...] = ()
    held: bool = False

    def seen(self, label: str, held: bool = False) -> _Source:
        labels = self.labels if label in self.labels else (*self.labels, label)
        return _Source(self.box, labels, self.held or held)


_Sources = tuple[_Source, ...]


def graph(model: tree.Model) -> Graph:
    """The graph of a resolved model."""
    drawn = _Drawing(Graph(model.name))
    drawn.statements(model.body, None, "")
    for tie, statement in tied(Branch(model.body)):
        drawn.tie(tie.path, tie.home, f"{statement.left} = {statement.right}")
    drawn.graph.edges = list(dict.fromkeys(drawn.graph.edges))
    return drawn.graph


class _Drawing:
    """What has been drawn, and where each binding's value comes from."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.values: dict[tree.Binding, _Sources] = {}
        self.parameters: dict[tree.Parameter, int] = {}
        self.shares: dict[tree.Share, int] = {}
        self.paths: dict[str, int] = {}  # of the boxes that have parameters, `[*]` at each stack

    # -- boxes and edges --------------------------------------------------------------------------------

    def box(self, kind: Kind, label: str, group: int | None, sources: Iterable[_Source] = ()) -> int:
        number = len(self.graph.boxes) + 1
        self.graph.boxes.append(Box(number, kind, label if len(label) <= WIDEST else label[: WIDEST - 1] + "…", group))
        self.edges(sources, number)
        return number

    def edges(self, sources: Iterable[_Source], target: int, style: Style = Style.FLOW, label: str = "") -> None:
        for source in sources:
            kind = Style.HELD if source.held and style is Style.FLOW else style
            self.graph.edges.append(Edge(source.box, target, kind, (*source.labels, *([label] if label else []))))

    def group(self, title: str, parent: int | None) -> int:
        number = len(self.graph.groups) + 1
        self.graph.groups.append(Group(number, title, parent))
        return number

    def tie(self, left: Path, right: Path, label: str) -> None:
        ends = [self.holder(path.stem) for path in (left, right)]
        if ends[0] is not None and ends[1] is not None:
            self.graph.edges.append(Edge(ends[0], ends[1], Style.TIE, (label,)))

    def holder(self, stem: str) -> int | None:
        """The box that a tensor's path leads to: the longest path of one that it begins with."""
        while stem and stem not in self.paths:
            stem = stem.rpartition(".")[0]
        return self.paths.get(stem)

    # -- statements -------------------------------------------------------------------------------------

    def statements(self, body: Sequence[tree.Statement], group: int | None, path: str) -> None:
        for statement in body:
            match statement:
                case tree.Input(binding=binding):
                    self.values[binding] = (_Source(self.box(Kind.INPUT, f"input {binding.name}: {bare(binding.shape)}", group)),)
                case tree.Parameter(name=name, axes=axes):
                    number = self.parameters[statement] = self.box(Kind.PARAMETER, f"param {name}: {brackets(axes)}", group)
                    self.paths[path + name] = number
                case tree.Share(name=name, callee=callee):
                    number = self.shares[statement] = self.box(Kind.SHARE, f"share {name}: {callee.name}", group)
                    self.paths[path + name] = number
                case tree.Stack(label=label, count=count, body=inner, carried=carried):
                    inside = self.group(f"stack {count} as {label}", group)
                    self.loop(inner, carried, inside, f"{path}{label}[*].", "next copy")
                case tree.Repeat(count=count, body=inner, carried=carried):
                    self.loop(inner, carried, self.group(f"repeat {count}", group), path, "next pass")
                case tree.Bind(binding=binding, value=value) | tree.Update(binding=binding, value=value):
                    self.values[binding] = self.bound(statement, value, group, path)
                case tree.Output() | tree.Loss() | tree.Penalty() | tree.Probe():
                    (value,) = expressions(statement)
                    self.box(Kind.RESULT, _label(statement), group, self.sources(value, group, path))

    def loop(self, body: Sequence[tree.Statement], carried: Sequence[tree.Binding], group: int, path: str, again: str) -> None:
        """What is carried enters once, from outside, and again from the end of the body."""
        states = {binding: self.box(Kind.STATE, binding.name, group, self.values.get(binding, ())) for binding in carried}
        self.values.update({binding: (_Source(number),) for binding, number in states.items()})
        self.statements(body, group, path)
        for binding, number in states.items():
            self.edges(self.values[binding], number, Style.NEXT, again)

    def bound(self, statement: tree.Bind | tree.Update, value: tree.Expr, group: int | None, path: str) -> _Sources:
        """Where the value of a binding comes from: a call or another value, if it only looks at that, or else a box of its own."""
        core = _core(value)
        if isinstance(core, tree.Load):
            return self.sources(value, group, path)
        if isinstance(core, tree.Invoke):
            name = f"{statement.binding.name} {'<-' if isinstance(statement, tree.Update) else '='} " if core is value else ""
            return self.sources(value, group, path, name)
        return (_Source(self.box(Kind.VALUE, _label(statement), group, self.sources(value, group, path))),)

    # -- expressions ------------------------------------------------------------------------------------

    def sources(self, expr: tree.Expr, group: int | None, path: str, name: str = "") -> _Sources:
        """The boxes that an expression's value comes from; its calls become boxes. `name`: what is bound to it."""
        match expr:
            case tree.Load(of=tree.Parameter() as parameter):
                return (_Source(self.parameters[parameter]),)
            case tree.Load(of=tree.Binding() as binding):
                return self.values.get(binding, ())
            case tree.Invoke():
                return (_Source(self.call(expr, group, path, name)),)
            case tree.Apply(function="stop"):
                return tuple(source.seen("stop", held=True) for source in self.all(parts(expr), group, path))
            case tree.Apply(function="only", args=(value, *conditions)):
                mine, others = self.sources(value, group, path), self.all(conditions, group, path)
                return (*(source.seen("only") for source in mine), *(source.seen("only where") for source in others))
            case tree.Apply(function=function, options=options) if function in VIEWS:
                size = "".join(f" {number}" for number in options.values())
                return tuple(source.seen(f"{function}{size}") for source in self.all(parts(expr), group, path))
            case tree.Each(axis=axis, body=body, value=value):
                return self.region(f"each {axis}", body, value, group, path)
            case tree.On(condition=condition, body=body, value=value):
                chosen = tuple(source.seen("on") for source in self.sources(condition, group, path))
                return (*self.region("on", body, value, group, path), *chosen)
        return self.all(parts(expr), group, path)

    def all(self, exprs: Iterable[tree.Expr], group: int | None, path: str) -> _Sources:
        return tuple(dict.fromkeys(source for expr in exprs for source in self.sources(expr, group, path)))

    def region(self, title: str, body: Sequence[tree.Statement], value: tree.Expr, group: int | None, path: str) -> _Sources:
        inside = self.group(title, group)
        self.statements(body, inside, path)
        return self.sources(value, inside, path)

    def call(self, expr: tree.Invoke, group: int | None, path: str, name: str) -> int:
        """A call's box. The conditions of a derivative are held fixed."""
        given = [self.sources(arg, group, path) for arg in expr.args]
        called = expr.callee.name if expr.share is None else expr.share.name
        label = f" as {expr.label}" if expr.share is None and expr.label not in (None, expr.callee.name) else ""
        number = self.box(Kind.CALL, f"{name}{'grad ' if expr.grad else ''}{called}{label}", group)
        for place, sources in enumerate(given):
            fixed = expr.grad and place >= len(expr.callee.args)
            self.edges((source.seen(HELD, held=True) if fixed else source for source in sources), number)
        if expr.share is not None and expr.share in self.shares:
            self.graph.edges.append(Edge(self.shares[expr.share], number, Style.TIE, ("shared",)))
        elif expr.label is not None:
            self.paths[path + expr.label] = number
        return number


def _core(expr: tree.Expr) -> tree.Expr:
    """What an expression looks at, through views and renames."""
    while True:
        match expr:
            case tree.Apply(function=function, args=(inner, *_)) if function in VIEWS or function == "stop":
                expr = inner
            case tree.Rename(operand=inner):
                expr = inner
            case _:
                return expr


def _label(statement: tree.Statement) -> str:
    """The statement, each call in it by its name alone."""
    match statement:
        case tree.Bind(value=value) | tree.Update(value=value) | tree.Output(value=value) | tree.Loss(value=value):
            return line(replace(statement, value=_folded(value)))[0]
        case tree.Penalty(value=value) | tree.Probe(value=value):
            return line(replace(statement, value=_folded(value)))[0]
    raise AssertionError(statement)


def _folded(expr: tree.Expr, depth: int = 0) -> tree.Expr:
    if depth > DEEPEST:
        return _word("…", expr)
    match expr:
        case tree.Invoke(callee=callee, label=label, share=share):
            return _word(share.name if share is not None else label or callee.name, expr)
        case tree.Apply(args=args):
            return replace(expr, args=tuple(_folded(arg, depth + 1) for arg in args))
        case tree.Integral(operand=operand) | tree.Rename(operand=operand):
            return replace(expr, operand=_folded(operand, depth + 1))
        case tree.Each(axis=axis):
            return _word(f"each {axis}", expr)
        case tree.On():
            return _word("on", expr)
    return expr


def _word(name: str, expr: tree.Expr) -> tree.Load:
    return tree.Load(tree.Binding(name, expr.shape, expr.span), shape=expr.shape, span=expr.span)
