"""How a spec becomes code, stage by stage: what each made of it, and which line of the module computes which value."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from mptc.compile import NOTHING, torch_text
from mptc.derive import Derived, derive
from mptc.ir.listing import listing
from mptc.ir.node import Node
from mptc.ir.program import Program
from mptc.ir.region import inside
from mptc.ops.region import Rows, everything
from mptc.passes import PASSES, applied, fuse
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source, Span

STAGES = ("build", "canonical", "derive", *(each.name for each in PASSES), "fuse")
DOES = {
    "build": "what was written",
    "canonical": "energies differentiated, products flattened and ordered, equal values made one",
    "derive": "products planned in pairs, the cheapest first; attention, linear maps and norms recognised",
    **{each.name: each.does for each in PASSES},
    "fuse": "which steps one kernel could compute row by row; these targets compute them one after the other",
}
MARK = "@"  # in the place of a file, one that generated text may say


@dataclass(frozen=True)
class Trace:
    """`programs`: what each of `STAGES` made. `became`: for each pass, what it and those before it have made of the planned values."""

    derived: Derived
    programs: Mapping[str, Program]
    became: Mapping[str, Mapping[Node, Node]]

    @cached_property
    def text(self) -> str:
        """The generated module."""
        return torch_text(self.derived)

    @cached_property
    def lines(self) -> list[tuple[str, Node | None]]:
        """Those of the module, each with the planned value that it computes: what they say of places is made to say that."""
        nodes = list(everything(self.derived.program.roots))
        spans = {node: Span(Source(f"{MARK}{place}", ""), 0, 0) for place, node in enumerate(nodes)}
        marked = torch_text(replace(self.derived, program=replace(self.derived.program, spans=spans))).splitlines()
        found = [re.search(rf"  {MARK}(\d+):\d+$", line) for line in marked]
        return [(line, nodes[int(mark[1])] if mark else None) for line, mark in zip(self.text.splitlines(), found, strict=True)]

    def page(self, stage: str) -> str:
        return fuse.listed(self.programs[stage]) if stage == "fuse" else listing(self.programs[stage])

    def marks(self, stage: str) -> Mapping[Node, str]:
        """What a stage says of values beside what they are."""
        return fuse.marks(self.programs[stage]) if stage == "fuse" else {}

    def after(self, stage: str, nodes: set[Node]) -> set[Node]:
        """What some planned values are after a pass: with the regions that they, or what is made of them there, stand in."""
        became = self.became[stage]
        found = {became.get(node, node) for node in nodes}
        for region in everything(self.programs[stage].roots):
            if isinstance(region.op, Rows):
                own = inside(region)
                found |= {region, *own} if found & own else set()
        return found


def trace(source: Source, diagnostics: Diagnostics, settings: Mapping[str, str] = NOTHING, variant: str | None = None) -> Trace | None:
    """None where `diagnostics` has errors, or the file no model."""
    from mptc.build import build
    from mptc.model.resolve import resolve

    model = resolve(source, settings, variant, diagnostics)
    raw = None if model is None else build(model, diagnostics)
    if raw is None:
        return None
    derived = derive(raw)
    programs = {"build": raw, "canonical": derived.canonical, "derive": derived.program}
    program = derived.program
    moved: Mapping[Node, Node] = {}
    became: dict[str, Mapping[Node, Node]] = {}
    for each in PASSES:
        program, new = applied(program, (each,))
        moved = {**new, **{node: new.get(other, other) for node, other in moved.items()}}
        programs[each.name], became[each.name] = program, moved
    programs["fuse"], became["fuse"] = program, moved
    return Trace(derived, programs, became)
