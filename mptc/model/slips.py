"""What is well formed and hardly ever meant: an energy added where its gradient belongs, and names that nothing reads."""

from __future__ import annotations

from collections.abc import Iterator

from mptc.model import tree
from mptc.model.load import Unit
from mptc.model.order import nodes
from mptc.model.shapes import UNKNOWN
from mptc.model.tree import Expr
from mptc.source.diagnostic import Diagnostics
from mptc.syntax import tree as syntax

_TERMS = frozenset({"+", "-", "neg"})
_FACTORS = frozenset({"*", "/"})


def bare_energies(value: Expr) -> Iterator[tree.Invoke]:
    """The energies whose value is spread over all axes of a sum that they are a term of."""
    waiting = [value]
    while waiting:
        term = waiting.pop()
        if isinstance(term, tree.Apply) and term.function in _TERMS:
            waiting.extend(reversed(term.args))
        elif term.shape is not UNKNOWN and not set(value.shape.axes).issubset(term.shape.axes):
            yield from _factors(term)


def _factors(term: Expr) -> Iterator[tree.Invoke]:
    """The energies that a term is a multiple of."""
    waiting = [term]
    while waiting:
        factor = waiting.pop()
        if isinstance(factor, tree.Apply) and factor.function in _TERMS | _FACTORS:
            waiting.extend(reversed(factor.args))
        elif isinstance(factor, tree.Invoke) and factor.callee.kind == "energy" and not factor.grad:
            yield factor


def unread(unit: Unit, diagnostics: Diagnostics) -> None:
    """Reports the parameters and bindings of a file that nothing reads.

    It goes by names: what any line of its body mentions is read, and so is what a path mentions, a `tie` from anywhere in the file.
    """
    paths = {step.name.text for node in nodes(unit.file) if isinstance(node, syntax.Path) for step in node.steps}
    for declaration in unit.file.declarations:
        if isinstance(declaration, syntax.Model | syntax.Block | syntax.Energy):
            _unread_in(declaration, paths, diagnostics)


def _unread_in(declaration: syntax.Declaration, paths: set[str], diagnostics: Diagnostics) -> None:
    bound: list[tuple[str, syntax.Word]] = []
    read = set(paths)
    for node in nodes(declaration):
        if isinstance(node, syntax.Param):
            bound.append(("parameter", node.name))
        elif isinstance(node, syntax.Bind):
            bound.append(("binding", node.name))
        elif isinstance(node, syntax.Name):
            read.add(node.text)
    for what, word in sorted(bound, key=lambda each: each[1].span.start):
        if word.text not in read:
            diagnostics.add("W0604", word.span, f"nothing reads the {what} `{word.text}`", "remove it, or write its name where it is meant")
