"""The mathematics: a raw program made canonical, its energies differentiated, its contractions planned."""

from __future__ import annotations

from dataclasses import dataclass, replace

from mptc.derive.calculus import Calculus, bare
from mptc.derive.plan import Planner
from mptc.derive.sums import terms_of
from mptc.ir.node import Node, walk
from mptc.ir.program import Energy, Program


@dataclass(frozen=True)
class Derived:
    """A program of steps, and how it came about: the canonical nodes and the calculus that made them."""

    program: Program
    calculus: Calculus
    canonical: Program
    planned: dict[Node, Node]


def derive(raw: Program) -> Derived:
    """Raw IR → steps."""
    calculus = Calculus(raw.sizes, raw.names, raw.spans, raw.memories)
    canonical = _mapped(raw, {root: calculus.canonical(root) for root in [*raw.inputs, *raw.roots]}, calculus)
    planner = Planner(calculus)
    planner.plan(canonical.roots)
    steps = {root: planner.lower(root) for root in [*canonical.inputs, *canonical.roots]}
    return Derived(_mapped(canonical, steps, calculus), calculus, canonical, planner.planned)


def _mapped(program: Program, new: dict[Node, Node], calculus: Calculus) -> Program:
    return replace(
        program,
        inputs=tuple(new[node] for node in program.inputs),
        outputs=tuple(replace(output, node=new[output.node]) for output in program.outputs),
        loss=None if program.loss is None else new[program.loss],
        probes=tuple(replace(probe, node=new[probe.node]) for probe in program.probes),
        names=calculus.names,
        spans=calculus.spans,
    )


def step_of(derived: Derived, energy: Energy) -> Node | None:
    """The planned node where the step of an energy ends, without the number in front; None where it was folded into something else."""
    step = derived.calculus.canonical(energy.step)
    terms = terms_of(derived.calculus, step)
    candidates = [step, *(node for _, node in terms if len(terms) == 1)]
    return next((derived.planned[node] for node in candidates if node in derived.planned), None)


def steps_of(derived: Derived, energy: Energy) -> set[Node]:
    """The planned nodes of an energy's step, from what it is taken at on; where it was added into something else, those of its terms."""
    c, planned = derived.calculus, derived.planned
    given = {planned[each] for arg in map(c.canonical, energy.step.args) for each in (arg, bare(arg)) if each in planned}
    step = c.canonical(energy.step)
    ends = [planned[node] for node in (step, *(node for _, node in terms_of(c, step))) if node in planned]
    return {node for node in walk(ends, given) if node.args}
