"""Which steps one kernel can compute row by row: chains of element-wise ops, broadcasts, looked-up rows and reductions along a row's own dims.

An analysis, not a rewriting: it says what a backend may take whole. A matrix product, a rotation, an attention, a loop stand between regions, and so
does whatever puts a token's place in the order to use. Regions are as large as can be: each is computed without a pause (what leaves it does not come
back), and no two that touch could be one. The graph stays one without cycles when every region is made a single step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from mptc.ir.axis import Axis, Role
from mptc.ir.listing import listing, numbered
from mptc.ir.node import Node, axes_of
from mptc.ir.program import Program
from mptc.ops.choose import Entry, Lookup, TypeOf
from mptc.ops.compare import Compare, Extreme, Where
from mptc.ops.contract import Contract, Sum
from mptc.ops.contract_text import is_constant
from mptc.ops.elementwise import Map
from mptc.ops.mixture import Mixture
from mptc.ops.norm import Rms, Rstd
from mptc.ops.reduce import Lse, Max, Softmax
from mptc.ops.region import Loop, Rows, everything
from mptc.passes.asked import Asked, Needs
from mptc.passes.scopes import Scopes

ELEMENTWISE = (Sum, Map, Compare, Extreme, Where, TypeOf)
ALONG = (Softmax, Lse, Max, Rms, Rstd)


@dataclass(frozen=True, eq=False)
class Region:
    """Steps of one scope, computed for the same purposes. `nodes`: arguments first. `outputs`: those that are read outside, or are the program's."""

    nodes: tuple[Node, ...]
    outputs: tuple[Node, ...]

    @cached_property
    def inputs(self) -> tuple[Node, ...]:
        """What the nodes read that is none of them, numbers excepted: values of tokens, parameters, and what is made of parameters alone."""
        inside = set(self.nodes)
        read = (arg for node in self.nodes for arg in node.args if arg not in inside and (arg.axes or arg.args or arg.op.parameter))
        return tuple(dict.fromkeys(read))

    @cached_property
    def reduced(self) -> tuple[Axis, ...]:
        """The axes of a row that some node reduces."""
        return axes_of(axis for node in self.nodes for axis in reduced(node))

    @cached_property
    def rows(self) -> tuple[Axis, ...]:
        """The axes that tell rows apart: each index of them is computed alone, and nothing twice but what all of a sequence's tokens share."""
        return axes_of(axis for axis in self._space if axis.role is not Role.DIM or self._in_all(axis))

    @cached_property
    def order(self) -> tuple[Axis, ...]:
        """The one memory order of the region's values, each without the axes that it lacks: rows, then what is in one, reduced axes last."""
        within = [axis for axis in self._space if axis not in self.rows]
        return (*self.rows, *sorted(within, key=lambda axis: axis in self.reduced))

    @cached_property
    def saved(self) -> tuple[Node, ...]:
        """The inputs, other than what is made of parameters, that the backward needs if it computes the rest of the region again."""
        inside, found, done = set(self.nodes), dict[Node, None](), set[Node]()
        pending = [arg for node in reversed(self.nodes) for arg in reversed(_kept(node))]
        while pending:
            node = pending.pop()
            if node not in done:
                done.add(node)
                if node in inside:
                    pending += node.args
                elif node in self.inputs and not is_constant(node):
                    found[node] = None
        return tuple(found)

    @cached_property
    def _space(self) -> tuple[Axis, ...]:
        return axes_of(axis for node in self.nodes for axis in (*node.axes, *reduced(node)))

    def _in_all(self, axis: Axis) -> bool:
        return axis not in self.reduced and all(axis in node.axes for node in self.nodes)


def regions(program: Program) -> list[Region]:
    """Every region of a planned program, in the order in which they are first begun; steps alone are regions too."""
    return list(_Partition(program).regions())


# -- what a region may hold ------------------------------------------------------------------------------


def fits(node: Node) -> bool:
    """Whether row i of a step needs row i alone of what it reads, and one pass over it."""
    op = node.op
    if not _tokens(node):  # a number, or made of parameters: computed once, not in every row
        return False
    if isinstance(op, Contract):
        return _is_row_product(node, op)
    if isinstance(op, Lookup | Entry | Mixture):
        table = node.args[1 if isinstance(op, Mixture) else 0]
        return is_constant(table) and all(axis.role is Role.DIM for axis in (op.axis, *reduced(node)))
    return isinstance(op, ELEMENTWISE) or (isinstance(op, ALONG) and all(axis.role is Role.DIM for axis in op.over))


def reduced(node: Node) -> tuple[Axis, ...]:
    """The axes that a step reduces; those of a norm or a softmax, which its value has again, as well."""
    op = node.op
    if isinstance(op, Contract):
        summed = op.label_axes(arg.type for arg in node.args)
        return axes_of(axis for label, axis in summed.items() if isinstance(label, int))
    return op.over if isinstance(op, (*ALONG, Mixture)) else ()


