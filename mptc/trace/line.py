"""What became of a line of a spec, or of a library that it uses: equations, what each stage made of it, its scores, its code, its cost."""

from __future__ import annotations

import itertools
import re
import textwrap
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass

from mptc.backends.deployment import TooLarge
from mptc.cost import shares
from mptc.cost.report import share
from mptc.derive import steps_of
from mptc.derive.calculus import bare
from mptc.derive.explain import Derivation, derivations, section
from mptc.derive.fused import scores
from mptc.ir.listing import excerpt
from mptc.ir.node import Node, walk
from mptc.ir.program import Energy
from mptc.ops.region import everything
from mptc.source.text import Source, Span
from mptc.trace import DOES, STAGES, Trace

NO_LENGTHS: Mapping[str, int] = {}


@dataclass(frozen=True)
class Place:
    """A line of a file, from 1."""

    source: Source
    line: int

    def __str__(self) -> str:
        return f"{self.source.path}:{self.line}"

    def within(self, span: Span | None) -> bool:
        """Whether a span has characters on it."""
        if span is None or span.source.path != self.source.path:
            return False
        return span.line <= self.line <= self.source.position(max(span.start, span.end - 1))[0]

    def begins(self, span: Span | None) -> bool:
        return span is not None and span.source.path == self.source.path and span.line == self.line


def sources(found: Trace) -> list[Source]:
    """The files that values of a model come from, the spec's own first."""
    program = found.derived.program
    spans = [program.span, *(span for energy in program.energies for span in energy.written), *program.spans.values()]
    return list({span.source.path: span.source for span in spans}.values())


def explained(found: Trace) -> str:
    """All energies of a spec, and all scores."""
    parts = [section(one, number) for number, one in _numbered(found)]
    parts += _scores(found, None)
    name = found.derived.program.span.source.name
    return "\n".join(parts) or f"{name} takes no step down an energy, and has no softmax over tokens that are seen\n"


def explained_line(found: Trace, place: Place, lengths: Mapping[str, int] = NO_LENGTHS) -> str:
    """What became of one line. In an energy's body, and where it is declared, it is what became of the energy, wherever that is used."""
    uses = [(number, one) for number, one in _numbered(found) if place.begins(one.energy.used) or any(map(place.within, one.energy.written))]
    energies = [one.energy for _, one in uses]
    parts = [section(one, number) for number, one in uses]
    own = {node for node, span in found.derived.program.spans.items() if place.begins(span)}
    steps = {energy: steps_of(found.derived, energy) for energy in energies}
    nodes = own.union(*steps.values()) & {*everything(found.derived.program.roots)}
    parts += _scores(found, place, nodes)
    parts += _stages(found, place, energies, nodes)
    parts += _generated(found, nodes)
    parts += _cost(found, own, steps, lengths)
    return "\n".join(parts) or f"no value that is computed stands on {place}\n"


def _numbered(found: Trace) -> Iterator[tuple[int, Derivation]]:
    number = 1
    for one in derivations(found.derived):
        yield number, one
        number += 3 if one.layer else 2


def _scores(found: Trace, place: Place | None, nodes: Container[Node] = ()) -> Iterator[str]:
    """All, or those of a line."""
    chosen = [str(each) for each in scores(found.derived) if place is None or each.node in nodes or place.begins(each.used)]
    if chosen:
        yield "scores\n" + "\n".join(f"  {each}" for each in dict.fromkeys(chosen)) + "\n"


# -- stages ------------------------------------------------------------------------------------------------


def _stages(found: Trace, place: Place, energies: list[Energy], nodes: set[Node]) -> Iterator[str]:
    """What each stage has of a line, where that is not what the one before had."""
    before: list[str] = []
    for stage in STAGES:
        lines = excerpt(found.programs[stage], _at(found, stage, place, energies, nodes), found.marks(stage))
        if lines and [_bare(text) for text in lines] != before:
            yield f"after {stage} ({DOES[stage]})\n" + textwrap.indent(textwrap.dedent("\n".join(lines)), "  ") + "\n"
        before = [_bare(text) for text in lines] or before


