"""Typing of expressions: names, operators, renamings. Calls and regions are in the classes built on this one."""

from __future__ import annotations

from abc import ABC, abstractmethod

from mptc.ir.axis import SEQ, Axis, Role, dim
from mptc.ir.number import Monomial
from mptc.model import tree
from mptc.model.exact import NotANumberError, evaluate
from mptc.model.extent import MOST_AXES
from mptc.model.functions import FUNCTIONS, INTEGRABLE
from mptc.model.numbers import article, unknown
from mptc.model.prelude import use_for
from mptc.model.scope import Broken, Scope, Shared
from mptc.model.shapes import UNKNOWN, brackets, joined, known, ordered, poison, shown, words
from mptc.model.sparsity import supported
from mptc.model.tree import Binding, Expr, Per, Shape
from mptc.model.views import comparison
from mptc.source.suggest import closest
from mptc.source.text import Span
from mptc.syntax import tree as syntax


class Expressions(ABC):
    """The typing of an expression in a scope. Each method gives a typed expression, poisoned where an error was found."""

    def typed(self, expr: syntax.Expr, scope: Scope) -> Expr:
        value = self._typed(expr, scope)
        if len(value.shape.axes) > MOST_AXES:
            message = f"this value has {len(value.shape.axes)} axes; at most {MOST_AXES} can be"
            scope.diagnostics.add("E0226", expr.span, message, "sum over some of them before others come in")
            return poison(expr.span)
        return value

    def _typed(self, expr: syntax.Expr, scope: Scope) -> Expr:
        match expr:
            case syntax.Number(value=value):
                return tree.Number(Monomial(value), shape=Shape(), span=expr.span)
            case syntax.Name():
                return self._name(expr, scope)
            case syntax.Negate(operand=operand):
                return self._negated(expr, self.typed(operand, scope), scope)
            case syntax.Binary():
                return self._binary(expr, scope)
            case syntax.Call():
                return self.call(expr, scope)
            case syntax.Grad():
                return self.grad(expr, scope)
            case syntax.Integral():
                return self._integral(expr, scope)
            case syntax.Rename():
                return self._rename(expr, scope)
            case syntax.Each():
                return self.each(expr, scope)
            case syntax.On():
                return self.on(expr, scope)
        raise AssertionError(expr)

    @abstractmethod
    def call(self, expr: syntax.Call, scope: Scope) -> Expr: ...

    @abstractmethod
    def grad(self, expr: syntax.Grad, scope: Scope) -> Expr: ...

    @abstractmethod
    def each(self, expr: syntax.Each, scope: Scope) -> Expr: ...

    @abstractmethod
    def on(self, expr: syntax.On, scope: Scope) -> Expr: ...

    # -- names ---------------------------------------------------------------------------------

    def _name(self, expr: syntax.Name, scope: Scope) -> Expr:
        found = scope.find(expr.text)
        if isinstance(found, Shared):
            scope.diagnostics.add("E0220", expr.span, f"`{expr.text}` is shared parameters, not a value", f"call it: `{expr.text}(…)`")
            return poison(expr.span)
        if isinstance(found, Broken):
            return poison(expr.span)
        if found is not None:
            shape = found.shape if isinstance(found, Binding) else Shape(found.axes)
            return tree.Load(found, shape=_seen(shape, scope), span=expr.span)
        value = self._number_named(expr.text, expr.span, scope)
        if value is not None:
            per = Per.SEQUENCE if expr.text == "seq" else Per.CONSTANT
            return tree.Number(value, shape=Shape((), per), span=expr.span)
        if expr.text == "position":
            return tree.Apply("position", shape=Shape((), Per.TOKEN), span=expr.span)
        return self._no_value(expr, scope)

    def _number_named(self, name: str, span: Span, scope: Scope) -> Monomial | None:
        """A dim's size or a const, as the text of this file means it."""
        if name == "seq":
            return Monomial.size(SEQ)
        declared, numbers = scope.owner.declared(name), scope.world.numbers
        if declared is not None and declared.kind not in ("dim", "const", "types"):
            return None
        if name in numbers.cells and numbers.cells[name].kind == "dim":
            scope.owner.sizes.setdefault(dim(name), span)
        return numbers.number(name)

    def _no_value(self, expr: syntax.Name, scope: Scope) -> Expr:
        name, declared = expr.text, scope.owner.declared(expr.text)
        if declared is not None and declared.kind in ("block", "energy"):
            scope.diagnostics.add("E0220", expr.span, f"`{name}` is {article(declared.kind)}, not a value", f"call it: `{name}(…)`")
        elif name == "ctx" or name in scope.world.numbers.contexts:
            scope.diagnostics.add("E0220", expr.span, f"`{name}` is a context axis, not a value", f"`distance({name})` is how far a seen token is")
        elif name in scope.world.numbers.cells:
            pass  # its value was found wrong where it is declared
        elif name in FUNCTIONS:
            scope.diagnostics.add("E0321", expr.span, f"`{name}` is a function, not a value", f"call it: `{FUNCTIONS[name].written}`")
        elif not self._free_number(expr, scope):
            candidates = [*scope.visible(), "position", "seq"]
            unknown(scope.diagnostics, "value", name, expr.span, candidates, f"bind it before: `{name} = …`", use=use_for(name))
            scope.names[name] = Broken(expr.span, unknown=True)
        return poison(expr.span)

    def _free_number(self, expr: syntax.Name, scope: Scope) -> bool:
        """In a library a name that nobody declares is the using file's: the size of an axis, or a const."""
        owner = scope.owner
        if owner.closed:
            return False
        local = [name for each in scope.chain() for name in each.names]
        if dim(expr.text) not in owner.axes and _near(expr.text, local):
            return False
        owner.free.setdefault(expr.text, expr.span)
        owner.sizes.setdefault(dim(expr.text), expr.span)
        return True

    def constant(self, expr: syntax.Expr, scope: Scope) -> Monomial | None:
        """A number known at compile time; None after an error, or in a library where a name in it is free."""

        def lookup(name: str, span: Span) -> Monomial | None:
            if scope.find(name) is not None:
                raise NotANumberError(span, f"`{name}` is a value of the model, not a number known at compile time", "write digits, a dim or a const")
            value = self._number_named(name, span, scope)
            if value is None:
                self._no_value(syntax.Name(name, span=span), scope)
            return value

        return evaluate(expr, lookup, scope.world.numbers.sizes, scope.diagnostics)

    # -- operators -----------------------------------------------------------------------------

    def apply(self, function: str, args: tuple[Expr, ...], shape: Shape, span: Span, axes: tuple[Axis, ...] = ()) -> Expr:
        if shape is UNKNOWN:
            return poison(span)
        return tree.Apply(function, args, axes, shape=supported(function, [arg.shape for arg in args], axes, shape), span=span)

    def _negated(self, expr: syntax.Negate, operand: Expr, scope: Scope) -> Expr:
        return self.apply("neg", (operand,), joined((operand.shape,)), expr.span) if self.numeric("-", operand, scope) else poison(expr.span)

    def numeric(self, what: str, arg: Expr, scope: Scope) -> bool:
        """Whether an operand is numbers; reports ids."""
        if arg.shape.vocabulary is None:
            return True
        help = "ids are looked up, `lookup(table, ids)`, viewed, and compared by `==`"
        scope.diagnostics.add("E0307", arg.span, f"`{what}` works on numbers, and this is {shown(arg.shape)}", help)
        return False

    def _binary(self, expr: syntax.Binary, scope: Scope) -> Expr:
        if expr.operator == "in":
            return self._membership(expr, scope)
        left, right = self.typed(expr.left, scope), self.typed(expr.right, scope)
        if not known(left.shape, right.shape):
            return poison(expr.span)
        if expr.operator == "==" and left.shape.vocabulary is not None:
            return self._same_ids(expr, left, right, scope)
        numeric = [self.numeric(expr.operator, side, scope) for side in (left, right)]
        if not all(numeric):
            return poison(expr.span)
        if expr.operator == "@":
            return self._contracted(expr, left, right, scope)
        return self.apply(expr.operator, (left, right), joined((left.shape, right.shape)), expr.span)

    def _contracted(self, expr: syntax.Binary, left: Expr, right: Expr, scope: Scope) -> Expr:
        shared = tuple(axis for axis in left.shape.axes if axis in right.shape.axes and axis.role is Role.DIM)
        if not shared:
            sides = f"the left has {brackets(left.shape.axes)}, the right {brackets(right.shape.axes)}"
            message = f"`@` sums over the declared axes that both sides have, and they share none: {sides}"
            scope.diagnostics.add("E0302", expr.span, message, "for a product without a sum write `*`; to make two axes one, rename: `e[a -> b]`")
            return poison(expr.span)
        return self.apply("@", (left, right), joined((left.shape, right.shape), shared), expr.span, shared)

    def _same_ids(self, expr: syntax.Binary, left: Expr, right: Expr, scope: Scope) -> Expr:
        number = right.shape.vocabulary is None and right.shape == Shape()
        if right.shape.vocabulary != left.shape.vocabulary and not number:
            message = f"`==` compares ids of one vocabulary: the left is {shown(left.shape)}, the right {shown(right.shape)}"
            scope.diagnostics.add("E0312", expr.span, message)
            return poison(expr.span)
        return self.apply("==", (left, right), comparison(left.shape, right.shape), expr.span)

    def _membership(self, expr: syntax.Binary, scope: Scope) -> Expr:
        """`ids in a`"""
        ids = self.typed(expr.left, scope)
        word = syntax.Word(expr.right.text if isinstance(expr.right, syntax.Name) else "", span=expr.right.span)
        part = scope.axis(word)
        if part is None or ids.shape is UNKNOWN:
            return poison(expr.span)
        vocabulary = ids.shape.vocabulary
        parts = scope.world.numbers.partitions.get(vocabulary) if vocabulary is not None else None
        if vocabulary is None:
            scope.diagnostics.add("E0307", ids.span, f"`in` asks for the type of ids, and this is {shown(ids.shape)}, numbers")
        elif parts is None or part not in parts:
            known_parts = f"`{vocabulary}` has {words(parts)}" if parts else f"declare `types … of {vocabulary} {{ {part} = …, … }}`"
            scope.diagnostics.add("E0312", word.span, f"`{part}` is not a part of the vocabulary `{vocabulary}`", known_parts)
        else:
            return self.apply("in", (ids,), comparison(ids.shape, Shape()), expr.span, (part,))
        return poison(expr.span)

    def _integral(self, expr: syntax.Integral, scope: Scope) -> Expr:
        operand, name = self.typed(expr.operand, scope), expr.function.text
        if name not in INTEGRABLE:
            otherwise = f"the element-wise functions are {words(sorted(INTEGRABLE))}"
            unknown(scope.diagnostics, "element-wise function", name, expr.function.span, sorted(INTEGRABLE), otherwise, "E0319")
            return poison(expr.span)
        if operand.shape is UNKNOWN or not self.numeric("integral", operand, scope):
            return poison(expr.span)
        return tree.Integral(name, operand, shape=joined((operand.shape,)), span=expr.span)

    # -- renaming ------------------------------------------------------------------------------

    def _rename(self, expr: syntax.Rename, scope: Scope) -> Expr:
        operand = self.typed(expr.operand, scope)
        pairs = [(scope.axis(arrow.old), scope.axis(arrow.new)) for arrow in expr.arrows]
        arrows = tuple((old, new) for old, new in pairs if old is not None and new is not None)
        if operand.shape is UNKNOWN or len(arrows) != len(pairs):
            return poison(expr.span)
        sound = [self._renames(arrow, old, new, operand, scope) for arrow, (old, new) in zip(expr.arrows, arrows, strict=True)]
        if not all(sound):
            return poison(expr.span)
        shape = renamed(operand.shape, dict(arrows))
        if len(set(shape.axes)) < len(operand.shape.axes):
            message = f"after this renaming {brackets(operand.shape.axes)} would have one axis twice"
            scope.diagnostics.add("E0311", expr.span, message, "rename to an axis that the value does not have")
            return poison(expr.span)
        return tree.Rename(operand, arrows, shape=shape, span=expr.span)

    def _renames(self, arrow: syntax.Arrow, old: Axis, new: Axis, operand: Expr, scope: Scope) -> bool:
        sizes = scope.world.numbers.sizes
        if old not in operand.shape.axes:
            message = f"`{old}` is to be renamed, and the value has the axes {brackets(operand.shape.axes)}"
            scope.diagnostics.add("E0311", arrow.old.span, message)
        elif old.role is not new.role:
            scope.diagnostics.add("E0311", arrow.span, f"`{old}` and `{new}` are axes of different kinds")
        elif old in sizes and new in sizes and sizes[old] != sizes[new]:
            message = f"`{old}` has size {sizes[old]} and `{new}` has {sizes[new]}: renaming wants equal sizes"
            scope.diagnostics.add("E0311", arrow.span, message)
        else:
            return True
        return False


def renamed(shape: Shape, arrows: dict[Axis, Axis]) -> Shape:
    """The shape with axes exchanged, a vocabulary too."""
    if shape is UNKNOWN or not arrows:
        return shape
    axes = [arrows.get(axis, axis) for axis in shape.axes]
    vocabulary = arrows.get(shape.vocabulary, shape.vocabulary) if shape.vocabulary is not None else None
    return Shape(ordered(axes), shape.per, vocabulary, frozenset(arrows.get(axis, axis) for axis in shape.limited))


def _seen(shape: Shape, scope: Scope) -> Shape:
    """A value at the current index of every `each` around."""
    if shape is UNKNOWN or not scope.gone.intersection(shape.axes):
        return shape
    return Shape(tuple(axis for axis in shape.axes if axis not in scope.gone), shape.per, shape.vocabulary, shape.limited)


def _near(name: str, candidates: list[str]) -> bool:
    return len(name) > 2 and closest(name, tuple(candidates)) is not None