def _is_row_product(node: Node, op: Contract) -> bool:
    """Element by element, or a sum over dims of which one operand has all. A matrix product has more points than operands; views are of others."""
    space = op.label_axes(arg.type for arg in node.args)
    for arg, operand in zip(node.args, op.operands, strict=True):
        if len(set(operand.labels)) < len(operand.labels) or any(space[label] != axis for label, axis in zip(operand.labels, arg.axes, strict=True)):
            return False
    if any(space[label].role is not Role.DIM for label in op.bound):
        return False
    return not op.bound or any(set(operand.labels) == set(space) for operand in op.operands)


def _kept(node: Node) -> tuple[Node, ...]:
    """The arguments whose values the derivative of a step has."""
    op = node.op
    if isinstance(op, Sum | Compare | TypeOf):
        return ()
    if isinstance(op, Contract):
        return node.args if len(node.args) > 1 or op.operands[0].power != 1 else ()
    if isinstance(op, Lookup | Entry):
        return node.args[1:]
    return node.args[:1] if isinstance(op, Where) else node.args


def _tokens(node: Node) -> set[Axis]:
    return {axis for axis in node.axes if axis.role is not Role.DIM}


# -- the partition ---------------------------------------------------------------------------------------


class _Partition:
    """Starts from steps alone and joins what touches, until nothing more may be joined."""

    def __init__(self, program: Program) -> None:
        self.order = list(everything(program.roots))
        self.users: dict[Node, list[Node]] = {node: [] for node in self.order}
        for node in self.order:
            for below in (*node.args, *(node.op.interior.roots if isinstance(node.op, Loop | Rows) else ())):
                self.users[below].append(node)
        self.asked_for = set(program.roots)
        self.part: dict[Node, frozenset[Node]] = {node: frozenset({node}) for node in self.order if fits(node)}
        needs, home = Needs(program), Scopes(program.roots).home
        self.place = {node: (home[node], _always(needs.of(node))) for node in self.part}

    def regions(self) -> Iterator[Region]:
        edges = [(arg, node) for node in self.part for arg in node.args if arg in self.part and self.place[arg] == self.place[node]]
        while any([self._joined(*edge) for edge in edges]):  # joined once, others may be: what stood between is inside
            pass
        members: dict[frozenset[Node], list[Node]] = {}
        for node, part in self.part.items():
            members.setdefault(part, []).append(node)
        for part, nodes in members.items():
            yield Region(tuple(nodes), tuple(node for node in nodes if self._leaves(node, part)))

    def _joined(self, below: Node, above: Node) -> bool:
        """Joins the regions of a step and of one that reads it; whether it did."""
        first, second = self.part[below], self.part[above]
        if first is second or not self._even(first | second) or self._around(first, second):
            return False
        both = first | second
        self.part.update(dict.fromkeys(both, both))
        return True

    def _leaves(self, node: Node, part: frozenset[Node]) -> bool:
        return node in self.asked_for or any(user not in part for user in self.users[node])

    def _even(self, part: frozenset[Node]) -> bool:
        """Whether all have the same rows, or are the same for a sequence's tokens, cheap to compute again for each, and read here alone."""
        rows = set[Axis]().union(*map(_tokens, part))
        thin = [node for node in part if _tokens(node) != rows]
        if thin and any(axis.role is Role.CONTEXT for axis in rows):
            return False
        return not any(reduced(node) or self._leaves(node, part) for node in thin)

    def _around(self, first: frozenset[Node], second: frozenset[Node]) -> bool:
        """Whether something that is in neither needs the first, and the second it; a region is one step of the way."""
        seen = set(first)
        pending = [user for node in first for user in self.users[node] if user not in second]
        while pending:
            node = pending.pop()
            if node in second:
                return True
            if node not in seen:
                whole = self.part.get(node, frozenset({node}))
                seen |= whole
                pending += [user for each in whole for user in self.users[each]]
        return False


def _always(asked: Asked) -> Asked:
    """What outputs need is always computed, whatever else needs it."""
    return asked & {"output"} or asked


# -- for people ------------------------------------------------------------------------------------------


def listed(program: Program) -> str:
    """The listing with the regions of more than one step marked, and below it what goes in and out of each."""
    called = numbered(program)
    lines = [_described(region, number, called) for number, region in enumerate(_several(program))]
    return listing(program, marks=marks(program)) + "".join(f"  {line}\n" for line in lines)


def marks(program: Program) -> dict[Node, str]:
    """Which region a step is of, where that has others."""
    return {node: f"region {number}" for number, region in enumerate(_several(program)) for node in region.nodes}


def _several(program: Program) -> list[Region]:
    return [region for region in regions(program) if len(region.nodes) > 1]


def _described(region: Region, number: int, called: Mapping[Node, str]) -> str:
    def values(several: Iterable[Node]) -> str:
        return ", ".join(called[node] for node in several) or "nothing"

    rows, along = (", ".join(map(str, axes)) for axes in (region.rows, region.order[len(region.rows) :]))
    within = f" of [{along}]" if along else ""
    flow = f"{values(region.inputs)} → {values(region.outputs)}"
    return f"region {number} = {flow} : rows [{rows}]{within}, backward saves {values(region.saved)}"
