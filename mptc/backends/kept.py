"""What a program of the next tokens keeps, under names: once for every target, which may call its caches after it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mptc.ir.axis import Role
from mptc.ir.node import Node
from mptc.ir.program import Program
from mptc.ops.kept import Earlier, Kept
from mptc.passes.scopes import Scope, Scopes


@dataclass(frozen=True)
class Entry:
    """What is kept under one name: `path` below the model (copies of a stack as `*`, passes of a repeat as `#`), and how often that is."""

    path: str
    node: Node
    times: int
    numbers: int  # for each token
    window: int | None

    @property
    def what(self) -> str:
        return "all tokens" if self.window is None else f"the last {self.window - 1}"

    @property
    def axes(self) -> str:
        return "[" + ", ".join(str(axis) for axis in self.node.axes if axis.role is Role.DIM) + "]"


def keeps(scopes: Scopes, scope: Scope) -> bool:
    """Whether something is kept in a scope, or further in."""
    return any(isinstance(node.op, Kept | Earlier) or (node in scopes.bodies and keeps(scopes, scopes.bodies[node])) for node in scope.nodes)


def entries(program: Program, scopes: Scopes) -> list[Entry]:
    """What the cache of a program holds, in the order in which it is made."""
    found: list[Entry] = []
    taken: set[str] = set()
    for node, home in scopes.home.items():
        if not isinstance(node.op, Kept | Earlier):
            continue
        steps: list[str] = []
        times = 1
        scope: Scope | None = home
        while scope is not None and scope.op is not None:
            steps.insert(0, "#" if scope.op.label is None else f"{scope.op.label}.*")
            times *= scope.op.count
            scope = scope.parent
        path = ".".join([*steps, node.op.label])
        while path in taken:
            path += "_"
        taken.add(path)
        numbers = 1
        for axis in node.axes:
            numbers *= program.sizes[replace(axis, tick=0)] if axis.role is Role.DIM else 1
        window = node.op.window if isinstance(node.op, Kept) else node.op.by + 1
        found.append(Entry(path, node, times, numbers, window))
    return found


def remark(following: Program | str) -> str:
    """How much a cache holds, or why there is none."""
    if isinstance(following, str):
        return f"it cannot decode token by token: {following}"
    found = entries(following, Scopes(following.roots))
    growing = 4 * sum(entry.times * entry.numbers for entry in found if entry.window is None)
    fixed = 4 * sum(entry.times * entry.numbers * (entry.window - 1) for entry in found if entry.window is not None)
    parts = [f"{growing:,} bytes for each token"] if growing or not fixed else []
    parts += [f"{fixed:,} bytes of the last tokens"] if fixed else []
    return f"its cache holds {' and '.join(parts)} in float32, half as many in 16 bits"


def _number(node: Node) -> int:
    assert isinstance(node.op, Kept | Earlier)
    return node.op.number


def labels(entries: Sequence[Entry]) -> dict[int, str]:
    """The last step of each entry's path, by its number."""
    return {_number(entry.node): entry.path.rpartition(".")[2] for entry in entries}
