"""From the parts of a rule to its tree class: one function for each rule that makes something, under the rule's name.

What the grammar is too weak to say is checked here: a path's index is a whole number, an initialiser is `normal` or `uniform`.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any, NamedTuple

from mptc.source.suggest import did_you_mean
from mptc.source.text import Span
from mptc.syntax import tree
from mptc.syntax.lexer import Token
from mptc.syntax.problems import Problems


class At(NamedTuple):
    """Where a rule was read, and who is told what is wrong with it."""

    span: Span
    problems: Problems


Make = Callable[[list[Any], At], Any]


def _of(kind: type, parts: list[Any]) -> tuple[Any, ...]:
    return tuple(part for part in parts if isinstance(part, kind))


def _value(part: Any) -> tree.Expr:
    """An operand that the grammar has as a word: the type of `ids in a`, the name before `[a -> b]`."""
    return tree.Name(part.text, span=part.span) if isinstance(part, tree.Word) else part


def _plain(make: Callable[..., Any]) -> Make:
    """A class whose fields are the parts, in order."""
    return lambda parts, at: make(*parts, span=at.span)


def _word(parts: list[Any], at: At) -> tree.Word:
    return tree.Word(parts[0].text, span=at.span)


# -- expressions --


def _number(parts: list[Any], at: At) -> tree.Number:
    """Zero stands for a number that the lexer has refused: it may be too large to make."""
    refused = at.problems.covers(at.span.start, at.span.start)
    return tree.Number(Fraction(0) if refused else Fraction(parts[0].text.replace("_", "")), span=at.span)


def _binary(parts: list[Any], at: At) -> tree.Binary:
    left, operator, right = parts
    return tree.Binary(operator.text, left, _value(right), span=at.span)


def _callee(parts: list[Any], at: At) -> tree.Callee:
    return tree.Callee(parts[0], _of(tree.Word, parts[1:]), _of(tree.Arrow, parts[1:]), span=at.span)


def _call(parts: list[Any], at: At) -> tree.Call:
    """The bar is among the parts: what is before it are arguments, what is after it conditions."""
    callee, rest = parts[0], parts[1:]
    bar = next((place for place, part in enumerate(rest) if isinstance(part, Token)), len(rest))
    label = rest[-1] if rest and isinstance(rest[-1], tree.Word) else None
    return tree.Call(callee, _of(tree.Expr, rest[:bar]), _of(tree.Expr, rest[bar:]), _of(tree.Option, rest), label, span=at.span)


def _rename(parts: list[Any], at: At) -> tree.Rename:
    return tree.Rename(_value(parts[0]), tuple(parts[1:]), span=at.span)


def _with_value(make: type[tree.Each] | type[tree.On]) -> Make:
    return lambda parts, at: make(parts[0], tuple(parts[1:-1]), parts[-1], span=at.span)


# -- statements --


def _type_of(parts: list[Any], at: At) -> tree.TypeOf:
    return tree.TypeOf(parts[0], span=at.span)


def _ids(parts: list[Any], at: At) -> tree.TypeOf:
    return tree.TypeOf(parts[0] if len(parts) == 2 else (), parts[-1], span=at.span)


def _init(parts: list[Any], at: At) -> tree.Init:
    if len(parts) == 1:
        return tree.Init("fill", parts[0], span=at.span)
    kind, value = parts
    if kind.text not in ("normal", "uniform"):
        help = did_you_mean(kind.text, ("normal", "uniform")) or "write `~ normal(s)`, `~ uniform(a)` or `= value`"
        at.problems.add("E0112", kind.span.start, kind.span.end, f"`{kind.text}` is no distribution of initial values", help)
    return tree.Init(kind.text, value, span=at.span)


def _input(parts: list[Any], at: At) -> tree.Input:
    return tree.Input(parts[0], parts[1], len(parts) == 3, span=at.span)


def _stack(parts: list[Any], at: At) -> tree.Stack:
    return tree.Stack(parts[0], parts[1], tuple(parts[2:]), span=at.span)


def _repeat(parts: list[Any], at: At) -> tree.Repeat:
    return tree.Repeat(parts[0], tuple(parts[1:]), span=at.span)


def _path(parts: list[Any], at: At) -> tree.Path:
    return tree.Path(tuple(parts), span=at.span)


def _step(parts: list[Any], at: At) -> tree.Step:
    name, index = parts[0], parts[1] if len(parts) == 2 else None
    return tree.Step(name, None if index is None else "*" if index.kind == "*" else _index(index, at.problems), span=at.span)


def _index(token: Token, problems: Problems) -> int:
    digits = token.text.replace("_", "")
    if digits.isdigit() and len(digits) <= 9:
        return int(digits)
    if not problems.covers(token.start, token.end):
        problems.add("E0113", token.start, token.end, "a copy is numbered by a whole number", "copies are `[0]`, `[1]`, …, or `[*]` for all of them")
    return 0


def _output(parts: list[Any], at: At) -> tree.Output:
    return tree.Output(parts[0], parts[1] if len(parts) == 3 else None, parts[-1], span=at.span)


# -- declarations --


def _use(parts: list[Any], at: At) -> tree.Use:
    return tree.Use(parts[0].text[1:-1], span=at.span)


def _types(parts: list[Any], at: At) -> tree.Types:
    return tree.Types(parts[0], parts[1], tuple(parts[2:]), span=at.span)


def _variant(parts: list[Any], at: At) -> tree.Variant:
    return tree.Variant(parts[0], tuple(parts[1:]), span=at.span)


def _energy(parts: list[Any], at: At) -> tree.Energy:
    variable, *conditions = _of(tree.Argument, parts)
    return tree.Energy(parts[0], variable, tuple(conditions), _of(tree.Statement, parts), span=at.span)


def _block(parts: list[Any], at: At) -> tree.Block:
    return tree.Block(parts[0], _of(tree.Argument, parts), _of(tree.Statement, parts), span=at.span)


def _model(parts: list[Any], at: At) -> tree.Model:
    return tree.Model(parts[0], bool(_of(Token, parts)), _of(tree.Statement, parts), span=at.span)


def _file(parts: list[Any], at: At) -> tree.File:
    return tree.File(tuple(parts), span=Span(at.span.source, 0, len(at.span.source.text)))


_PLAIN: dict[str, Callable[..., Any]] = {
    "negate": tree.Negate,
    "integral": tree.Integral,
    "grad": tree.Grad,
    "option": tree.Option,
    "arrow": tree.Arrow,
    "param": tree.Param,
    "bind": tree.Bind,
    "update": tree.Update,
    "share": tree.Share,
    "tie": tree.Tie,
    "freeze": tree.Freeze,
    "penalty": tree.Penalty,
    "probe": tree.Probe,
    "loss": tree.Loss,
    "minimize": tree.Minimize,
    "return": tree.Return,
    "dim": tree.Dim,
    "const": tree.Const,
    "context": tree.Context,
    "setting": tree.Setting,
    "argument": tree.Argument,
}

MAKE: dict[str, Make] = {
    **{rule: _plain(make) for rule, make in _PLAIN.items()},
    "name": lambda parts, at: tree.Name(parts[0].text, span=at.span),
    "word": _word,
    "any_word": _word,
    "number": _number,
    "binary": _binary,
    "callee": _callee,
    "call": _call,
    "rename": _rename,
    "each": _with_value(tree.Each),
    "on": _with_value(tree.On),
    "axes": lambda parts, _: tuple(parts),
    "type_of": _type_of,
    "ids": _ids,
    "init": _init,
    "input": _input,
    "stack": _stack,
    "repeat": _repeat,
    "path": _path,
    "step": _step,
    "output": _output,
    "use": _use,
    "types": _types,
    "variant": _variant,
    "energy": _energy,
    "block": _block,
    "model": _model,
    "file": _file,
}
