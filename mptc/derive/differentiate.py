"""The reverse walk. It knows no op: each says what flows to its arguments, and linear ops are closed under transposition."""

from __future__ import annotations

from mptc.ir.axis import SEQ
from mptc.ir.node import Node, walk
from mptc.ir.number import Monomial
from mptc.ops.contract import number, total


def gradient(energy: Node, variable: Node) -> Node:
    """∂(Σ energy)/∂variable as raw IR; 0 where the energy does not depend on it."""
    order = list(walk([energy]))
    depends: set[Node] = set()
    for node in order:
        if node is variable or any(arg in depends for arg in node.args):
            depends.add(node)
    tokens = Monomial.of(1) if SEQ in energy.axes else Monomial.size(SEQ)  # an energy that is the same for every token counts for each
    flows: dict[Node, list[Node]] = {energy: [number(tokens)]}
    for node in reversed(order):
        arrived = flows.get(node)
        if node not in depends or not arrived:
            continue
        adjoint = arrived[0] if len(arrived) == 1 else total(*((1, flow) for flow in arrived))
        if node is variable:
            return adjoint
        for index, arg in enumerate(node.args):
            if arg in depends:
                flow = node.op.gradient(node, adjoint, index)
                if flow is not None:
                    flows.setdefault(arg, []).append(flow)
    return number(0)
