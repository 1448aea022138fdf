"""What bodies add beside their value: penalties to the loss, probes to look at. What stands in a loop is gathered from every pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mptc.ir.axis import BATCH, SEQ, Axis
from mptc.ir.node import Node, substitute
from mptc.ir.program import Probe
from mptc.model.tree import Per, Shape
from mptc.ops.contract import summed, total
from mptc.ops.region import Loop, gathered, passes_of


@dataclass(frozen=True)
class Watched:
    """A penalty's mean, or a probe's value under its `name`. `stacks`, `repeats`: the axes of the passes around it so far, outermost first."""

    node: Node
    name: str | None = None
    axes: tuple[Axis, ...] = ()
    stacks: tuple[Axis, ...] = ()
    repeats: tuple[Axis, ...] = ()

    @property
    def label(self) -> str:
        return "penalty" if self.name is None else self.name.rpartition(".")[2]

    def probe(self, name: str) -> Probe:
        return Probe(name, self.node, (*self.stacks, *self.repeats, *self.axes))


def probe(name: str, node: Node, shape: Shape, axes: tuple[Axis, ...]) -> Watched:
    """`[batch, seq, *axes]`, without what the value has one of for all."""
    front = {Per.TOKEN: (BATCH, SEQ), Per.SEQUENCE: (BATCH,), Per.CONSTANT: ()}[shape.per]
    return Watched(node, name, (*front, *axes))


def outside(watched: Sequence[Watched], loop: Node) -> list[Watched]:
    """What a loop's body watches, as seen from around the loop: a penalty is the sum over passes, a probe has them as an axis."""
    found = []
    for index, one in enumerate(watched):
        node = gathered(loop, index, one.label)
        passes = passes_of(node)
        if one.name is None:
            found.append(replace(one, node=summed([node], [passes])))
        elif isinstance(loop.op, Loop) and loop.op.label is not None:
            found.append(replace(one, node=node, stacks=(passes, *one.stacks)))
        else:
            found.append(replace(one, node=node, repeats=(passes, *one.repeats)))
    return found


def together(watched: Sequence[Watched]) -> list[Watched]:
    """All penalties as one."""
    penalties = [one.node for one in watched if one.name is None]
    probes = [one for one in watched if one.name is not None]
    if len(penalties) > 1:
        penalties = [total(*((1, node) for node in penalties))]
    return [*(Watched(node) for node in penalties), *probes]


def at(watched: Sequence[Watched], values: Mapping[Node, Node]) -> list[Watched]:
    """What an energy watches, on its variables, where those have values."""
    nodes = substitute([one.node for one in watched], values)
    return [replace(one, node=node) for one, node in zip(watched, nodes, strict=True)]
