"""Where each value is computed: as far out as what it depends on allows. Hoisting out of `repeat` and `stack` is dependency, not a pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mptc.ir.node import Node, walk
from mptc.ops.chance import Dropout
from mptc.ops.leaf import Formal, Param
from mptc.ops.region import Loop


@dataclass(eq=False)
class Scope:
    """The body of the model or of a loop. `nodes`: what is computed in it, arguments first; a loop among them is its own scope inside."""

    loop: Node | None
    parent: Scope | None
    depth: int
    nodes: list[Node] = field(default_factory=list)

    @property
    def op(self) -> Loop | None:
        return self.loop.op if self.loop is not None and isinstance(self.loop.op, Loop) else None

    @property
    def function(self) -> Scope:
        """The scope whose generated function this one's lines stand in: a stack's copy, or the model."""
        if self.parent is None or (self.op is not None and self.op.label is not None):
            return self
        return self.parent.function


class Scopes:
    """The tree of scopes of a program's roots, and every node's home in it."""

    def __init__(self, roots: Sequence[Node]) -> None:
        self.root = Scope(None, None, 0)
        self.home: dict[Node, Scope] = {}
        self.bodies: dict[Node, Scope] = {}
        self._formals: dict[Node, Scope] = {}
        self._stacks: dict[str, Scope] = {"": self.root}
        self._open = self.root
        self._place(roots)

    def _place(self, roots: Sequence[Node]) -> None:
        for node in walk(roots, self.home):
            if isinstance(node.op, Loop):
                self._enter(node)
            home = self._home(node)
            self.home[node] = home
            home.nodes.append(node)

    def _home(self, node: Node) -> Scope:
        if isinstance(node.op, Formal):
            return self._formals[node]
        if isinstance(node.op, Param):
            return self._stacks[node.op.path.rpartition("[*].")[0]] if "[*]." in node.op.path else self.root
        if isinstance(node.op, Loop | Dropout):
            return self._open
        return max((self.home[arg] for arg in node.args), key=lambda scope: scope.depth, default=self.root)

    def _enter(self, node: Node) -> None:
        """A loop stands where it is written; what is in it moves out as far as it can."""
        op = node.op
        assert isinstance(op, Loop)
        around = self._open
        scope = self.bodies[node] = Scope(node, around, around.depth + 1)
        for formal in op.formals:
            self._formals[formal] = scope
        if op.label is not None:
            self._stacks[op.path.removesuffix("[*]")] = scope
        self._open = scope
        self._place([*op.formals, *op.results])
        self._open = around
