"""Fused regions as kernels: steps that need row i alone of what they read, forward and back, each row in one pass.

A row is a vector along one dim. What all rows share (a gain, a scale) has its gradient summed by each program over its own rows, and then over
programs: no atomics, the same bits each time. The backward is made of the ops' own gradients, of the graph without the axes that tell rows apart.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mptc.backends.grades import Grade
from mptc.backends.torch.names import called
from mptc.backends.torch.site import reordered
from mptc.backends.triton.gated import Gated, gated
from mptc.backends.triton.pairs import Lines, Refused, back, padded
from mptc.ir.axis import BATCH, SEQ, Axis, Role
from mptc.ir.node import Kind, Node, Type, make
from mptc.ops.compare import Extreme, Where
from mptc.ops.contract import Contract, Sum, product
from mptc.ops.elementwise import Map
from mptc.ops.leaf import formal
from mptc.ops.norm import GainedRms, Rms, Rstd
from mptc.ops.region import Result
from mptc.passes.fuse import Region

if TYPE_CHECKING:
    from mptc.backends.torch.function import Function
    from mptc.backends.triton import Kernels
    from mptc.passes.scopes import Scope

WIDEST = 8192
TAKEN = (Sum, Map, Extreme, Where, Contract, Rms, Rstd)


@dataclass(frozen=True)
class Given:
    """What a region reads. `kind`: `vector` (numbers along the row), `scalar` (one for each row), `shared` (the same for all rows)."""

    node: Node
    kind: str
    name: str
    formal: Node


@dataclass(eq=False)
class Together:
    """A region that a kernel takes. `width`: of the axis `along` which a row's numbers lie."""

    kernels: Kernels
    region: Region
    along: Axis
    width: int
    given: list[Given] = field(default_factory=list)
    known: dict[Node, Node] = field(default_factory=dict)

    @property
    def nodes(self) -> tuple[Node, ...]:
        return self.region.nodes

    @property
    def outputs(self) -> tuple[Node, ...]:
        return self.region.outputs

    @property
    def reads(self) -> tuple[Node, ...]:
        return tuple(each.node for each in self.given)

    # -- the graph of one row --------------------------------------------------------------------------

    def build(self, function: Function) -> None:
        """The region's steps for one row. Raises `Refused`."""
        inside = set(self.region.nodes)
        for node in self.region.nodes:
            for arg in node.args:
                if arg not in inside and arg not in self.known:
                    self.known[arg] = self._read(arg, function)
            self.known[node] = self._step(node)
        if not any(each.kind == "vector" for each in self.given):
            raise Refused("no row of numbers goes in")

    def _read(self, node: Node, function: Function) -> Node:
        if isinstance(node.op, Contract) and not node.args:
            return node
        if node.type.kind is Kind.ID or function.layout.grade(node) is not Grade.NUMBER:
            raise Refused("it reads what is no number of the model's dtype")
        if not set(node.axes) <= {BATCH, SEQ, self.along}:
            raise Refused("it reads what has other axes")
        wide = self.along in node.axes
        tokens = [axis for axis in node.axes if axis != self.along]
        if not tokens and not wide:
            raise Refused("it reads a learned number")
        kind = ("vector" if wide else "scalar") if tokens else "shared"
        name = f"x{len(self.given)}"
        each = make(formal(f"{name}_tile", Type((self.along,) if wide else ())))
        self.given.append(Given(node, kind, name, each))
        return each

    def _step(self, node: Node) -> Node:
        if not isinstance(node.op, TAKEN):
            raise Refused(f"no kernel of rows has a {node.op.name}")
        args = [self.known[arg] for arg in node.args]
        if isinstance(node.op, GainedRms):
            return product(make(Rms(node.op.over, node.op.eps), args[0]), args[1])
        if not isinstance(node.op, Contract):
            return make(node.op, *args)
        space = node.op.label_axes(arg.type for arg in node.args)
        operands = []
        for operand, arg in zip(node.op.operands, node.args, strict=True):
            labels = tuple(label for label in operand.labels if space[label] == self.along)
            if len(labels) > 1 or any(isinstance(label, int) and space[label] != self.along for label in operand.labels):
                raise Refused("it sums another axis")
            operands.append(type(operand)(labels if self.along in self.known[arg].axes else (), operand.power))
        return make(Contract(node.op.coef, tuple(operands)), *args)

    # -- the kernel ------------------------------------------------------------------------------------

    def described(self) -> dict[str, object]:
        """What the template says. Raises `Refused`."""
        lines = Lines(self.kernels.sizes, rows=True)
        outputs = [lines.value(self.known[node]) for node in self.outputs]
        forward = list(lines.lines)
        flows = [make(formal(f"dy{index}_tile", self.known[node].type)) for index, node in enumerate(self.outputs)]
        adjoints = back(zip([self.known[node] for node in self.outputs], flows, strict=True))
        learned = [(each, lines.value(adjoints[each.formal]) if each.formal in adjoints else "0.0 * dy0_tile") for each in self.given]
        names = [each.name for each in self.given]
        return {
            "width": self.width,
            "padded": padded(self.width),
            "given": [{"name": each.name, "kind": each.kind} for each in self.given],
            "outputs": [{"name": f"y{index}", "value": value, "wide": self.along in self.outputs[index].axes} for index, value in enumerate(outputs)],
            "forward": forward,
            "backward": lines.lines[len(forward) :],
            "learned": [{"name": each.name, "kind": each.kind, "adjoint": adjoint} for each, adjoint in learned],
            "typed": ", ".join(f"{name}: Tensor" for name in names),
            "whole": ", ".join(names),
            "results": ", ".join(_result(each, index) for index, each in enumerate(self.given)),
            "first": next(each.name for each in self.given if each.kind == "vector"),
            "vectors": [each.name for each in self.given if each.kind == "vector"],
        }

    def call(self, function: Function) -> tuple[str, str]:
        """When it computes the region, and the call: each value [batch, tokens, …], of the one order that rows lie in."""
        name = self.kernels.row_kernel(self.described(), self.width)
        self.kernels.regional.append((name, self))
        own = called(function.module.program, "kernels")
        shape = f"({function.provide('batch')}, {function.provide('seq')})"
        given = []
        for each in self.given:
            code, order = function.code(each.node), function.layout.order(each.node)
            if each.kind != "shared":
                wanted = (*(axis if axis in order else None for axis in (BATCH, SEQ)), *((self.along,) if self.along in order else ()))
                code = reordered(code, order, wanted)
            given.append(code)
        test = ", ".join(function.code(each.node) for each in self.given if each.kind == "vector")
        call = f"{own}.{name}({shape}, {', '.join(given)})"
        results = [reordered("each", self.laid(node), function.layout.order(node)) for node in self.outputs]
        if any(code != "each" for code in results):
            raise Refused("its results lie otherwise")
        return f'{own}.takes("{name}", {test})', call if len(self.outputs) > 1 else f"{call}[0]"

    def laid(self, node: Node) -> tuple[Axis, ...]:
        return (BATCH, SEQ, *((self.along,) if self.along in node.axes else ()))


