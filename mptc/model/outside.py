"""Values from outside the spec: `--set NAME=VALUE` and `--variant NAME`."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from mptc.model.load import Unit
from mptc.model.numbers import Cell, Numbers, article, unknown
from mptc.source.diagnostic import Diagnostics, Note
from mptc.source.suggest import closest
from mptc.source.text import Source, Span
from mptc.syntax import tree as syntax
from mptc.syntax.parse import parse

MOST_TRIED = 200  # variants that are checked though they are not chosen: each evaluates every number of the spec


def apply_variant(unit: Unit, name: str | None, numbers: Numbers, diagnostics: Diagnostics) -> None:
    """Checks every variant's names and puts the chosen one's values in."""
    variants: dict[str, syntax.Variant] = {}
    for node in unit.file.declarations:
        if isinstance(node, syntax.Variant):
            _check_variant(node, variants, numbers, unit, diagnostics)
            variants.setdefault(node.name.text, node)
    before = Diagnostics()
    if variants:
        numbers.apart(before).settle()
    for node in islice(variants.values(), MOST_TRIED):
        if node.name.text != name:
            _try_variant(node, numbers, unit, before, diagnostics)
    if name is None:
        return
    if name not in variants:
        source = Source("--variant", name)
        known = f"the spec declares {', '.join(f'`{each}`' for each in variants)}" if variants else "the spec declares none"
        near = closest(name, tuple(variants))
        diagnostics.add("E0802", Span(source, 0, len(name)), f"there is no variant `{name}`", f"did you mean `{near}`?" if near else known)
        return
    _choose(variants[name], numbers, unit)


def _choose(node: syntax.Variant, numbers: Numbers, unit: Unit) -> None:
    """Puts a variant's values in."""
    for setting in node.settings:
        if _settable(numbers.cells.get(setting.name.text)):
            numbers.override(setting.name.text, setting.value, unit)


def _try_variant(node: syntax.Variant, numbers: Numbers, unit: Unit, before: Diagnostics, diagnostics: Diagnostics) -> None:
    """Reports what would be wrong with the numbers under a variant that is not chosen, and is not wrong `before` it.

    What lies outside the variant, as a size that follows from one it sets, is told at the variant's name.
    """
    found = Diagnostics()
    trial = numbers.apart(found)
    _choose(node, trial, unit)
    trial.settle()
    for one in found.found:
        if one in before.found:
            continue
        if one.span.source is unit.source and node.span.start <= one.span.start < node.span.end:
            diagnostics.add(one.code, one.span, one.message, one.help, one.notes)
        else:
            notes = (Note(one.span, "it is declared here"), *one.notes)
            diagnostics.add(one.code, node.name.span, f"with the variant `{node.name.text}` {one.message}", one.help, notes)


def _check_variant(node: syntax.Variant, before: dict[str, syntax.Variant], numbers: Numbers, unit: Unit, diagnostics: Diagnostics) -> None:
    if node.name.text in before:
        note = Note(before[node.name.text].name.span, "it is first declared here")
        diagnostics.add("E0203", node.name.span, f"variant `{node.name.text}` is declared a second time", "give one of the two another name", (note,))
    said: dict[str, Span] = {}
    for setting in node.settings:
        name = setting.name.text
        if name in said:
            note = Note(said[name], "it is first set here")
            diagnostics.add("E0203", setting.name.span, f"`{name}` is set a second time in this variant", "remove one of the two", (note,))
        said[name] = setting.name.span
        declared = unit.visible.get(name)
        if declared is not None and declared.kind in ("block", "energy", "context"):
            diagnostics.add("E0220", setting.name.span, f"`{name}` is {article(declared.kind)}; a variant sets dims and consts")
        elif name not in numbers.cells:
            unknown(diagnostics, "dim or const", name, setting.name.span, numbers.cells, f"declare it: `const {name} = …` or `dim {name} = …`")
        elif not _settable(numbers.cells[name]):
            diagnostics.add("E0220", setting.name.span, f"`{name}` follows from a `types` declaration", "set the sizes of its parts instead")


