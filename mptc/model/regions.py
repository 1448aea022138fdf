"""Typing of `each` and `on`, and of what a model gives: outputs, probes, losses and penalties."""

from __future__ import annotations

from abc import abstractmethod

from mptc.ir.axis import Axis, Role
from mptc.model import tree
from mptc.model.bearable import input_objection, objection, output_objection
from mptc.model.calls import Calls
from mptc.model.load import again
from mptc.model.scope import Scope
from mptc.model.shapes import PER_WORDS, UNKNOWN, brackets, is_context, joined, ordered, poison, shown, words
from mptc.model.tree import Binding, Expr, Per, Shape, Statement
from mptc.syntax import tree as syntax


class Regions(Calls):
    """The typing of regions that are expressions, and of statements that hand a value out."""

    @abstractmethod
    def statements(self, several: tuple[syntax.Statement, ...], scope: Scope) -> tuple[Statement, ...]: ...

    def bearable(self, word: syntax.Word, what: str, scope: Scope) -> None:
        """Reports a name that the generated module cannot bear."""
        reason = {"output": output_objection, "input": input_objection}.get(what, objection)(word.text)
        if reason is not None:
            message = f"`{word.text}` cannot be the name of {a(what)}: {reason}"
            scope.diagnostics.add("E0204", word.span, message, f"choose another name, as `{word.text}_`")

    # -- what a model gives --------------------------------------------------------------------

    def given(self, statement: syntax.Statement, scope: Scope) -> list[Statement]:
        """A statement that hands a value out."""
        match statement:
            case syntax.Penalty(value=value):
                return [tree.Penalty(self._scalar("penalty", value, scope), span=statement.span)]
            case syntax.Loss(value=value):
                return [tree.Loss(self._scalar("loss", value, scope.loss()), span=statement.span)]
            case syntax.Probe():
                return self._probe(statement, scope)
            case syntax.Output():
                return self._output(statement, scope)
        raise AssertionError(statement)

    def _scalar(self, what: str, node: syntax.Expr, scope: Scope) -> Expr:
        value = self.typed(node, scope)
        if value.shape is UNKNOWN:
            return value
        if value.shape.vocabulary is not None:
            scope.diagnostics.add("E0307", value.span, f"a {what} is a number, and this is {shown(value.shape)}")
        elif value.shape.axes:
            help = f"sum or average over {words(value.shape.axes)}: `mean{brackets(value.shape.axes)}(…)`"
            scope.diagnostics.add("E0316", value.span, f"a {what} is one number for each token, and this is {shown(value.shape)}", help)
        return value

    def _probe(self, node: syntax.Probe, scope: Scope) -> list[Statement]:
        self.bearable(node.name, "probe", scope)
        value = self.typed(node.value, scope)
        first = scope.body.probes.setdefault(node.name.text, node.name.span)
        if first is not node.name.span:
            again(scope.diagnostics, node.name, first)
        return [tree.Probe(node.name.text, value, span=node.span)]

    def _output(self, node: syntax.Output, scope: Scope) -> list[Statement]:
        """The output's name is bound too, so that a loss can use it."""
        self.bearable(node.name, "output", scope)
        value = self.typed(node.value, scope)
        first = scope.body.outputs.setdefault(node.name.text, node.name.span)
        if first is not node.name.span:
            again(scope.diagnostics, node.name, first)
            return []
        made: list[Statement] = []
        if not (isinstance(node.value, syntax.Name) and node.value.text == node.name.text):
            bind = self._output_bind(node, value, scope)
            made.append(bind)
            value = tree.Load(bind.binding, shape=value.shape, span=value.span) if value.shape is not UNKNOWN else value
        axes = self._output_axes(node, value, scope)
        return [*made, tree.Output(node.name.text, axes, value, span=node.span)]

    def _output_bind(self, node: syntax.Output, value: Expr, scope: Scope) -> tree.Bind:
        binding = Binding(node.name.text, value.shape, node.name.span)
        scope.enter(node.name, binding)
        return tree.Bind(binding, value, span=node.span)

    def _output_axes(self, node: syntax.Output, value: Expr, scope: Scope) -> tuple[Axis, ...]:
        asked = scope.all_axes(node.axes) if node.axes is not None else value.shape.axes
        if value.shape is UNKNOWN or asked is None:
            return ()
        contexts = [axis for axis in value.shape.axes if is_context(axis)]
        if contexts:
            help = f"reduce it: `sum[{contexts[0]}](…)`, `mean[{contexts[0]}](…)`"
            scope.diagnostics.add("E0305", node.value.span, f"an output has no context axis, and this is {shown(value.shape)}", help)
        elif set(asked) != set(value.shape.axes):
            message = f"the order {brackets(asked)} is not one of the output's axes {brackets(value.shape.axes)}"
            scope.diagnostics.add("E0318", node.axes[0].span if node.axes else node.name.span, message, "name each of its axes once")
        return asked

    # -- regions -------------------------------------------------------------------------------

    def each(self, expr: syntax.Each, scope: Scope) -> Expr:
        axis = scope.axis(expr.axis)
        if scope.owner.kind == "energy":
            scope.diagnostics.add("E0502", expr.span, "`each` cannot stand in an energy", "give the parameters the axis instead, and sum over it")
            return poison(expr.span)
        if axis is not None and (axis.role is not Role.DIM or axis in scope.gone):
            reason = "it is gone already: an `each` of it is around" if axis in scope.gone else "it is not a declared axis"
            scope.diagnostics.add("E0308", expr.axis.span, f"`each` cannot go along `{axis}`: {reason}", "name a dim")
            axis = None
        inner = scope.inner("each")
        if axis is not None:
            inner.gone = inner.gone | {axis}
        body = self.statements(expr.body, inner)
        value = self.typed(expr.value, inner)
        if axis is None or value.shape is UNKNOWN:
            return poison(expr.span)
        shape = Shape(ordered((axis, *value.shape.axes)), value.shape.per, value.shape.vocabulary, value.shape.limited)
        return tree.Each(axis, body, value, shape=shape, span=expr.span)

    def on(self, expr: syntax.On, scope: Scope) -> Expr:
        condition = self.typed(expr.condition, scope)
        if scope.owner.kind == "energy":
            scope.diagnostics.add(
                "E0502", expr.span, "`on` cannot stand in an energy", "choose the tokens where the energy is used, or multiply by the condition"
            )
            return poison(expr.span)
        sound = condition.shape is not UNKNOWN and self._condition(condition, scope)
        inner = scope.inner("on")
        inner.chosen = True
        part = condition.axes[0] if isinstance(condition, tree.Apply) and condition.function == "in" else None
        if part is not None and isinstance(condition, tree.Apply) and isinstance(condition.args[0], tree.Load):
            of = condition.args[0].of
            if isinstance(of, Binding):
                inner.narrowed[of] = part
        body = self.statements(expr.body, inner)
        value = self.typed(expr.value, inner)
        if not sound or value.shape is UNKNOWN:
            return poison(expr.span)
        shape = joined((condition.shape, value.shape))
        shape = Shape(value.shape.axes, shape.per, value.shape.vocabulary, value.shape.limited)
        return tree.On(condition, body, value, part, shape=shape, span=expr.span)

    def _condition(self, condition: Expr, scope: Scope) -> bool:
        shape = condition.shape
        if shape.vocabulary is None and not shape.axes and shape.per is Per.TOKEN:
            return True
        have = f"this is {shown(shape)}" if shape.axes or shape.vocabulary else f"this has {PER_WORDS[shape.per]}"
        scope.diagnostics.add("E0316", condition.span, f"`on` takes one number for each token, and {have}", "reduce or compare first")
        return False


def a(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
