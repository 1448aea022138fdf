"""Calls of blocks, energies and shares: what is called, how the arguments fit, and where the parameters are."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mptc.ir.axis import Axis
from mptc.model import tree
from mptc.model.bearable import objection
from mptc.model.builtin import Builtins
from mptc.model.expressions import renamed
from mptc.model.facts import facts_of
from mptc.model.functions import FUNCTIONS, function_named
from mptc.model.load import Declared
from mptc.model.numbers import article, unknown
from mptc.model.prelude import use_for
from mptc.model.scope import MOST_RESIZED, Broken, Checked, Scope, Shared
from mptc.model.shapes import PER_WORDS, UNKNOWN, brackets, is_context, known, ordered, plural, poison, shown, words
from mptc.model.tree import Binding, Expr, Per, Shape
from mptc.source.diagnostic import Diagnostic, Note
from mptc.source.text import Span
from mptc.syntax import tree as syntax

Arrows = tuple[tuple[Axis, Axis], ...]


@dataclass(frozen=True)
class Target:
    """What a call reaches: a callable, the axes exchanged, and the share whose parameters it uses."""

    checked: Checked
    arrows: Arrows
    share: tree.Share | None


class Calls(Builtins):
    """The typing of calls."""

    def call(self, expr: syntax.Call, scope: Scope) -> Expr:
        word = expr.callee.name
        declared = scope.owner.declared(word.text)
        if scope.find(word.text) is None and declared is not None and declared.kind == "types":
            return self._types(expr, scope)
        function = function_named(word.text, bool(expr.callee.axes))
        if scope.find(word.text) is None and declared is None and function is not None:
            return self.builtin(function, expr, scope)
        target = self.target(expr.callee, scope)
        if target is None:
            self._arguments(expr, scope)
            return poison(expr.span)
        return self._invoke(expr, target, scope, grad=False)

    def grad(self, expr: syntax.Grad, scope: Scope) -> Expr:
        call = expr.call
        if scope.owner.kind == "energy":
            help = "an energy is a value; the gradient is taken where the energy is used"
            scope.diagnostics.add("E0502", expr.span, "`grad` cannot stand in an energy", help)
            return poison(expr.span)
        name = call.callee.name.text
        if scope.find(name) is None and scope.owner.declared(name) is None and name in FUNCTIONS:
            scope.diagnostics.add(
                "E0503", call.callee.span, f"`grad` is of an energy, and `{name}` is a function", "put it into an `energy … { minimize … }`"
            )
            return poison(expr.span)
        target = self.target(call.callee, scope)
        if target is not None and target.checked.callable.kind != "energy":
            note = Note(target.checked.callable.span, "it is declared here")
            message = f"`grad` is of an energy, and `{name}` is a block"
            scope.diagnostics.add("E0503", call.callee.span, message, "declare it as `energy … { … minimize … }`", (note,))
            target = None
        if target is None:
            self._arguments(call, scope)
            return poison(expr.span)
        return self._invoke(call, target, scope, grad=True, span=expr.span)

    def _arguments(self, expr: syntax.Call, scope: Scope) -> list[Expr]:
        """Types the arguments, also where what is called is not known: their own errors are worth telling."""
        return [self.typed(arg, scope) for arg in (*expr.args, *expr.conditions)]

    def _types(self, expr: syntax.Call, scope: Scope) -> Expr:
        """`T(ids)` for a declared `types T`"""
        args = self._arguments(expr, scope)
        name = expr.callee.name.text
        axis = scope.axis(expr.callee.name)
        if len(args) != 1 or expr.options or expr.callee.axes or expr.callee.arrows or expr.label:
            scope.diagnostics.add("E0306", expr.span, f"`{name}` takes ids, one argument", f"write `{name}(ids)`")
            return poison(expr.span)
        ids, vocabulary = args[0], scope.world.numbers.typings.get(name)
        if ids.shape is UNKNOWN or axis is None:
            return poison(expr.span)
        if ids.shape.vocabulary != vocabulary:
            message = f"`{name}` gives the types of `id[{vocabulary}]`, and this is {shown(ids.shape)}"
            scope.diagnostics.add("E0312" if ids.shape.vocabulary else "E0307", ids.span, message)
            return poison(expr.span)
        return self.apply("types", (ids,), Shape(ids.shape.axes, ids.shape.per, axis, ids.shape.limited), expr.span, (axis,))

    # -- what is called ------------------------------------------------------------------------

    def target(self, callee: syntax.Callee, scope: Scope) -> Target | None:
        found = scope.find(callee.name.text)
        name, span = callee.name.text, callee.name.span
        if isinstance(found, Shared):
            return self._shared(callee, found, scope)
        if found is not None:
            if not isinstance(found, Broken):
                scope.diagnostics.add("E0220", span, f"`{name}` is a value here and cannot be called", "to multiply write `*` or `@`")
            return None
        declared = scope.owner.declared(name)
        if declared is None:
            visible = scope.owner.unit.visible
            called = (each for each, one in visible.items() if one.kind in ("block", "energy"))
            candidates = [*called, *(each for one in scope.chain() for each in one.names), *FUNCTIONS, *visible]
            otherwise = f"declare it: `block {name}(x: […]) {{ … }}`"
            unknown(scope.diagnostics, "block, energy or function", name, span, candidates, otherwise, "E0202", use_for(name))
            return None
        if declared.kind not in ("block", "energy"):
            scope.diagnostics.add("E0220", span, f"`{name}` is {article(declared.kind)} and cannot be called", "to multiply write `*`")
            return None
        checked = scope.world.called(declared)
        arrows = None if checked is None else self.arrows(callee, checked, scope)
        if checked is None or arrows is None:
            return None
        resized = self._resized(callee, declared, checked, arrows, scope)
        return None if resized is None else Target(resized, arrows, None)

    def _resized(self, callee: syntax.Callee, declared: Declared, checked: Checked, arrows: Arrows, scope: Scope) -> Checked | None:
        """The callee as it is under the sizes of the axes that this call puts in: its numbers, counts and checks follow them."""
        sizes = scope.world.numbers.sizes
        others = {old: sizes[new] for old, new in arrows if new in sizes and sizes.get(old) != sizes[new]}
        if not others:
            return checked
        world = scope.world.under(others)
        if world is None:
            help = "give the axes equal sizes, or write the block for each"
            scope.diagnostics.add("E0225", callee.span, f"more than {MOST_RESIZED} ways to exchange axes of unequal sizes", help)
            return None
        told = len(world.diagnostics.found)
        found = world.called(declared)
        self._hand_on(world.diagnostics.found[told:], callee, others, scope)
        return found

    def _hand_on(self, found: list[Diagnostic], callee: syntax.Callee, others: dict[Axis, int], scope: Scope) -> None:
        """What is wrong with a callee under other sizes, and was not without them."""
        known_places = {(one.code, one.span) for one in scope.diagnostics.found} if found else set()
        sizes = ", ".join(f"`{axis}` has size {size}" for axis, size in others.items())
        for one in found:
            if one.severity == "error" and (one.code, one.span) not in known_places:
                note = Note(callee.span, f"in this call {sizes}")
                scope.diagnostics.add(one.code, one.span, one.message, one.help, (*one.notes, note))

    def _shared(self, callee: syntax.Callee, share: Shared, scope: Scope) -> Target | None:
        if callee.arrows or callee.axes:
            message = f"`{share.name}` is shared with its axes"
            scope.diagnostics.add("E0308", callee.span, message, f"put the axes where it is shared: `share {share.name}: f[a -> b]`")
            return None
        return None if share.checked is None or share.share is None else Target(share.checked, share.share.arrows, share.share)

    def arrows(self, callee: syntax.Callee, checked: Checked, scope: Scope) -> Arrows | None:
        """The axes exchanged at a call; None after an error."""
        name = callee.name.text
        if callee.axes:
            help = f"to put another axis in the place of one of its own write `{name}[a -> b](…)`"
            scope.diagnostics.add("E0308", callee.axes[0].span, f"`{name}` takes no axes in brackets", help)
            return None
        owned = {axis.name: axis for axis in (*checked.owner.axes, *checked.owner.sizes)}
        result: dict[Axis, Axis] = {}
        for arrow in callee.arrows:
            old, new = owned.get(arrow.old.text), scope.axis(arrow.new)
            if old is None:
                unknown(scope.diagnostics, f"axis of `{name}` named", arrow.old.text, arrow.old.span, owned, f"it names {words(owned)}", "E0311")
            if old is None or new is None:
                return None
            if old.role is not new.role or old in result:
                reason = "is exchanged twice" if old in result else f"and `{new}` are axes of different kinds"
                scope.diagnostics.add("E0311", arrow.span, f"`{old}` {reason}")
                return None
            result[old] = new
        return tuple(result.items()) if self._distinct(callee, checked, result, scope) else None

    def _distinct(self, callee: syntax.Callee, checked: Checked, arrows: dict[Axis, Axis], scope: Scope) -> bool:
        """Two axes of the callee may not become one."""
        if not arrows:
            return True
        seen: dict[Axis, Axis] = {}
        for axis in checked.owner.axes:
            target = arrows.get(axis, axis)
            if target in seen:
                message = f"`{callee.name.text}` tells `{seen[target]}` and `{axis}` apart, and both would be `{target}`"
                scope.diagnostics.add("E0311", callee.span, message, f"exchange the other one too: `{axis} -> …`")
                return False
            seen[target] = axis
        return True

    # -- the call ------------------------------------------------------------------------------

    def _invoke(self, expr: syntax.Call, target: Target, scope: Scope, *, grad: bool, span: Span | None = None) -> Expr:
        arrows = dict(target.arrows)
        span = span or expr.span
        args = self._arguments(expr, scope)
        self.lean(expr.callee.span, target, scope)
        label = self._label(expr, target, scope)
        if not self._form(expr, target.checked.callable, scope):
            return poison(span)
        target = self._loosened(target, args, scope)
        callable = target.checked.callable
        formals = [renamed(binding.shape, arrows) for binding in (*callable.args, *callable.conditions)]
        bindings = (*callable.args, *callable.conditions)
        fits = [self._fits(binding, formal, arg, callable, scope) for binding, formal, arg in zip(bindings, formals, args, strict=True)]
        if not all(fits) or not known(*(arg.shape for arg in args), callable.result.shape):
            return poison(span)
        extras = [[axis for axis in arg.shape.axes if axis not in formal.axes] for arg, formal in zip(args, formals, strict=True)]
        if not self._liftable(extras, args, target, scope) or not self._tokens(args, callable, scope):
            return poison(span)
        if grad and not self._own_axes(extras, args, scope):
            return poison(span)
        shape = args[0].shape if grad else self._result(callable, arrows, args, extras)
        shape = Shape(shape.axes, _per(callable, args), None if grad else shape.vocabulary, shape.limited)
        return tree.Invoke(callable, label, tuple(args), target.arrows, grad, target.share, shape=shape, span=span)

    def lean(self, span: Span, target: Target, scope: Scope) -> None:
        """The caller names, through its callee, what the callee names."""
        owner, arrows = target.checked.owner, dict(target.arrows)
        for axis in owner.axes:
            scope.owner.axes.setdefault(arrows.get(axis, axis), span)
        for axis in owner.sizes:
            scope.owner.sizes.setdefault(arrows.get(axis, axis), span)
        exchanged = {axis.name for axis in arrows}
        needs = {name: where for name, where in owner.free.items() if name not in exchanged}
        if needs:
            scope.demand(span, target.checked, needs)

    def _label(self, expr: syntax.Call, target: Target, scope: Scope) -> str | None:
        """The segment of the parameter paths that this call site is; a share has claimed its own."""
        callable, word = target.checked.callable, expr.label
        if target.share is not None:
            if word is not None:
                message = f"`{target.share.name}` is shared: its parameters are under that name"
                scope.diagnostics.add("E0223", word.span, message, f"remove `as {word.text}`")
            return target.share.name if callable.parametric else None
        if word is not None:
            reason = objection(word.text)
            if reason is not None:
                scope.diagnostics.add("E0204", word.span, f"`{word.text}` cannot name a call: {reason}", f"choose another name, as `{word.text}_`")
        elif not callable.parametric:
            return None
        name = word.text if word is not None else callable.name
        scope.body.claim(name, "call", word.span if word is not None else expr.callee.name.span)
        return name if callable.parametric else None

    def _form(self, expr: syntax.Call, callable: tree.Callable, scope: Scope) -> bool:
        """How many arguments, and the bar."""
        name, add = callable.name, scope.diagnostics.add
        written = _written(callable)
        if expr.options:
            add("E0309", expr.options[0].span, f"`{name}` takes no options", f"write `{written}`")
        elif callable.kind == "block" and expr.conditions:
            add("E0505", expr.conditions[0].span, f"`{name}` is a block: it takes no conditions", f"write `{written}`")
        elif callable.kind == "energy" and callable.conditions and not expr.conditions and len(expr.args) == 1 + len(callable.conditions):
            add("E0505", expr.args[1].span, f"what `{name}` holds fixed stands after a bar", f"write `{written}`")
        elif len(expr.args) != len(callable.args) or len(expr.conditions) != len(callable.conditions):
            wanted = plural(len(callable.args), "argument")
            if callable.kind == "energy":
                wanted = f"one variable and {plural(len(callable.conditions), 'condition')}"
            given = f"{len(expr.args)} and {len(expr.conditions)}" if callable.kind == "energy" else str(len(expr.args))
            add("E0306", expr.span, f"`{name}` takes {wanted}; {given} given", f"write `{written}`", (Note(callable.span, "it is declared here"),))
        else:
            return True
        return False

    # -- arguments -----------------------------------------------------------------------------

    def _loosened(self, target: Target, args: list[Expr], scope: Scope) -> Target:
        """The callee for arguments that no view limits, where it reduces none of them but together with one that a view does."""
        callable, back = target.checked.callable, {new: old for old, new in target.arrows}
        bindings = (*callable.args, *callable.conditions)
        loose = frozenset(
            (place, axis)
            for place, (binding, arg) in enumerate(zip(bindings, args, strict=True))
            for axis in binding.shape.limited
            if known(arg.shape) and axis in {back.get(own, own) for own in arg.shape.axes if own not in arg.shape.limited}
        )
        if not loose:
            return target
        found = scope.world.loosened(target.checked, loose)
        return replace(target, checked=found) if isinstance(found, Checked) else target

    def _fits(self, binding: Binding, formal: Shape, arg: Expr, callable: tree.Callable, scope: Scope) -> bool:
        shape, add = arg.shape, scope.diagnostics.add
        if not known(formal, shape):
            return False
        note = (Note(binding.span, f"`{binding.name}` is declared here"),)
        what = f"`{binding.name}` of `{callable.name}`"
        if (formal.vocabulary is None) != (shape.vocabulary is None):
            add("E0307", arg.span, f"{what} is {shown(formal)}, and this is {shown(shape)}", _ids_help(formal), note)
            return False
        if formal.vocabulary != shape.vocabulary and formal.vocabulary != self._narrow(arg, scope):
            add("E0312", arg.span, f"{what} is {shown(formal)}, and this is {shown(shape)}", "these are ids of another vocabulary", note)
            return False
        missing = [axis for axis in formal.axes if axis not in shape.axes]
        if missing:
            help = _missing_help(missing, formal, shape, callable)
            message = f"{what} is {shown(formal)}, and this is {shown(shape)}: {words(missing)} {'is' if len(missing) == 1 else 'are'} not there"
            add("E0301", arg.span, message, help, note)
            return False
        unlimited = [axis for axis in formal.axes if axis in formal.limited and axis not in shape.limited]
        if unlimited:
            add("E0304", arg.span, f"{what} is a view along `{unlimited[0]}`, and no view limits this value", "view the tokens: `past(…)`", note)
            return False
        return True

    def _narrow(self, arg: Expr, scope: Scope) -> Axis | None:
        if isinstance(arg, tree.Load) and isinstance(arg.of, Binding):
            return scope.narrowed.get(arg.of)
        return None

    def _liftable(self, extras: list[list[Axis]], args: list[Expr], target: Target, scope: Scope) -> bool:
        """More axes than the type names: the callee works for each index of them, so it may not name them itself."""
        arrows, owner = dict(target.arrows), target.checked.owner
        named = {arrows.get(axis, axis): span for axis, span in owner.axes.items()}
        for more, arg in zip(extras, args, strict=True):
            for axis in more:
                if axis in named:
                    name = target.checked.callable.name
                    message = f"this has the axis `{axis}` beyond what `{name}` takes here, and `{name}` means an axis `{axis}` of its own"
                    help = f"rename it, `e[{axis} -> …]`, or call `{name}[{axis} -> …](…)`"
                    scope.diagnostics.add("E0314", arg.span, message, help, (Note(named[axis], f"`{name}` names `{axis}` here"),))
                    return False
        inside = scope.gone.intersection(named)
        if inside:
            axis = min(inside)
            message = f"`{target.checked.callable.name}` names `{axis}`, and inside `each {axis}` that axis is gone"
            scope.diagnostics.add("E0314", args[0].span if args else scope.owner.axes[axis], message, f"call it outside, or with `[{axis} -> …]`")
        return not inside

    def _tokens(self, args: list[Expr], callable: tree.Callable, scope: Scope) -> bool:
        """What the callee views along the sequence must have a value for each token."""
        facts = facts_of(callable)
        for index, arg in enumerate(args):
            if index in facts.viewed and arg.shape.per is not Per.TOKEN:
                view = facts.viewed[index]
                message = (
                    f"`{callable.name}` applies `{view.function}` to this, which wants one value for each token; it has {PER_WORDS[arg.shape.per]}"
                )
                scope.diagnostics.add("E0313", arg.span, message, None, (Note(view.span, "here"),))
                return False
        return True

    def _own_axes(self, extras: list[list[Axis]], args: list[Expr], scope: Scope) -> bool:
        """In a derivative the conditions add no axes: it would not be clear what is summed."""
        for more, arg in zip(extras[1:], args[1:], strict=True):
            odd = [axis for axis in more if axis not in extras[0]]
            if odd:
                message = (
                    f"this condition has the axes {brackets(odd)} beyond its type, and the variable has not: there would be a gradient for each index"
                )
                help = "write an energy that sums over them, or give the variable these axes"
                scope.diagnostics.add("E0507", arg.span, message, help)
                return False
        return True

    def _result(self, callable: tree.Callable, arrows: dict[Axis, Axis], args: list[Expr], extras: list[list[Axis]]) -> Shape:
        """The callee's result under the caller's axes. Those that it is lifted over come first, as batch does."""
        result = renamed(callable.result.shape, arrows)
        more = dict.fromkeys(axis for each in extras for axis in each)
        limits = frozenset(axis for arg in args for axis in arg.shape.limited if axis in more)
        return Shape(ordered((*more, *result.axes)), result.per, result.vocabulary, result.limited | limits)


def _per(callable: tree.Callable, args: list[Expr]) -> Per:
    """How often the result exists; the callable was checked for arguments that every token has."""
    most = callable.result.shape.per
    return min(most, max((facts_of(callable).floor, *(arg.shape.per for arg in args))))


def _written(callable: tree.Callable) -> str:
    inside = ", ".join(binding.name for binding in callable.args)
    if callable.conditions:
        inside += " | " + ", ".join(binding.name for binding in callable.conditions)
    return f"{callable.name}({inside})"


def _ids_help(formal: Shape) -> str:
    return "look the ids up in a table: `lookup(table, ids)`" if formal.vocabulary is None else "ids are inputs of type `id[…]`"


def _missing_help(missing: list[Axis], formal: Shape, shape: Shape, callable: tree.Callable) -> str | None:
    others = [axis for axis in shape.axes if axis not in formal.axes and axis.role is missing[0].role]
    if len(missing) == 1 and is_context(missing[0]) and not others:
        return "view the tokens: `past(…)`"
    if len(missing) == 1 and len(others) == 1:
        return f"to work along `{others[0]}` write `{callable.name}[{missing[0]} -> {others[0]}](…)`"
    return None
