"""The lines of one generated function: which values get a line, what they are called, and what the line says."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field

from mptc.backends.layout import Layout
from mptc.backends.torch.names import Names
from mptc.backends.torch.site import TorchSite
from mptc.ir.axis import SEQ, Axis
from mptc.ir.node import Node
from mptc.ops.chosen import Among, Nothing
from mptc.ops.contract import Contract
from mptc.ops.kept import Place, after_parameter
from mptc.ops.leaf import Formal, Input, Length, Mask, Param, Position
from mptc.ops.reduce import Lse, Softmax
from mptc.ops.region import Gathered, Loop, Result, Rows, Some
from mptc.ops.rotary import Rope
from mptc.ops.routed import Pairs, Routed, Take, Tokens
from mptc.ops.stream import Stream
from mptc.passes.scopes import Scope, Scopes
from mptc.source.text import Span

HEAVY = 5  # operations on one line
WIDTH = 112  # characters of an expression
ROLES: list[tuple[type, str]] = [(Stream, "o"), (Softmax, "weights"), (Lse, "lse"), (Mask, "mask"), (Place, "places"), (Rope, "rotated")]
ROLES += [(Among, "best"), (Tokens, "chosen"), (Pairs, "pairs")]
LEAVES = (Param, Input, Formal, Some, Result, Gathered, Position, Length, Nothing)


def is_leaf(node: Node) -> bool:
    if isinstance(node.op, Place):
        return node.op.axis == SEQ
    return isinstance(node.op, LEAVES) or (isinstance(node.op, Contract) and not node.args)


def is_rename(node: Node) -> bool:
    """A view or a rename: nothing is written for it."""
    op = node.op
    return isinstance(op, Contract) and len(node.args) == 1 and not op.bound and op.operands[0].power == 1 and str(op.coef) == "1"


def seen_through(node: Node) -> Node:
    """What is renamed or viewed."""
    while is_rename(node):
        (node,) = node.args
    return node


@dataclass
class Plan:
    """What gets a line of its own, for all functions of a module. `results` do; `roots`, which outputs, the loss and probes read, need not."""

    scopes: Scopes
    names: Mapping[Node, str]
    results: set[Node]
    roots: set[Node]
    uses: dict[Node, list[tuple[Node, Scope]]] = field(default_factory=dict)
    assigned: set[Node] = field(default_factory=set)
    weight: dict[Node, int] = field(default_factory=dict)
    crowded: set[Node] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.roots = {seen_through(root) for root in self.roots}
        for node, home in self.scopes.home.items():
            for arg in node.args if not is_rename(node) else ():
                self._use(arg, node, home)
        for region, body in self.scopes.bodies.items():
            for root in region.op.interior.roots if region.op.interior else ():
                self._use(root, region, body)
        for node in self.scopes.home:
            self._decide(node)

    def _use(self, node: Node, user: Node, scope: Scope) -> None:
        """What uses a rename uses what is renamed."""
        self.uses.setdefault(seen_through(node), []).append((user, scope))

    def _decide(self, node: Node) -> None:
        """A line for what the spec names, what is used twice or further in, what is heavy."""
        if is_leaf(node) or isinstance(node.op, Loop | Rows):
            self.weight[node] = 0
            return
        uses = self.uses.get(node, [])
        home = self.scopes.home[node]
        inner = any(scope is not home and scope.depth > home.depth for _, scope in uses)
        weight = (0 if is_rename(node) else 1) + sum(0 if arg in self.assigned else self.weight[arg] for arg in node.args)
        own = node in self.names or node in self.results or isinstance(node.op, Stream | Softmax | Mask)
        if not is_rename(node) and (own or inner or len(uses) > 1 or weight > HEAVY):
            self.assigned.add(node)
        self.weight[node] = weight

    def crowd_in(self, node: Node) -> None:
        """A value that is read in two ways gets a line of its own, when the module is written again."""
        node = seen_through(node)
        if not is_leaf(node):
            self.crowded.add(node)

    def line_of(self, node: Node) -> list[Node]:
        """A value that has a line, and those without one that the line computes."""
        parts = [node]
        pending = list(node.args)
        while pending:
            part = pending.pop()
            if part not in self.assigned and not is_leaf(part) and not isinstance(part.op, Loop | Rows):
                parts.append(part)
                pending.extend(part.args)
        return parts

    def crowd(self, node: Node) -> None:
        """A line too long: its heaviest part gets a line of its own, when the module is written again."""
        parts = [part for part in self.line_of(node) if part is not node and not is_rename(part)]
        heavy = [part for part in parts if self.weight[part] < self.weight[node]]
        if heavy:
            self.crowded.add(max(heavy, key=lambda part: (self.weight[part] * 2 <= self.weight[node] + 1, self.weight[part])))


class Writer(ABC):
    """Writes the scopes that belong to one function."""

    def __init__(self, plan: Plan, layout: Layout, sizes: Mapping[Axis, int], names: Names, comments: Comments) -> None:
        self.plan, self.layout, self.sizes, self.names, self.comments = plan, layout, sizes, names, comments
        self.text: dict[Node, str] = {}
        self.left: dict[Node, int] = {}
        self.there: set[Node] = set()  # large values of lines that are always run

    # -- what the module provides ----------------------------------------------------------------------

    @abstractmethod
    def provide(self, name: str) -> str:
        """What a facet asks its site for."""

    @abstractmethod
    def parameter_text(self, node: Node) -> str:
        """A parameter where it is read."""

    # -- expressions ----------------------------------------------------------------------------------

    def code(self, node: Node) -> str:
        """The text of a value where it is used: its name, or its expression."""
        if node in self.text:
            return self.text[node]
        if isinstance(node.op, Param):
            return self.parameter_text(node)
        if is_rename(node):
            return self.code(node.args[0])
        return self.expression(node)

    def expression(self, node: Node) -> str:
        given = tuple((self.code(arg), self.layout.order(arg)) for arg in node.args)
        return str(node.op.torch(TorchSite(node, self.sizes, self.layout.arrangement(node), given, self.provide, self.layout.grade)))

    # -- lines ----------------------------------------------------------------------------------------

    def hint(self, node: Node) -> str:
        if node in self.plan.names:
            return self.plan.names[node]
        role = next((role for kind, role in ROLES if isinstance(node.op, kind)), None)
        if role is not None:
            return role
        if isinstance(node.op, Some):
            place = "there" if node.op.seen else "here"
            return place if isinstance(seen_through(node.op.of).op, Position) else self.hint(seen_through(node.op.of))
        if isinstance(node.op, Take | Routed):
            return f"{self.hint(seen_through(node.args[0]))}_{node.op.along.name}"
        if isinstance(node.op, Result) and isinstance(node.args[0].op, Rows):
            return self.hint(node.args[0].op.results[node.op.index])
        return after_parameter(node) or ("step" if node in self.comments.steps else "value")

    def assign(self, node: Node) -> str:
        code = self.expression(node)
        if len(code) > WIDTH:
            self.plan.crowd(node)
        self.spend(node)
        name = self.names.take(self.hint(node))
        self.text[node] = name
        return f"{name} = {code}"

    def spend(self, node: Node) -> None:
        """A name whose last reader this line is may be taken again, by this very line too."""
        for reader in self._readers(node):
            self.left[reader] = self.left.get(reader, self._count(reader)) - 1
            if self.left[reader] == 0 and not self._lasting(reader):
                self.names.release(self.text[reader], reader in self.there)

    def _lasting(self, node: Node) -> bool:
        """Read inside a loop further in, which comes round again."""
        home = self.plan.scopes.home[node]
        return any(scope.depth > home.depth for _, scope in self.plan.uses.get(node, []))

    def _readers(self, node: Node) -> list[Node]:
        """The named values that the line of a node reads."""
        found: list[Node] = []
        pending = list(node.args)
        while pending:
            arg = pending.pop()
            if arg in self.text:
                if arg not in found:
                    found.append(arg)
            else:
                pending.extend(arg.args)
        return found

    def _count(self, node: Node) -> int:
        """How many lines read a named value."""
        readers: set[Node] = set()
        pending = [user for user, _ in self.plan.uses.get(node, [])]
        while pending:
            user = pending.pop()
            own = user in self.plan.assigned or isinstance(user.op, Loop | Rows)
            if own or user in self.plan.roots:
                readers.add(user)
            if not own:
                pending.extend(other for other, _ in self.plan.uses.get(user, []))
        return len(readers) + (node in self.plan.roots | self.plan.results)


@dataclass
class Comments:
    """What stands beside the code: the axes of each value, and the equation and place where a layer begins."""

    layers: Mapping[Node, list[str]]
    steps: set[Node]
    spans: Mapping[Node, Span]
    said: set[int] = field(default_factory=set)

    def before(self, node: Node) -> list[str]:
        lines = self.layers.get(node)
        if lines is None or id(lines) in self.said:
            return []
        self.said.add(id(lines))
        return [f"# {line}" for line in lines]


def beside(code: str, order: tuple[Axis, ...], place: str = "") -> str:
    """A line and, after a tab, what stands beside it: `aligned` puts that in a column."""
    return f"{code}\t# [{', '.join(map(str, order))}]{'  ' + place if place else ''}"


def aligned(lines: list[str], column: int = 92) -> list[str]:
    """Comments in one column, or further out where a line is longer."""
    result = []
    for line in lines:
        code, tab, note = line.partition("\t")
        result.append(f"{code.ljust(column)}  {note}" if tab else line)
    return result
