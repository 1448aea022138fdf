"""Dims and consts: one table for all files of a spec, with what was set from outside.

The nearest declaration wins: the spec's own, then those of the files that it uses. What a library leaves free or declares as a default is therefore
what the using file says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from mptc.ir.axis import Axis, context, dim
from mptc.ir.number import Monomial
from mptc.model.exact import NotANumberError, evaluate
from mptc.model.load import Declared, Unit
from mptc.model.order import dependencies_first, nodes
from mptc.source.diagnostic import Diagnostics, Note
from mptc.source.suggest import closest
from mptc.source.text import Span
from mptc.syntax import tree as syntax

LARGEST = 2**40
MOST_CONTEXTS = 16
MOST_SUGGESTIONS = 50  # among more errors than that nobody looks for a slip of the finger, and looking takes time


@dataclass(frozen=True)
class Cell:
    """Where a number comes from: an expression, or the names that it is the sum of, or a count."""

    kind: str  # `dim` or `const`
    span: Span
    unit: Unit
    expr: syntax.Expr | None = None
    parts: tuple[str, ...] = ()
    count: int = 0


@dataclass
class Numbers:
    diagnostics: Diagnostics
    closed: bool  # whether every name must have a value: true where there is a model
    cells: dict[str, Cell] = field(default_factory=dict)
    values: dict[str, Monomial | None] = field(default_factory=dict)
    sizes: dict[Axis, int] = field(default_factory=dict)
    contexts: dict[str, Axis] = field(default_factory=dict)
    partitions: dict[Axis, tuple[Axis, ...]] = field(default_factory=dict)
    typings: dict[str, Axis] = field(default_factory=dict)  # the vocabulary that a `types` partitions

    def gather(self, units: Iterable[Unit]) -> None:
        """Takes the declarations of all files, nearest first."""
        for unit in units:
            for declared in unit.own.values():
                if declared.kind == "context":
                    self._context(declared)
                elif declared.name not in self.cells:
                    self._take(declared)

    def _context(self, declared: Declared) -> None:
        if len(self.contexts) == MOST_CONTEXTS and declared.name not in self.contexts:
            self.diagnostics.add("E0226", declared.span, f"a spec has at most {MOST_CONTEXTS} contexts", "use one of the others again")
        self.contexts.setdefault(declared.name, context(declared.name))

    def _take(self, declared: Declared) -> None:
        match declared.node:
            case syntax.Dim(value=value):
                self.cells[declared.name] = Cell("dim", declared.span, declared.unit, value)
            case syntax.Const(value=value):
                self.cells[declared.name] = Cell("const", declared.span, declared.unit, value)
            case syntax.Types() as node:
                self.cells[declared.name] = _types_cell(declared, node)
                parts = tuple(dim(setting.name.text) for setting in node.settings)
                self.partitions.setdefault(dim(node.vocabulary.text), parts)
                self.typings.setdefault(node.name.text, dim(node.vocabulary.text))
            case _:
                pass

    def override(self, name: str, expr: syntax.Expr, unit: Unit) -> None:
        self.cells[name] = Cell(self.cells[name].kind, expr.span, unit, expr)

    def apart(self, diagnostics: Diagnostics) -> Numbers:
        """The same declarations, to be set and settled without a trace here."""
        return Numbers(diagnostics, self.closed, dict(self.cells), {}, {}, self.contexts, self.partitions, self.typings)

    def unsized(self) -> Numbers:
        """The same declarations, their values unknown."""
        return self.apart(self.diagnostics)

    # -- values --------------------------------------------------------------------------------

    def settle(self) -> None:
        """Evaluates every cell, each after what it mentions."""
        order, circles = dependencies_first(self.cells, self._mentions)
        for circle in circles:
            cell = self.cells[circle[0]]
            chain = " → ".join(f"`{name}`" for name in (*circle, circle[0]))
            notes = tuple(Note(self.cells[name].span, "which needs this") for name in circle[1:])
            self.diagnostics.add("E0218", cell.span, f"this number is defined by itself: {chain}", "give one of them a value of its own", notes)
        circular = {name for circle in circles for name in circle}
        for name in order:
            self.values[name] = None if name in circular else self._evaluated(name, self.cells[name])

    def _mentions(self, name: str) -> list[str]:
        cell = self.cells[name]
        if cell.expr is None:
            return [part for part in cell.parts if part in self.cells]  # a part with a name that is taken was refused
        return [node.text for node in nodes(cell.expr) if isinstance(node, syntax.Name) and node.text in self.cells]

    def _evaluated(self, name: str, cell: Cell) -> Monomial | None:
        value = self._raw(cell)
        if value is None:
            return None
        if cell.kind == "const":
            return value
        size = value.resolved({})
        if size is None or size.denominator != 1 or not 0 < size <= LARGEST:
            said = f"{float(value.evaluate({})):g}" if size is None or size.denominator != 1 else str(size)
            reason = f"no size may be above {LARGEST:,}".replace(",", "_") if size is not None and size > LARGEST else "a size is a positive integer"
            self.diagnostics.add("E0217", cell.expr.span if cell.expr else cell.span, f"dim `{name}` would have size {said}", reason)
            return None
        self.sizes[dim(name)] = int(size)
        return Monomial(size)

    def _raw(self, cell: Cell) -> Monomial | None:
        if cell.expr is None and not cell.parts:
            return Monomial(Fraction(cell.count))
        if cell.expr is None:
            sizes = [self.sizes.get(dim(part)) for part in cell.parts]
            return None if None in sizes else Monomial(Fraction(sum(size for size in sizes if size is not None)))

        def lookup(name: str, span: Span) -> Monomial | None:
            return self._named(name, span, cell.unit)

        return evaluate(cell.expr, lookup, self.sizes, self.diagnostics)

    def _named(self, name: str, span: Span, unit: Unit) -> Monomial | None:
        declared = unit.visible.get(name)
        if declared is not None and declared.kind not in ("dim", "const", "types"):
            raise NotANumberError(span, f"`{name}` is {article(declared.kind)}, not a number", "a number is made of dims, consts and digits")
        if name in self.cells:
            return self.values.get(name)
        if self.closed:
            unknown(self.diagnostics, "dim or const", name, span, self.cells, f"declare it: `const {name} = …` or `dim {name} = …`")
        return None

    def number(self, name: str) -> Monomial | None:
        """A const's value, or the size of a dim, kept by name."""
        cell = self.cells.get(name)
        if cell is None:  # a dim that nobody declares, and that a call puts another in the place of, has a size all the same
            return Monomial.size(dim(name)) if dim(name) in self.sizes else None
        return Monomial.size(dim(name)) if cell.kind == "dim" else self.values.get(name)


