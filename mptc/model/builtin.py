"""Calls of builtin functions: brackets, arguments and options brought into order, then the function's own rule."""

from __future__ import annotations

from mptc.ir.axis import CTX, Axis
from mptc.ir.number import Monomial
from mptc.model import tree
from mptc.model.expressions import Expressions
from mptc.model.numbers import unknown
from mptc.model.scope import Scope
from mptc.model.shapes import UNKNOWN, is_context, plural, poison, words
from mptc.model.site import Function, Site
from mptc.model.sparsity import supported
from mptc.model.tree import Expr
from mptc.syntax import tree as syntax


class Builtins(Expressions):
    """`sum[d](e)`, `past(e)`, `lookup(table, ids)`, …"""

    def builtin(self, function: Function, expr: syntax.Call, scope: Scope) -> Expr:
        axes, args = self._brackets(function, expr, scope), expr.args
        if function.brackets == "argument":
            axes, args = self._named_axis(function, expr, scope), ()
        numbers = args[function.values :]
        values = [self.typed(arg, scope) for arg in args[: function.values]]
        site = Site(function, expr.span, scope, values, axes or (), tuple(word.span for word in expr.callee.axes) or (expr.span,))
        sound = all([self._plain(function, expr, scope), self._counted(function, expr, args, scope), self._options(site, expr, numbers)])
        if axes is None or not sound or not site.known() or not self._number_args(site):
            return poison(expr.span)
        shape = function.rule(site)
        if shape is UNKNOWN:
            return poison(expr.span)
        shape = supported(function.name, [arg.shape for arg in site.args], site.axes, shape)
        return tree.Apply(function.name, tuple(site.args), site.axes, site.options, shape=shape, span=expr.span)

    def _number_args(self, site: Site) -> bool:
        numeric = [site.function.ids or self.numeric(site.name, arg, site.scope) for arg in site.args]
        return all(numeric)

    def _plain(self, function: Function, expr: syntax.Call, scope: Scope) -> bool:
        """A builtin has no parameters, no conditions and no axes to exchange."""
        add = scope.diagnostics.add
        if expr.label is not None:
            message = f"`{function.name}` has no parameters, so there is nothing to name"
            add("E0223", expr.label.span, message, "`as` names the call of a block or an energy")
        elif expr.conditions:
            add("E0505", expr.conditions[0].span, f"`{function.name}` takes no conditions", "separate arguments with commas; the bar is for energies")
        elif expr.callee.arrows:
            add("E0308", expr.callee.span, f"`{function.name}` names no axes to exchange", "rename its argument: `e[a -> b]`")
        else:
            return True
        return False

    # -- brackets ------------------------------------------------------------------------------

    def _brackets(self, function: Function, expr: syntax.Call, scope: Scope) -> tuple[Axis, ...] | None:
        written = expr.callee.axes
        axes = scope.all_axes(written)
        if axes is None:
            return None
        kind, add = function.brackets, scope.diagnostics.add
        if not written:
            if kind in ("some", "one"):
                add("E0308", expr.callee.span, f"`{function.name}` wants the axes that it works over", f"write `{function.written}`")
                return None
            if kind != "view":
                return ()
            scope.owner.axes.setdefault(CTX, expr.callee.span)  # named, though not written
            return (CTX,)
        if kind in ("none", "argument"):
            add("E0308", written[0].span, f"`{function.name}` takes no axes in brackets", f"write `{function.written}`")
        elif kind != "some" and len(axes) > 1:
            add("E0308", written[1].span, f"`{function.name}` takes one axis in brackets, and here are {len(axes)}")
        elif kind in ("view", "context") and not is_context(axes[0]):
            message = f"`{function.name}` views tokens along a context axis, and `{axes[0]}` is not one"
            add("E0308", written[0].span, message, "the built-in one is `ctx`; declare others with `context NAME`")
        else:
            return axes
        return None

    def _named_axis(self, function: Function, expr: syntax.Call, scope: Scope) -> tuple[Axis, ...] | None:
        """`distance(ctx)` and `index(a)` take an axis where others take a value."""
        arg = expr.args[0] if expr.args else None
        if len(expr.args) != 1 or not isinstance(arg, syntax.Name):
            scope.diagnostics.add("E0308", expr.span, f"`{function.name}` takes the name of one axis", f"write `{function.written}`")
            return None
        axis = scope.axis(syntax.Word(arg.text, span=arg.span))
        return None if axis is None else (axis,)

    # -- arguments -----------------------------------------------------------------------------

    def _counted(self, function: Function, expr: syntax.Call, args: tuple[syntax.Expr, ...], scope: Scope) -> bool:
        given = {option.name.text for option in expr.options}
        least = function.values + sum(name not in given for name in function.numbers)
        most = function.values + len(function.numbers)
        lacking = [name for name in function.required if name not in given]
        if lacking:
            scope.diagnostics.add("E0306", expr.span, f"`{function.name}` wants {words(lacking)}", f"write `{function.written}`")
        elif not least <= len(args) <= most:
            message = f"`{function.name}` takes {plural(most, 'argument')}, and here {'is' if len(args) == 1 else 'are'} {len(args)}"
            scope.diagnostics.add("E0306", expr.span, message, f"write `{function.written}`")
        else:
            return True
        return False

    def _options(self, site: Site, expr: syntax.Call, numbers: tuple[syntax.Expr, ...]) -> bool:
        """Numbers by place, then by name; what is not given has the function's own value. False after an error."""
        function, scope = site.function, site.scope
        sound = True
        for name, value in zip(function.numbers, numbers, strict=False):
            sound &= self._set(site, name, value)
        given: set[str] = {name for name, _ in zip(function.numbers, numbers, strict=False)}
        for option in expr.options:
            name = option.name.text
            if name in given:
                scope.diagnostics.add("E0309", option.span, f"`{name}` is given twice")
                sound = False
            elif name in function.expressions:
                site.args.append(self.typed(option.value, scope))
            elif name in (*function.numbers, *function.options):
                sound &= self._set(site, name, option.value)
            else:
                self._unknown_option(site, option)
                sound = False
            given.add(name)
        site.options.update({name: Monomial(value) for name, value in function.defaults if name not in given})
        return sound

    def _set(self, site: Site, name: str, value: syntax.Expr) -> bool:
        number = self.constant(value, site.scope)
        if number is not None:
            site.options[name] = number
        return number is not None or not site.scope.owner.closed

    def _unknown_option(self, site: Site, option: syntax.Option) -> None:
        function = site.function
        names = (*function.numbers, *function.options, *function.expressions)
        otherwise = f"it has {words(names)}" if names else "it has no options"
        unknown(site.scope.diagnostics, f"option of `{function.name}`", option.name.text, option.name.span, names, otherwise, "E0309")