def _result(each: Given, index: int) -> str:
    """What a backward gives for a thing that was read; of what rows share, what programs have is added up."""
    return f"found[{index}].sum(0).to({each.name}.dtype)" if each.kind == "shared" else f"found[{index}]"


Group = Together | Gated


# -- where they stand ----------------------------------------------------------------------------------


def arranged(kernels: Kernels, function: Function, scope: Scope) -> list[Node | Group]:
    """The steps of a scope, and in place of a region that a kernel takes the region, where all it reads is there and nothing has read it."""
    found: list[Node | Group] = list(scope.nodes)
    for node in scope.nodes:
        try:
            tied = gated(kernels, function, node)
            if _named(function, tied):
                found = _placed(found, function, scope, tied)
        except Refused:
            continue
    for region in kernels.regions:
        if len(region.nodes) < 2 or function.plan.scopes.home.get(region.nodes[0]) is not scope:
            continue
        try:
            group = _taken(kernels, function, region)
            found = _placed(found, function, scope, group)
        except Refused:
            continue
    return found


def _named(function: Function, group: Gated) -> bool:
    """Whether what a map reads and gives have names; if not, they will when the module is written again."""
    for node in (group.out, group.x):
        function.plan.crowd_in(node)
    return group.out in function.plan.assigned


def _taken(kernels: Kernels, function: Function, region: Region) -> Together:
    dims = [axis for axis in region.order if axis.role is Role.DIM]
    if len(dims) != 1 or set(region.order) - set(dims) != {BATCH, SEQ}:
        raise Refused("its rows are not those of tokens, or of several axes")
    (along,) = dims
    width = kernels.sizes[Axis(along.role, along.name)]
    if width > WIDEST or function.module.needs.of(region.nodes[0]) != function.module.needs.of(region.nodes[-1]):
        raise Refused("its rows are too wide, or not always computed")
    if any("output" not in function.module.needs.of(node) or not {BATCH, SEQ} <= set(node.axes) for node in region.outputs):
        raise Refused("it is not always computed")
    group = Together(kernels, region, along, width)
    group.build(function)
    group.described()
    for node in region.outputs:
        if group.laid(node) != function.layout.order(node):
            raise Refused("its results lie otherwise")
        function.plan.crowd_in(node)
    for each in group.given:
        if each.kind == "vector":
            function.plan.crowd_in(each.node)
    if not all(node in function.plan.assigned for node in region.outputs):
        raise Refused("its results have no names yet")
    return group


def _placed(found: list[Node | Group], function: Function, scope: Scope, group: Group) -> list[Node | Group]:
    inside = set(group.nodes)
    place = {node: index for index, each in enumerate(found) for node in ((each,) if isinstance(each, Node) else each.nodes)}
    ready = max((place[node] for node in _needed(group) if node in place), default=-1)
    read = min((place[node] for node in _readers(group, function, scope) if node in place), default=len(found))
    if ready >= read or any(node not in place or not isinstance(found[place[node]], Node) for node in inside):
        raise Refused("what it reads is made of what reads it")
    after = [each for index, each in enumerate(found) if index > ready and each not in inside]
    before = [each for index, each in enumerate(found) if index <= ready and each not in inside]
    return [*before, group, *after]


def _needed(group: Group) -> Iterator[Node]:
    """What must have been computed: values that have lines, and those without, with what they are made of."""
    pending = list(group.reads)
    done: set[Node] = set()
    while pending:
        node = pending.pop()
        if node not in done:
            done.add(node)
            yield node
            pending += node.args
            if isinstance(node.op, Result):
                yield node.args[0]


def _readers(group: Group, function: Function, scope: Scope) -> Iterator[Node]:
    """What of this scope reads the region: a step, or a loop in which one does."""
    inside = set(group.nodes)
    for node in group.nodes:
        for user, home in function.plan.uses.get(node, []):
            if user in inside:
                continue
            yield user
            around = home
            while around is not scope and around.parent is not None:
                if around.loop is not None:
                    yield around.loop
                around = around.parent


