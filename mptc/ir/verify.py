"""Is a graph well formed? Asked after every stage, so that a fault is found where it is made, not where it shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from mptc.ir.axis import BATCH, SEQ, Axis, Role
from mptc.ir.node import Interior, Node
from mptc.ir.program import Program

Stage = Literal["build", "derive", "passes"]


class Malformed(Exception):
    """A graph that no stage should have made: an error of the compiler's, not of the spec's."""


def verify(program: Program, stage: Stage) -> None:
    """Raises `Malformed` with the first fault found. `stage` is the one that made the program; takes time linear in the graph."""
    check = _Check(program, stage)
    check.graph([*program.inputs, *program.roots], ())
    check.surface()


@dataclass(eq=False)
class _Open:
    """The inside of an op, and how deep it stands."""

    interior: Interior
    depth: int


@dataclass
class _Check:
    program: Program
    stage: Stage
    innermost: dict[Node, _Open | None] = field(default_factory=dict)  # what a node's value depends on: it may be read only in there
    owner: dict[Node, _Open] = field(default_factory=dict)  # variables
    reads: list[_Open] = field(default_factory=list)  # for every edge, what its value depends on

    def fail(self, node: Node, message: str) -> None:
        name = self.program.names.get(node)
        raise Malformed(f"after {self.stage}: {node!r}{f' ({name})' if name else ''}: {message}")

    # -- the graph --------------------------------------------------------------------------------------

    def graph(self, roots: Sequence[Node], around: tuple[_Open, ...]) -> None:
        """Every node once; one that is known already is only asked whether it may be read here."""
        pending = [(root, False) for root in reversed(roots)]
        while pending:
            node, ready = pending.pop()
            if node in self.innermost:
                self._readable(node, around)
            elif ready:
                self._node(node, around)
            else:
                pending.append((node, True))
                pending.extend((arg, False) for arg in reversed(node.args))

    def _readable(self, node: Node, around: tuple[_Open, ...]) -> None:
        home = self.innermost[node]
        if home is not None and (len(around) < home.depth or around[home.depth - 1] is not home):
            self.fail(node, "is read outside the region whose variables it depends on")

    def _node(self, node: Node, around: tuple[_Open, ...]) -> None:
        self._type(node)
        fault = node.op.fault(node, self.program.sizes)
        if fault is not None:
            self.fail(node, fault)
        if self.stage != "build" and not node.op.derived:
            self.fail(node, "should have gone when energies were differentiated")
        interior = node.op.interior
        inner = None if interior is None else self._inside(interior, around)
        homes = [home for home in [*(self.innermost[arg] for arg in node.args), inner, self._own(node, around)] if home is not None]
        self.reads += homes
        self.innermost[node] = max(homes, key=lambda home: home.depth, default=None)
        self._readable(node, around)

    def _own(self, node: Node, around: tuple[_Open, ...]) -> _Open | None:
        """The region whose variable, or whose own parameter, a leaf is."""
        path = node.op.parameter
        if node in self.owner:
            return self.owner[node]
        if path is None or "[*]." not in path:
            return None
        prefix = path.rpartition("[*].")[0] + "[*]."
        found = next((region for region in around if region.interior.path == prefix), None)
        if found is None:
            self.fail(node, f"reads the parameter {path} outside its stack")
        return found

    def _inside(self, interior: Interior, around: tuple[_Open, ...]) -> _Open | None:
        """Walks an op's own graph; returns the innermost region around it that the graph depends on."""
        region = _Open(interior, len(around) + 1)
        for formal in interior.formals:
            if formal in self.owner:
                self.fail(formal, "is a variable of two regions")
            self.owner[formal] = region
        before = len(self.reads)
        self.graph([*interior.formals, *interior.roots], (*around, region))
        roots = [self.innermost[root] for root in interior.roots]
        reads = [home for home in [*self.reads[before:], *roots] if home is not None and home.depth <= len(around)]
        return max(reads, key=lambda home: home.depth, default=None)

    def _type(self, node: Node) -> None:
        try:
            inferred = node.op.infer(*(arg.type for arg in node.args))
        except (AssertionError, ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            raise Malformed(f"after {self.stage}: {node!r} does not fit its arguments {[str(arg.type) for arg in node.args]}: {error}") from error
        if (inferred.axes, inferred.kind) != (node.type.axes, node.type.kind):
            self.fail(node, f"says {node.type}, but its arguments make {inferred}")
        self._known(node, node.axes)

    def _known(self, node: Node, axes: Iterable[Axis]) -> None:
        for axis in axes:
            if axis.role is Role.DIM and Axis(axis.role, axis.name) not in self.program.sizes:
                self.fail(node, f"axis {axis} has no size")

    # -- what the program says of it --------------------------------------------------------------------

    def surface(self) -> None:
        known = {parameter.path: set(parameter.axes) for parameter in self.program.parameters}
        for tie in self.program.ties:
            if tie.path.stem not in known or known.get(tie.path.stem) != known.get(tie.home.stem):
                raise Malformed(f"after {self.stage}: {tie.path} and {tie.home} are tied, and are not two parameters with the same axes")
        given = {node.op for node in self.program.inputs}
        kinds = {type(op) for op in given}
        for node in self.innermost:
            path = node.op.parameter
            if path is not None and path not in known:
                self.fail(node, f"the program has no parameter {path}")
            if type(node.op) in kinds and node.op not in given:
                self.fail(node, "is no input of the program")
        for output in self.program.outputs:
            if not set(output.node.axes) <= {BATCH, SEQ, *output.axes}:
                self.fail(output.node, f"has axes that output {output.name} lacks")
        if self.program.loss is not None and self.program.loss.axes:
            self.fail(self.program.loss, "is the loss, and no scalar")
