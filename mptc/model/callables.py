"""Blocks, energies and the model: each is checked once, after what it calls."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from mptc.model.body import Bodies
from mptc.model.extent import check_callable
from mptc.model.facts import facts_of
from mptc.model.load import Declared, Unit
from mptc.model.order import dependencies_first, nodes
from mptc.model.paths import Branch, check_paths
from mptc.model.scope import Body, Checked, Loose, Owner, Scope, World
from mptc.model.shapes import UNKNOWN, is_context, shown, words
from mptc.model.tree import Binding, Callable, Expr, Statement
from mptc.source.diagnostic import Note
from mptc.syntax import tree as syntax

_LAST = {"block": ("return", syntax.Return), "energy": ("minimize", syntax.Minimize)}


class Declarations(Bodies):
    """The typing of whole declarations."""

    def __init__(self, world: World) -> None:
        self.world = world
        world.recheck = lambda other, declared, loose: Declarations(other).callable(declared, loose)

    # -- blocks and energies -------------------------------------------------------------------

    def check_all(self, units: Iterable[Unit]) -> None:
        """Every block and energy of every file, called or not.

        What a used file declares and nothing calls is checked as if no size were known: the sizes are chosen for what is called.
        """
        every = [declared for unit in units for declared in unit.own.values() if declared.kind in ("block", "energy")]
        order, circles = dependencies_first(every, _called)
        for circle in circles:
            self._recursive(circle)
        used, _ = dependencies_first([declared for declared in every if declared.unit is self.world.root] + self._named_by_models(), _called)
        needed, world, unsized = set(used), self.world, replace(self.world, numbers=self.world.numbers.unsized())
        for declared in order:
            if declared not in world.checked:
                self.world = world if declared in needed else unsized
                world.checked[declared] = self.callable(declared)
        self.world = world

    def _named_by_models(self) -> list[Declared]:
        """The blocks and energies that the root's models name."""
        return [declared for model in self.world.root.models() for declared in _named(model, self.world.root)]

    def _recursive(self, circle: list[Declared]) -> None:
        chain = " → ".join(f"`{declared.name}`" for declared in (*circle, circle[0]))
        notes = tuple(Note(declared.span, "which is called here in turn") for declared in circle[1:])
        message = f"`{circle[0].name}` calls itself: {chain}"
        self.world.diagnostics.add("E0222", circle[0].span, message, "there is no recursion; a loop is `repeat N { … }`", notes)
        self.world.checked.update(dict.fromkeys(circle))

    def callable(self, declared: Declared, loose: Loose = frozenset()) -> Checked | None:
        """The check of one; `loose` are contexts of arguments that no view limits."""
        node = declared.node
        assert isinstance(node, syntax.Block | syntax.Energy)
        owner = Owner(self.world, declared.kind, declared.name, declared.unit)
        scope = Scope(Body(owner))
        variables, conditions = (node.args, ()) if isinstance(node, syntax.Block) else ((node.variable,), node.conditions)
        bindings = [self._argument(each, place, loose, scope) for place, each in enumerate((*variables, *conditions))]
        args, held = tuple(bindings[: len(variables)]), tuple(bindings[len(variables) :])
        if isinstance(node, syntax.Energy):
            self._variable(node.variable, args[0], scope)
        body, result = self._ended(declared, node.body, scope)
        check_paths(scope.body.paths, body, self.world.diagnostics, result)
        if result is None:
            return None
        if declared.kind == "energy":
            self._energy(result, scope)
        parametric = bool(Branch(body, result).members())
        callable = Callable(declared.kind, declared.name, args, held, body, result, parametric, declared.span)
        if not check_callable(callable, self.world.diagnostics):
            return None
        if declared.kind == "energy":
            self._barred(callable, scope)
        return Checked(callable, owner)

    def _argument(self, node: syntax.Argument, place: int, loose: Loose, scope: Scope) -> Binding:
        self.bearable(node.name, "argument", scope)
        shape = self.type_of(node.type, scope)
        free = frozenset(axis for index, axis in loose if index == place)
        shape = replace(shape, limited=shape.limited - free) if free else shape
        binding = Binding(node.name.text, shape, node.name.span)
        scope.enter(node.name, binding)
        return binding

    def _variable(self, node: syntax.Argument, binding: Binding, scope: Scope) -> None:
        contexts = [axis for axis in binding.shape.axes if is_context(axis)]
        if binding.shape.vocabulary is not None:
            help = "ids can be conditions, after the bar"
            scope.diagnostics.add("E0504", node.type.span, f"the variable of an energy is of numbers, and `{binding.name}` is of ids", help)
        elif contexts:
            message = f"the variable of an energy is one token's own, and `{binding.name}` has the context axis `{contexts[0]}`"
            scope.diagnostics.add("E0504", node.type.span, message, "put the context after the bar, as a condition, or view the variable inside")

    def _ended(self, declared: Declared, body: tuple[syntax.Statement, ...], scope: Scope) -> tuple[tuple[Statement, ...], Expr | None]:
        """The statements, and the value that the last one states."""
        word, kind = _LAST[declared.kind]
        last = body[-1] if body else None
        if isinstance(last, syntax.Return | syntax.Minimize) and isinstance(last, kind):
            statements = self.statements(body[:-1], scope)
            return statements, self.typed(last.value, scope)
        statements = self.statements(body, scope)
        message = f"{declared.kind} `{declared.name}` does not say what it {'returns' if word == 'return' else 'minimizes'}"
        if not any(isinstance(statement, kind) for statement in body):
            scope.diagnostics.add("E0216", declared.span, message, f"end it with `{word} …`")
        return statements, None

    # -- energies ------------------------------------------------------------------------------

    def _energy(self, result: Expr, scope: Scope) -> None:
        shape = result.shape
        if shape is UNKNOWN:
            return
        if shape.vocabulary is not None:
            scope.diagnostics.add("E0307", result.span, f"an energy is a number, and this is {shown(shape)}")
        elif shape.axes:
            axes = ", ".join(str(axis) for axis in shape.axes)
            help = f"sum over {words(shape.axes)}: `minimize sum[{axes}](…)`"
            scope.diagnostics.add("E0501", result.span, f"an energy is one number for each token, and this is {shown(shape)}", help)

    def _barred(self, callable: Callable, scope: Scope) -> None:
        """What cannot be differentiated may not stand in an energy, nor in what it calls."""
        for bar in facts_of(callable).bars.values():
            if bar.calls or bar.what not in ("grad", "each", "on", "stack", "repeat"):  # these are reported where they stand
                span, notes = (bar.calls[-1], (Note(bar.span, f"`{bar.what}` stands here"),)) if bar.calls else (bar.span, ())
                message = (
                    f"`{bar.what}` cannot stand in an energy"
                    if not bar.calls
                    else f"what is called here contains `{bar.what}`, which an energy may not"
                )
                scope.diagnostics.add("E0502", span, message, _instead(bar.what), notes)

    # -- the model -----------------------------------------------------------------------------

    def model(self, node: syntax.Model, unit: Unit) -> tuple[Statement, ...]:
        """The typed body of a model."""
        scope = Scope(Body(Owner(self.world, "model", node.name.text, unit)))
        body = self.statements(node.body, scope)
        check_paths(scope.body.paths, body, self.world.diagnostics)
        return body


def _called(declared: Declared) -> list[Declared]:
    """The blocks and energies that a declaration's text names."""
    return _named(declared.node, declared.unit)


def _named(root: syntax.Declaration, unit: Unit) -> list[Declared]:
    found = []
    for node in nodes(root):
        if isinstance(node, syntax.Callee):
            target = unit.visible.get(node.name.text)
            if target is not None and target.kind in ("block", "energy"):
                found.append(target)
    return found


def _instead(what: str) -> str:
    if what == "dropout":
        return "put it on what the energy is given"
    if what.endswith("[seq]"):
        return "an energy is one token's own: reduce over the sequence outside, or over a context inside"
    return "write it outside, around the use of the energy"
