"""Typing of statements: bodies of models, blocks, energies and stacks, and the regions of `repeat`, `each` and `on`."""

from __future__ import annotations

from fractions import Fraction

from mptc.ir.axis import Axis, Role
from mptc.ir.number import Monomial
from mptc.model import tree
from mptc.model.numbers import resolved, unknown
from mptc.model.paths import check_paths
from mptc.model.regions import Regions, a
from mptc.model.scope import Body, Broken, Scope, Shared
from mptc.model.shapes import PER_WORDS, UNKNOWN, brackets, is_context, ordered, poison, shown, words
from mptc.model.slips import bare_energies
from mptc.model.ties import written
from mptc.model.tree import Binding, Expr, Init, Per, Shape, Statement
from mptc.source.text import Span
from mptc.syntax import tree as syntax

MOST_COPIES = 100_000
_MODEL_ONLY = {syntax.Input: "input", syntax.Output: "output", syntax.Loss: "loss"}
_LAST = {syntax.Return: ("return", "block"), syntax.Minimize: ("minimize", "energy")}


class Bodies(Regions):
    """The typing of statements."""

    def statements(self, several: tuple[syntax.Statement, ...], scope: Scope) -> tuple[Statement, ...]:
        """The typed statements of one pair of braces."""
        made: list[Statement] = []
        for statement in several:
            if self._allowed(statement, scope):
                made.extend(self._statement(statement, scope))
        return tuple(made)

    def _allowed(self, statement: syntax.Statement, scope: Scope) -> bool:
        """Whether a statement of this kind may stand here."""
        owner, add = scope.owner, scope.diagnostics.add
        if type(statement) in _MODEL_ONLY:
            name = _MODEL_ONLY[type(statement)]
            if owner.kind != "model":
                add("E0215", statement.span, f"`{name}` stands in a model, and this is {a(owner.kind)}", _instead(name))
                return False
            if scope.kind != "body":
                add("E0215", statement.span, f"`{name}` stands in the model's own body, not in `{scope.kind}`", _instead(name))
                return False
        if type(statement) in _LAST:
            name, kind = _LAST[type(statement)]
            place = f"it ends {a(kind)}" if owner.kind != kind else f"it is the last statement of {a(kind)}"
            add("E0215", statement.span, f"`{name}` cannot stand here: {place}", None if owner.kind != kind else "remove it, or what follows it")
            return False
        if owner.kind == "energy" and isinstance(statement, syntax.Stack | syntax.Repeat):
            name = "stack" if isinstance(statement, syntax.Stack) else "repeat"
            add("E0502", statement.span, f"`{name}` cannot stand in an energy", "write it around the steps that use the energy")
            return False
        return True

    def _statement(self, statement: syntax.Statement, scope: Scope) -> list[Statement]:
        match statement:
            case syntax.Param():
                return self._param(statement, scope)
            case syntax.Input():
                return self._input(statement, scope)
            case syntax.Bind(name=name, value=value):
                return [self._bound(name, self.typed(value, scope), scope)]
            case syntax.Update():
                return self._update(statement, scope)
            case syntax.Stack():
                return self._stack(statement, scope)
            case syntax.Repeat():
                return self._repeat(statement, scope)
            case syntax.Share():
                return self._share(statement, scope)
            case syntax.Tie(left=left, right=right):
                scope.body.paths.append(statement)
                return [tree.Tie(written(left), written(right), span=statement.span)]
            case syntax.Freeze(path=path):
                scope.body.paths.append(statement)
                return [tree.Freeze(written(path), span=statement.span)]
            case _:
                return self.given(statement, scope)

    # -- names with values ---------------------------------------------------------------------

    def _bound(self, word: syntax.Word, value: Expr, scope: Scope) -> Statement:
        self.bearable(word, "binding", scope)
        binding = Binding(word.text, value.shape, word.span)
        scope.enter(word, binding)
        return tree.Bind(binding, value, span=word.span.to(value.span))

    def _input(self, node: syntax.Input, scope: Scope) -> list[Statement]:
        self.bearable(node.name, "input", scope)
        shape = self.type_of(node.type, scope)
        if shape is not UNKNOWN:
            shape = self._input_shape(node, shape, scope)
        binding = Binding(node.name.text, shape, node.name.span)
        scope.enter(node.name, binding)
        return [tree.Input(binding, span=node.span)]

    def _input_shape(self, node: syntax.Input, shape: Shape, scope: Scope) -> Shape:
        contexts = [axis for axis in shape.axes if is_context(axis)]
        if contexts and not node.per_sequence:
            message = f"an input for each token has no context axis, and `{contexts[0]}` is one"
            scope.diagnostics.add("E0315", node.type.span, message, "a memory is one for each sequence: `… per sequence`")
            return UNKNOWN
        if any(axis.name == "ctx" for axis in contexts):
            message = "`ctx` is the tokens themselves; a memory has a context axis of its own"
            scope.diagnostics.add("E0315", node.type.span, message, "declare one: `context mem`")
            return UNKNOWN
        return Shape(shape.axes, Per.SEQUENCE if node.per_sequence else Per.TOKEN, shape.vocabulary, frozenset(contexts))

    def type_of(self, node: syntax.TypeOf, scope: Scope) -> Shape:
        """A declared type. Its contexts count as limited: what is passed in must be."""
        axes = scope.all_axes(node.axes)
        vocabulary = scope.axis(node.vocabulary) if node.vocabulary is not None else None
        if axes is None or (node.vocabulary is not None and vocabulary is None):
            return UNKNOWN
        if vocabulary is not None and vocabulary.role is not Role.DIM:
            scope.diagnostics.add(
                "E0315", node.span, f"ids are of a declared vocabulary, and `{vocabulary}` is not one", "declare it: `dim vocab = …`"
            )
            return UNKNOWN
        if any(axis.role is Role.TOKEN for axis in axes):
            scope.diagnostics.add("E0315", node.span, "the sequence does not stand in a type: it is implicit", "leave `seq` out")
            return UNKNOWN
        return Shape(ordered(axes), Per.TOKEN, vocabulary, frozenset(axis for axis in axes if is_context(axis)))

    # -- parameters ----------------------------------------------------------------------------

    def _param(self, node: syntax.Param, scope: Scope) -> list[Statement]:
        self.bearable(node.name, "parameter", scope)
        scope.body.claim(node.name.text, "parameter", node.name.span)
        axes = self._param_axes(node, scope)
        init = self._init(node, axes, scope)
        if axes is None:
            scope.enter(node.name, Broken(node.name.span))
            return []
        parameter = tree.Parameter(node.name.text, axes, init, span=node.span)
        scope.enter(node.name, parameter)
        return [parameter]

    def _param_axes(self, node: syntax.Param, scope: Scope) -> tuple[Axis, ...] | None:
        axes = scope.all_axes(node.type.axes)
        if node.type.vocabulary is not None:
            scope.diagnostics.add("E0315", node.type.span, "a parameter is of numbers, not of ids", "write its axes: `[vocab, d]`")
            return None
        for axis, word in zip(axes or (), node.type.axes, strict=False):
            if axis.role is not Role.DIM:
                message = f"a parameter has declared axes only, and `{axis}` is {'the sequence' if axis.role is Role.TOKEN else 'a context'}"
                scope.diagnostics.add("E0315", word.span, message, "its size must be known: declare a dim")
                return None
            if axis in scope.gone:
                message = f"inside `each {axis}` every parameter has the axis `{axis}` already, as its first"
                scope.diagnostics.add("E0315", word.span, message, f"leave `{axis}` out")
                return None
        return axes

    def _init(self, node: syntax.Param, axes: tuple[Axis, ...] | None, scope: Scope) -> Init:
        """The start values: an expression over declarations alone."""
        apart = Scope(Body(scope.owner), gone=scope.gone)
        if node.init is None:
            return Init("normal", self.typed(_default_width(node.span), apart))
        if node.init.kind == "fill":
            value = self.typed(node.init.value, apart)
            if value.shape is not UNKNOWN and axes is not None:
                self._start(value, axes, scope)
            return Init("fill", value)
        return Init(node.init.kind, self._width(node.init, apart))

    def _start(self, value: Expr, axes: tuple[Axis, ...], scope: Scope) -> None:
        odd = [axis for axis in value.shape.axes if axis not in axes]
        if odd or value.shape.per is not Per.CONSTANT or value.shape.vocabulary is not None:
            message = f"a parameter starts from numbers over {brackets(axes)}, and this is {shown(value.shape)}"
            scope.diagnostics.add("E0301", value.span, message)

    def _width(self, init: syntax.Init, scope: Scope) -> Expr:
        """The number of `normal` and `uniform`."""
        value = self.constant(init.value, scope)
        if value is None:
            return poison(init.value.span)
        number = value.evaluate(scope.world.numbers.sizes) if not self._unsized(value, scope) else 0.0
        if number < 0:
            scope.diagnostics.add("E0309", init.value.span, f"the width of `{init.kind}` is {number:g}; it must be 0 or more")
        return tree.Number(value, shape=Shape(), span=init.value.span)

    def _unsized(self, value: Monomial, scope: Scope) -> bool:
        return any(isinstance(base, Axis) and base not in scope.world.numbers.sizes for base, _ in value.powers)

    # -- updates -------------------------------------------------------------------------------

    def _update(self, node: syntax.Update, scope: Scope) -> list[Statement]:
        value = self.typed(node.value, scope)
        binding = self._updated(node, scope)
        if binding is None:
            return []
        for each in scope.chain():
            if node.name.text in each.names:
                break
            if each.kind in ("stack", "repeat"):
                each.carried.setdefault(binding)
        if value.shape is UNKNOWN or binding.shape is UNKNOWN or not self._keeps(node, binding, value, scope):
            value = poison(node.value.span)
        for energy in bare_energies(value) if scope.owner.kind != "energy" else ():
            message = (
                f"this adds the value of `{energy.callee.name}`, {shown(energy.shape)}, to each entry of `{binding.name}`, {shown(binding.shape)}"
            )
            scope.diagnostics.add("W0603", energy.span, message, f"a step of descent takes its derivative: write `grad {_said(energy)}`")
        return [tree.Update(binding, value, span=node.span)]

    def _updated(self, node: syntax.Update, scope: Scope) -> Binding | None:
        name, add = node.name.text, scope.diagnostics.add
        found = scope.find(name)
        if found is None:
            names = [each for one in scope.chain() for each, entry in one.names.items() if isinstance(entry, Binding)]
            declared = scope.owner.declared(name)
            if declared is not None:
                add("E0214", node.name.span, f"`{name}` is declared outside the bodies and cannot be updated", "bind a new name with `=`")
            else:
                unknown(scope.diagnostics, "value", name, node.name.span, names, f"to bind a new name write `{name} = …`")
        elif isinstance(found, Broken):
            return None
        elif not isinstance(found, Binding):
            what = "shared parameters" if isinstance(found, Shared) else "a parameter"
            add("E0214", node.name.span, f"`{name}` is {what} and cannot be updated", "bind a new name with `=`")
        else:
            return self._within(node, found, scope)
        return None

    def _within(self, node: syntax.Update, found: Binding, scope: Scope) -> Binding | None:
        """`<-` does not reach out of `each` and `on`."""
        for each in scope.chain():
            if node.name.text in each.names:
                return found
            if each.kind in ("each", "on"):
                message = f"`<-` does not reach out of `{each.kind}`, and `{found.name}` is bound outside"
                scope.diagnostics.add("E0214", node.span, message, f"let the last line be its value: `{found.name} <- {each.kind} … {{ … }}`")
                return None
        return found

    def _keeps(self, node: syntax.Update, binding: Binding, value: Expr, scope: Scope) -> bool:
        old, new, add = binding.shape, value.shape, scope.diagnostics.add
        more = [axis for axis in new.axes if axis not in old.axes]
        if more:
            message = f"`<-` keeps the axes of `{binding.name}`, {shown(old)}, and the new value is {shown(new)}: {words(more)} would be new"
            add("E0310", node.value.span, message, f"sum or rename {words(more)}, or bind a new name with `=`")
        elif new.vocabulary != old.vocabulary:
            add("E0307", node.value.span, f"`{binding.name}` is {shown(old)}, and the new value is {shown(new)}")
        elif new.per > old.per:
            message = f"`{binding.name}` has {PER_WORDS[old.per]}, and the new value has {PER_WORDS[new.per]}"
            add("E0310", node.value.span, message, "bind a new name with `=`")
        elif not old.limited <= new.limited | (old.limited - frozenset(new.axes)):
            add("E0310", node.value.span, f"`{binding.name}` is a view, and no view limits the new value", "bind a new name with `=`")
        else:
            return True
        return False

    # -- copies and passes ---------------------------------------------------------------------

    def count(self, expr: syntax.Expr, what: str, scope: Scope) -> int:
        """How many copies or passes; 1 where that is not known."""
        value = self.constant(expr, scope)
        number = resolved(value, scope.world.numbers.sizes)
        if number is None:
            return 1
        if number.denominator != 1 or number < 1 or number > MOST_COPIES:
            said = str(number) if number.denominator == 1 else f"{float(number):g}"
            scope.diagnostics.add("E0219", expr.span, f"`{what}` of {said}: a count is an integer from 1 to {MOST_COPIES}")
            return 1
        return int(number)

    def _stack(self, node: syntax.Stack, scope: Scope) -> list[Statement]:
        self.bearable(node.label, "stack", scope)
        scope.body.claim(node.label.text, "stack", node.label.span)
        count = self.count(node.count, "stack", scope)
        inner = scope.inner("stack", Body(scope.owner, scope.body))
        body = self.statements(node.body, inner)
        check_paths(inner.body.paths, body, scope.diagnostics)
        return [tree.Stack(node.label.text, count, body, tuple(inner.carried), span=node.span)]

    def _repeat(self, node: syntax.Repeat, scope: Scope) -> list[Statement]:
        count = self.count(node.count, "repeat", scope)
        inner = scope.inner("repeat")
        body = self.statements(node.body, inner)
        return [tree.Repeat(count, body, tuple(inner.carried), span=node.span)]

    def _share(self, node: syntax.Share, scope: Scope) -> list[Statement]:
        self.bearable(node.name, "share", scope)
        scope.body.claim(node.name.text, "share", node.name.span)
        target = None
        if isinstance(scope.find(node.callee.name.text), Shared):
            scope.diagnostics.add(
                "E0220", node.callee.span, "a share is of a block or an energy, and this is a share itself", "name the block or energy"
            )
        else:
            target = self.target(node.callee, scope)
        if target is None:
            scope.enter(node.name, Shared(node.name.text, node.name.span, None, None))
            return []
        self.lean(node.callee.span, target, scope)
        share = tree.Share(node.name.text, target.checked.callable, target.arrows, span=node.span)
        scope.enter(node.name, Shared(node.name.text, node.name.span, target.checked, share))
        return [share]


def _said(call: Expr) -> str:
    """A call as the spec has it, on one line."""
    return " ".join(call.span.text.split())


def _default_width(span: Span) -> syntax.Expr:
    """`~ normal(0.02)`"""
    return syntax.Number(Fraction(2, 100), span=span)


def _instead(name: str) -> str:
    return {
        "input": "declare it at the top of the model and use its name here, or pass it as an argument",
        "output": "bind the value with `=` before, and write the `output` at the end of the model; to watch a value write `probe`",
        "loss": "write `penalty` for what each copy and pass adds, or `loss` at the end of the model",
    }[name]
