"""A program made anew, node by node, the bodies of loops included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from mptc.ir.node import Node, make, rebuilt
from mptc.ir.program import Program
from mptc.ops.region import Loop


class Remaker:
    """`new`: what nodes have become. A rewriting says what becomes of a node (`made`) once what it needs is there."""

    def __init__(self) -> None:
        self.new: dict[Node, Node] = {}

    def of(self, root: Node) -> Node:
        """What a node has become; without recursion."""
        pending = [(root, False)]
        while pending:
            node, ready = pending.pop()
            if node in self.new:
                continue
            if ready:
                self.new[node] = self.made(node)
            else:
                pending += [(node, True), *((each, False) for each in self.needed(node))]
        return self.new[root]

    def needed(self, node: Node) -> Iterator[Node]:
        yield from node.args
        if isinstance(node.op, Loop):
            yield from (*node.op.formals, *node.op.results, *node.op.watched)

    def made(self, node: Node) -> Node:
        args, op = tuple(self.new[arg] for arg in node.args), node.op
        if not isinstance(op, Loop):
            return rebuilt(node, args)
        results, watched = (tuple(self.new[each] for each in several) for several in (op.results, op.watched))
        if (args, results, watched) == (node.args, op.results, op.watched):
            return node
        return make(replace(op, results=results, watched=watched), *args, span=node.span)


def remade(program: Program, remaker: Remaker) -> tuple[Program, Mapping[Node, Node]]:
    """The program, and what each of its nodes has become."""
    new = {node: remaker.of(node) for node in [*program.inputs, *program.roots]}
    made = replace(
        program,
        inputs=tuple(new[node] for node in program.inputs),
        outputs=tuple(replace(output, node=new[output.node]) for output in program.outputs),
        loss=None if program.loss is None else new[program.loss],
        probes=tuple(replace(probe, node=new[probe.node]) for probe in program.probes),
    )
    return made, remaker.new
