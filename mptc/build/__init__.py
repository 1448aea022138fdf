"""Typed model → raw IR: call sites inlined, contexts as views, reductions with their masks."""

from __future__ import annotations

from mptc.build.body import Body, Ledger, Unlowered
from mptc.build.functions import loss_of
from mptc.build.ids import Partitions
from mptc.build.memories import memories_of
from mptc.build.padding import seen_unmasked
from mptc.build.ties import Joins
from mptc.ir.axis import Sizes
from mptc.ir.program import Program
from mptc.model import tree
from mptc.source.diagnostic import Diagnostics


def build(model: tree.Model, diagnostics: Diagnostics) -> Program | None:
    """The model as raw IR; None, and one diagnostic, where it says what is not lowered yet."""
    joins = Joins(model)
    ledger = Ledger(Sizes(model.sizes), Partitions(model.partitions, model.sizes), joins.moved)
    try:
        Body(ledger, watched=ledger.watched).run(model.body)
        joins.complete(ledger)
        memories = memories_of(ledger, model)
    except Unlowered as missing:
        diagnostics.add("E0901", missing.span, f"{missing.construct} is not lowered yet", help="the spec is well formed; `mptc check` accepts it")
        return None
    return Program(
        name=model.name,
        causal=model.causal,
        sizes=ledger.sizes,
        inputs=tuple(ledger.inputs),
        parameters=joins.frozen(ledger.parameters.values()),
        outputs=tuple(ledger.outputs),
        loss=loss_of([*ledger.losses, *ledger.penalties]),
        probes=ledger.probes,
        span=model.span,
        names=ledger.names,
        spans=ledger.spans,
        energies=tuple(ledger.energies),
        ties=joins.ties,
        copies=ledger.copies,
        memories=memories,
        unmasked=seen_unmasked(ledger.inputs, [output.node for output in ledger.outputs], memories),
    )
