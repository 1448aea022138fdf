"""Which row of the table a value belongs to: a call site, by its parameters' paths (`layers[*].attention`), a parameter of no call, or the loss."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from typing import Protocol

from mptc.ir.node import Node
from mptc.ir.program import Program
from mptc.ops.leaf import Formal, Given, Param
from mptc.ops.region import Loop, Region, Result, Some
from mptc.ops.region import Rows as ByRows
from mptc.passes.asked import needed
from mptc.passes.scopes import Scopes

LOSS = "loss"
REST = "(model)"  # what belongs to no call site, no parameter and no stack


def home_of(path: str) -> str:
    """The row of a parameter: its call site, or its own where it stands in the model or a stack's copy."""
    site, _, _ = path.rpartition(".")
    return path if not site or site.endswith("[*]") else site


class Rows(Protocol):
    """Where values, and the parameters that they read, are counted."""

    def of(self, node: Node) -> str: ...

    def reading(self, node: Node, path: str) -> str: ...


class Named:
    """Parts that have names; all else is the rest."""

    def __init__(self, parts: Mapping[str, Container[Node]]) -> None:
        self.parts = parts

    def of(self, node: Node) -> str:
        return next((name for name, nodes in self.parts.items() if node in nodes), REST)

    def reading(self, node: Node, path: str) -> str:
        return self.of(node)


class CallSites:
    """Of every node of a program."""

    def __init__(self, program: Program) -> None:
        scopes = Scopes(program.roots)
        outputs = needed([output.node for output in program.outputs])
        self._outside = outputs
        self._found: dict[Node, str] = {}
        for node, scope in scopes.home.items():
            function = scope.function
            while function.parent is not None and function.op is None:  # what is computed by rows
                function = function.parent.function
            around = "" if function.op is None else function.op.path
            self._found[node] = self._row(node, around, node not in outputs)

    def of(self, node: Node) -> str:
        return self._found[node] or REST

    def reading(self, node: Node, path: str) -> str:
        return home_of(path)

    def _row(self, node: Node, around: str, only_loss: bool) -> str:
        """By parameters that it reads; else by the values that it is made of, those of the same stack."""
        if isinstance(node.op, Param):
            return home_of(node.op.path)
        if isinstance(node.op, Some):
            return self._found[node.op.of]
        if isinstance(node.op, Result) and isinstance(node.args[0].op, ByRows):
            return self._found[node.args[0].op.results[node.op.index]]
        if isinstance(node.op, Given | Loop | Region | Formal):
            return around
        if only_loss and not around:
            return LOSS
        own = [home_of(arg.op.path) for arg in node.args if isinstance(arg.op, Param)]
        rows = own or [self._found[arg] for arg in node.args if isinstance(arg.op, Some) or not isinstance(arg.op, Given | Region) or _by_rows(arg)]
        return shared((row for row in rows if _below(row, around) and row != around), around)


def _by_rows(node: Node) -> bool:
    return isinstance(node.op, Result) and isinstance(node.args[0].op, ByRows)


def _below(row: str, around: str) -> bool:
    return not around or row == around or row.startswith(f"{around}.")


def shared(rows: Iterable[str], otherwise: str) -> str:
    """What several paths begin with."""
    found: list[str] | None = None
    for row in rows:
        steps = row.split(".")
        if found is None:
            found = steps
        while found != steps[: len(found)]:
            found = found[:-1]
    return ".".join(found) if found else otherwise
