"""The tree of a file as an indented outline, for `--emit ast`."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from mptc.syntax.tree import Syntax, Word


def outline(tree: Syntax) -> str:
    return "\n".join(_lines(tree, 0)) + "\n"


def _lines(value: Any, depth: int, label: str = "") -> list[str]:
    pad = "  " * depth + label
    if isinstance(value, Word) or value is None or not isinstance(value, Syntax | tuple):
        return [pad + (value.text if isinstance(value, Word) else str(value))]
    if isinstance(value, tuple):
        return [line for item in value for line in _lines(item, depth, label)]
    simple = [(field.name, getattr(value, field.name)) for field in fields(value) if field.name != "span"]
    deep = [(name, item) for name, item in simple if isinstance(item, tuple | Syntax) and not isinstance(item, Word)]
    short = [f"{name}={_lines(item, 0)[0]}" for name, item in simple if (name, item) not in deep]
    head = f"{pad}{type(value).__name__} {' '.join(short)}".rstrip()
    return [f"{head}  # line {value.span.line}", *(line for name, item in deep for line in _lines(item, depth + 1, f"{name}: "))]
