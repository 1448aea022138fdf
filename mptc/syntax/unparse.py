"""A tree without a text to text: `parse(unparse(t)) == t`.

Of a tree that was read, `format` keeps more: comments, parentheses and empty lines. What is written here is plain, and `format` lays it out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from mptc.syntax import tree
from mptc.syntax.unparse_expr import callee, count, path, type_of, words, write

_WIDEST = 120
_LINES_ALONE = (tree.Use, tree.Dim, tree.Const, tree.Context)


def unparse(file: tree.File) -> str:
    """The text of a file."""
    written = ""
    before: tree.Declaration | None = None
    for one in file.declarations:
        written += "\n" if before is not None and not _together(before, one) else ""
        written += declaration(one) + "\n"
        before = one
    return written


def show(expr: tree.Expr) -> str:
    """One expression on one line, for messages; the statements of an `each` or `on` are then separated by `;`."""
    return write(expr, _on_one_line)


def _together(before: tree.Declaration, after: tree.Declaration) -> bool:
    """Declarations of one line stand together; all others have an empty line around them."""
    if isinstance(before, tree.Variant | tree.Types):
        return type(before) is type(after)
    return isinstance(before, _LINES_ALONE) and isinstance(after, _LINES_ALONE) and isinstance(before, tree.Use) == isinstance(after, tree.Use)


def declaration(one: tree.Declaration) -> str:
    return _DECLARATIONS[type(one)](one)


def statement(one: tree.Statement) -> str:
    return _STATEMENTS[type(one)](one)


def _braces(lines: Iterable[str]) -> str:
    inside = "".join(f"\n{line}" for line in lines).replace("\n", "\n  ")
    return f"{{{inside}\n}}" if inside else "{}"


def _body(statements: tuple[tree.Statement, ...]) -> str:
    return _braces(map(statement, statements))


def _with_value(statements: tuple[tree.Statement, ...], value: tree.Expr) -> str:
    last = _expr(value)
    return _braces([*map(statement, statements), last]) if statements or "\n" in last else f"{{ {last} }}"


def _on_one_line(statements: tuple[tree.Statement, ...], value: tree.Expr) -> str:
    return "{ " + "; ".join([*(" ".join(statement(one).split()) for one in statements), show(value)]) + " }"


def _expr(value: tree.Expr) -> str:
    return write(value, _with_value)


# -- declarations --


def _energy(one: tree.Energy) -> str:
    conditions = f" | {_arguments(one.conditions)}" if one.conditions else ""
    return f"energy {one.name.text}({_arguments((one.variable,))}{conditions}) {_body(one.body)}"


def _model(one: tree.Model) -> str:
    return f"model {one.name.text} {'bidirectional ' if one.bidirectional else ''}{_body(one.body)}"


def _arguments(arguments: tuple[tree.Argument, ...]) -> str:
    return ", ".join(f"{one.name.text}: {type_of(one.type)}" for one in arguments)


def _settings(head: str, settings: tuple[tree.Setting, ...]) -> str:
    inside = [f"{one.name.text} = {_expr(one.value)}" for one in settings]
    one_line = f"{head} {{ {', '.join(inside)} }}"
    return one_line if settings and len(one_line) <= _WIDEST and "\n" not in one_line else f"{head} {_braces(inside)}"


_DECLARATIONS: dict[type, Callable[[Any], str]] = {
    tree.Use: lambda one: f'use "{one.path}"',
    tree.Dim: lambda one: f"dim {one.name.text} = {_expr(one.value)}",
    tree.Const: lambda one: f"const {one.name.text} = {_expr(one.value)}",
    tree.Context: lambda one: f"context {one.name.text}",
    tree.Types: lambda one: _settings(f"types {one.name.text} of {one.vocabulary.text}", one.settings),
    tree.Variant: lambda one: _settings(f"variant {one.name.text}", one.settings),
    tree.Energy: _energy,
    tree.Block: lambda one: f"block {one.name.text}({_arguments(one.args)}) {_body(one.body)}",
    tree.Model: _model,
}


# -- statements --


def _param(one: tree.Param) -> str:
    return f"param {one.name.text}: {type_of(one.type)}{_init(one.init) if one.init else ''}"


def _init(one: tree.Init) -> str:
    return f" = {_expr(one.value)}" if one.kind == "fill" else f" ~ {one.kind}({_expr(one.value)})"


def _output(one: tree.Output) -> str:
    axes = "" if one.axes is None else f": [{words(one.axes)}]"
    return f"output {one.name.text}{axes} = {_expr(one.value)}"


_STATEMENTS: dict[type, Callable[[Any], str]] = {
    tree.Param: _param,
    tree.Input: lambda one: f"input {one.name.text}: {type_of(one.type)}{' per sequence' if one.per_sequence else ''}",
    tree.Bind: lambda one: f"{one.name.text} = {_expr(one.value)}",
    tree.Update: lambda one: f"{one.name.text} <- {_expr(one.value)}",
    tree.Stack: lambda one: f"stack {count(one.count, _with_value)} as {one.label.text} {_body(one.body)}",
    tree.Repeat: lambda one: f"repeat {count(one.count, _with_value)} {_body(one.body)}",
    tree.Share: lambda one: f"share {one.name.text}: {callee(one.callee)}",
    tree.Tie: lambda one: f"tie {path(one.left)} = {path(one.right)}",
    tree.Freeze: lambda one: f"freeze {path(one.path)}",
    tree.Penalty: lambda one: f"penalty {_expr(one.value)}",
    tree.Probe: lambda one: f"probe {one.name.text} = {_expr(one.value)}",
    tree.Loss: lambda one: f"loss {_expr(one.value)}",
    tree.Output: _output,
    tree.Minimize: lambda one: f"minimize {_expr(one.value)}",
    tree.Return: lambda one: f"return {_expr(one.value)}",
}