def _types_cell(declared: Declared, node: syntax.Types) -> Cell:
    if declared.name == node.name.text:
        return Cell("dim", declared.span, declared.unit, count=len(node.settings))
    for setting in node.settings:
        if declared.name == setting.name.text:
            return Cell("dim", declared.span, declared.unit, setting.value)
    return Cell("dim", declared.span, declared.unit, parts=tuple(setting.name.text for setting in node.settings))


def article(kind: str) -> str:
    noun = {"types": "partition of ids", "context": "context axis"}.get(kind, kind)
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def unknown(
    diagnostics: Diagnostics,
    what: str,
    name: str,
    span: Span,
    candidates: Iterable[str],
    otherwise: str,
    code: str = "E0201",
    use: str | None = None,
) -> None:
    """An unknown name, with the `use` line that would make it known, or the closest known one, where there is one."""
    near = closest(name, tuple(candidates)) if use is None and len(diagnostics.found) < MOST_SUGGESTIONS else None
    help = f"the prelude declares it: `{use}`" if use is not None else f"did you mean `{near}`?" if near is not None else otherwise
    diagnostics.add(code, span, f"there is no {what} `{name}`", help)


def resolved(value: Monomial | None, sizes: Mapping[Axis, int]) -> Fraction | None:
    return None if value is None else value.resolved(sizes)