def apply_settings(unit: Unit, settings: Mapping[str, str], numbers: Numbers, diagnostics: Diagnostics) -> None:
    """Puts the values of `--set` in; they win over a variant's."""
    for name, value in settings.items():
        source = Source("--set", f"{name}={value}")
        span = Span(source, 0, len(name))
        cell = numbers.cells.get(name)
        if cell is None:
            declared = unit.visible.get(name)
            if declared is not None:
                diagnostics.add("E0804", span, f"`{name}` is {article(declared.kind)}; only dims and consts can be set from outside")
            else:
                unknown(diagnostics, "dim or const", name, span, numbers.cells, _known(numbers), "E0801")
        elif not _settable(cell):
            diagnostics.add("E0804", span, f"`{name}` follows from a `types` declaration", "set the sizes of its parts instead")
        else:
            expr = _expression(source, name, value, diagnostics)
            if expr is not None:
                numbers.override(name, expr, unit)


def _known(numbers: Numbers) -> str:
    names = ", ".join(f"`{name}`" for name in list(numbers.cells)[:12])
    return f"the spec has {names}" if names else "the spec declares no dim and no const"


def _settable(cell: Cell | None) -> bool:
    return cell is not None and cell.expr is not None


def _expression(source: Source, name: str, value: str, diagnostics: Diagnostics) -> syntax.Expr | None:
    """VALUE as an expression. It is read as the declaration that it stands for, and its spans point into what the user typed."""
    before = "const x = "
    found = Diagnostics()
    file = parse(Source("--set", before + value), found) if "\n" not in value and "#" not in value else None
    declared = file.declarations if file is not None and not found.failed else ()
    whole = Span(source, len(name) + 1, len(source.text))
    if len(declared) != 1 or not isinstance(declared[0], syntax.Const):
        diagnostics.add(
            "E0803", whole, f"the value of `{name}` is not a number: `{value}`", f"write a number, as `{name}=768`, or an expression of numbers"
        )
        return None
    problem = _not_a_number(declared[0].value)
    if problem is not None:
        diagnostics.add("E0803", whole, f"the value of `{name}` is not a number: `{value}`", problem)
        return None
    return _moved(declared[0].value, source, len(name) + 1 - len(before))


def _not_a_number(expr: syntax.Expr) -> str | None:
    match expr:
        case syntax.Number() | syntax.Name():
            return None
        case syntax.Negate(operand=operand):
            return _not_a_number(operand)
        case syntax.Binary(operator="+" | "-" | "*" | "/" | "^", left=left, right=right):
            return _not_a_number(left) or _not_a_number(right)
        case syntax.Call(callee=syntax.Callee(name=syntax.Word(text="sqrt" | "ceil" | "floor"), axes=(), arrows=()), args=(operand,)):
            return _not_a_number(operand)
        case _:
            return "numbers are made of digits, dims and consts with `+ - * / ^`, `sqrt`, `ceil` and `floor`"


def _moved(expr: syntax.Expr, source: Source, by: int) -> syntax.Expr:
    """The same expression with spans into `source`."""
    span = Span(source, expr.span.start + by, expr.span.end + by)
    match expr:
        case syntax.Number(value=value):
            return syntax.Number(value, span=span)
        case syntax.Name(text=text):
            return syntax.Name(text, span=span)
        case syntax.Negate(operand=operand):
            return syntax.Negate(_moved(operand, source, by), span=span)
        case syntax.Binary(operator=operator, left=left, right=right):
            return syntax.Binary(operator, _moved(left, source, by), _moved(right, source, by), span=span)
        case syntax.Call(callee=callee, args=args):
            name = syntax.Word(callee.name.text, span=span)
            return syntax.Call(syntax.Callee(name, span=span), tuple(_moved(each, source, by) for each in args), span=span)
    raise AssertionError(expr)
