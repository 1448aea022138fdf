"""The functions that a generated module is given, as text."""

from __future__ import annotations

import ast
from functools import cache
from importlib import resources as package


@cache
def provided() -> dict[str, str]:
    """The source of each helper, by name, in the order of the files."""
    found = {}
    for file in ("helpers.py", "chosen.py", "cache.py"):
        text = package.files("mptc.backends.torch").joinpath(file).read_text()
        lines = text.splitlines()
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
                found[node.name] = "\n".join(lines[start - 1 : node.end_lineno])
    return found


def closure(names: set[str]) -> list[str]:
    """The helpers asked for and those that they use, in the order of the files."""
    sources = provided()
    wanted: set[str] = set()
    pending = sorted(names)
    while pending:
        name = pending.pop()
        if name not in wanted:
            wanted.add(name)
            tree = ast.parse(sources[name])
            pending += [node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id in sources]
    return [name for name in sources if name in wanted]
