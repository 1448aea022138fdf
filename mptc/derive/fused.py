"""Which scores fused attention takes, and what keeps others from it, in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mptc.derive import Derived, steps_of
from mptc.derive.attention import Sight, askers, bilinear
from mptc.derive.equation import Equations
from mptc.derive.pairs import place_of, stored
from mptc.derive.plan import Planner
from mptc.ir.axis import SEQ, Role
from mptc.ir.node import Node
from mptc.ops.reduce import Softmax
from mptc.ops.region import everything
from mptc.ops.stream import Stream
from mptc.source.text import Span


@dataclass(frozen=True)
class Score:
    """`used`: where the spec makes the weights, `label`: in which energy, `equation`: what they are.

    `says`: what computes them and, where that is not fused attention, why not; where they are stored, also why not by rows.
    """

    used: Span
    label: str
    equation: str
    says: tuple[str, ...]
    node: Node

    def __str__(self) -> str:
        return f"{self.used}{f' {self.label}' if self.label else ''}: {self.equation}" + "".join(f"\n    {each}" for each in self.says)


def scores(derived: Derived) -> list[Score]:
    """In the order in which they are computed."""
    found = []
    whole = stored(derived)
    labels = {node: energy.label for energy in reversed(derived.program.energies) for node in steps_of(derived, energy)}
    names = {node: name for node, name in derived.program.names.items() if not isinstance(node.op, Stream | Softmax)}
    refused = dict(_refused(derived))
    for node in everything(derived.program.roots):
        if isinstance(node.op, Stream):
            says: tuple[str, ...] = (_fused(node.op),)
        elif isinstance(node.op, Softmax) and sum(axis.role in (Role.TOKEN, Role.CONTEXT) for axis in node.axes) > 1:
            says = ("computed by rows, in memory linear in length",)
            if node in whole:
                says = ("stored for all pairs of tokens", f"not by rows: {whole[node]}")
            says += (f"no fused attention: {refused.get(node, 'its values are none of the tokens seen')}",)
        else:
            continue
        found.append(Score(place_of(derived, node), labels.get(node, ""), Equations(names).of(node), says, node))
    return found


def _fused(op: Stream) -> str:
    beside = [word for word, there in (("causal", op.causal), ("with a bias", op.biased), ("masked", op.masked)) if there]
    by_rows = "; bias and mask by rows" if (op.biased or op.masked) and op.asker == SEQ else ""
    return f"fused attention over {op.over}, bilinear in {', '.join(map(str, op.inner))}{''.join(f', {word}' for word in beside)}{by_rows}"


def _refused(derived: Derived) -> Iterator[tuple[Node, str]]:
    """Planned weights, and what keeps them from fused attention."""
    planner = Planner(derived.calculus)
    planner.materialise(derived.canonical.roots)
    for node in everything(derived.canonical.roots):
        if isinstance(node.op, Softmax) and node in derived.planned:
            yield derived.planned[node], _reason(planner, node)


def _reason(planner: Planner, weights: Node) -> str:
    op = weights.op
    assert isinstance(op, Softmax)
    if len(op.over) != 1:
        return f"its softmax is over {', '.join(map(str, op.over))} together"
    if weights in planner.materialised:
        return "its weights are used otherwise than to sum what is seen"
    (over,) = op.over
    sights = [Sight(asker, over) for asker in askers(weights, over)]
    if not any(bilinear(planner, weights.args[0], sight) for sight in sights):
        return "no term of its score is a sum of products of what the two tokens have"
    return "what it sums belongs to pairs too, or heads and widths do not line up as fused attention has them"