def _at(found: Trace, stage: str, place: Place, energies: list[Energy], nodes: set[Node]) -> set[Node]:
    program = found.programs[stage]
    own = {node for node in everything(program.roots) if place.begins(program.spans.get(node, node.span))}
    if stage == "build":
        return own.union(*({energy.step, *everything([energy.value])} for energy in energies))
    if stage == "canonical":
        c = found.derived.calculus
        ends = [(c.canonical(energy.step), {part for arg in map(c.canonical, energy.step.args) for part in (arg, bare(arg))}) for energy in energies]
        return own.union(*({node for node in walk([step], given) if node.args} for step, given in ends))
    return own | (nodes if stage == "derive" else found.after(stage, nodes))


def _bare(text: str) -> str:
    """Without the numbers of nodes, which are other ones in each stage."""
    return re.sub(r"%\d+|\s+", " ", text)


# -- the module --------------------------------------------------------------------------------------------


def _generated(found: Trace, nodes: set[Node]) -> Iterator[str]:
    """The lines that compute some values, each with the comments above it, and functions that are called for rows of them."""
    lines = [text for text, _ in found.lines]
    shown = _computed(found, nodes)
    rows = {place: called[1] for place, text in enumerate(lines) if (called := re.search(r"by_rows\(self\.(\w+),", text))}
    parts: list[list[str]] = []
    for place, name in rows.items():
        method = _method(lines, name)
        if method & shown:
            shown = (shown - method) | {place}
            parts.append([lines[each] for each in sorted(method)])
    for place in sorted(shown):
        above = place - 1
        while lines[above].lstrip().startswith("#") and above not in shown:
            shown.add(above)
            above -= 1
    parts = [[lines[place] for place in sorted(shown)], *({tuple(part): part for part in parts}.values())]
    if shown:
        yield "generated\n" + "\n".join(textwrap.indent(textwrap.dedent("\n".join(part)), "  ") + "\n" for part in parts)


def _computed(found: Trace, nodes: set[Node]) -> set[int]:
    """The lines of forward that compute some values: those of their own, or those of what they are written into."""
    own = {node for _, node in found.lines}
    users: dict[Node, list[Node]] = {}
    for node in everything(found.derived.program.roots):
        for arg in node.args:
            users.setdefault(arg, []).append(node)
    wanted: set[Node] = set()
    pending = [node for node in nodes if node.args]
    while pending:
        node = pending.pop()
        if node in own:
            wanted.add(node)
        else:
            readers = users.get(node, [])
            pending += [reader for reader in readers if reader in nodes] or readers
    decoding, places = False, set()
    for place, (text, value) in enumerate(found.lines):
        decoding = bool(re.search(r" def _?decode", text)) or (decoding and " def " not in text)
        if value in wanted and not decoding:
            places.add(place)
    return places


def _method(lines: list[str], name: str) -> set[int]:
    start = next(place for place, text in enumerate(lines) if text.lstrip().startswith(f"def {name}("))
    return set(range(start, start + len(list(itertools.takewhile(str.strip, lines[start:])))))


# -- cost --------------------------------------------------------------------------------------------------


def _cost(found: Trace, own: set[Node], steps: Mapping[Energy, set[Node]], lengths: Mapping[str, int]) -> Iterator[str]:
    """Of the step of each energy, and of what else is on the line; all copies and passes together."""
    last = STAGES[-1]
    parts: dict[str, set[Node]] = {}
    for energy, nodes in steps.items():
        parts.setdefault(f"{energy.used} {energy.label}", set()).update(found.after(last, nodes))
    rest = {node for node in own if node.args} & {*everything(found.derived.program.roots)}
    parts["this line, beside that" if parts else "this line"] = found.after(last, rest)
    try:
        rows = shares(found.programs[last], parts, lengths)
    except TooLarge:
        yield "cost\n  stacks and repeats, written out, are too many to be counted\n"
        return
    shown = [row for row in rows if row.stored or row.forward.terms or row.moved[0].terms]
    if shown:
        yield "cost, all copies and passes together\n" + "\n".join(f"  {share(row, lengths)}" for row in shown) + "\n"
