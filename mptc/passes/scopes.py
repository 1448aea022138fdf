"""Where each value is computed: as far out as what it depends on allows. Hoisting out of `repeat` and `stack` is dependency, not a pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mptc.ir.node import Node
from mptc.ops.chance import Dropout
from mptc.ops.leaf import Formal, Param
from mptc.ops.region import Loop, Rows, Some, everything


@dataclass(eq=False)
class Scope:
    """The body of the model, of a loop, or of what is computed by rows.

    `nodes`: what is computed in it, arguments first; a loop among them is its own scope inside.
    """

    loop: Node | None
    parent: Scope | None
    depth: int
    nodes: list[Node] = field(default_factory=list)

    @property
    def op(self) -> Loop | None:
        return self.loop.op if self.loop is not None and isinstance(self.loop.op, Loop) else None

    @property
    def function(self) -> Scope:
        """The scope whose generated function this one's lines stand in: a stack's copy, what is computed by rows, or the model."""
        if self.parent is None or (self.op is not None and self.op.label is not None) or (self.loop is not None and isinstance(self.loop.op, Rows)):
            return self
        return self.parent.function


Key = int  # what makes a value change from pass to pass: a loop's variable, or the copies of a stack


class Scopes:
    """The tree of scopes of a program's roots, and every node's home in it."""

    def __init__(self, roots: Sequence[Node]) -> None:
        self.root = Scope(None, None, 0)
        self.home: dict[Node, Scope] = {}
        self.bodies: dict[Node, Scope] = {}
        self._needs: dict[Node, frozenset[Key]] = {}
        self._loops: dict[Key, Node] = {}
        order = list(everything(roots))
        for node in order:
            self._needs[node] = self._changes(node)
        for node in order:
            home = self.home[node] = self._deepest(node)
            home.nodes.append(node)
            if isinstance(node.op, Loop | Rows):
                self._body(node)

    def _changes(self, node: Node) -> frozenset[Key]:
        """What a value changes with. A loop as a whole does not change with its own variables."""
        inherited = frozenset[Key]().union(*(self._needs[arg] for arg in node.args))
        match node.op:
            case Formal(key=key) | Some(key=key):
                return frozenset({key})
            case Param(stacks=stacks):
                return frozenset(stacks)
            case Dropout(inside=key) if key is not None:
                return inherited | {key}
            case Loop() | Rows():
                inside = frozenset[Key]().union(*(self._needs[root] for root in node.op.interior.roots))
                keys = {formal.op.key for formal in node.op.formals if isinstance(formal.op, Formal | Some)}
                keys |= set(node.op.stacks[-1:]) if isinstance(node.op, Loop) and node.op.label is not None else set()
                self._loops.update(dict.fromkeys(keys, node))
                return (inherited | inside) - keys
        return inherited

    def _body(self, loop: Node) -> Scope:
        if loop not in self.bodies:
            around = self._deepest(loop)
            self.bodies[loop] = Scope(loop, around, around.depth + 1)
        return self.bodies[loop]

    def _deepest(self, node: Node) -> Scope:
        """A value stands as far out as what it changes with allows."""
        scopes = [self._body(self._loops[key]) for key in self._needs[node]]
        return max(scopes, key=lambda scope: scope.depth, default=self.root)
