"""How a spec becomes code: equations, what each stage made of a line, which scores are fused and why others are not, the lines that come out."""

from __future__ import annotations

import difflib
import html
import itertools
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from mptc.compile import NOTHING, torch_text
from mptc.derive import Derived, derive
from mptc.derive.explain import Derivation, derivations, section
from mptc.derive.fused import scores
from mptc.ir.listing import listing
from mptc.ir.program import Program
from mptc.passes import PASSES, applied
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source, Span

STAGES = ("build", "canonical", "derive", *(each.name for each in PASSES))
DOES = {
    "build": "what was written",
    "canonical": "energies differentiated, products flattened and ordered, equal values made one",
    "derive": "products planned in pairs, the cheapest first; attention, linear maps and norms recognised",
    **{each.name: each.does for each in PASSES},
}


@dataclass(frozen=True)
class Trace:
    """`programs`: what each of `STAGES` made."""

    derived: Derived
    programs: Mapping[str, Program]

    @cached_property
    def text(self) -> str:
        """The generated module."""
        return torch_text(self.derived)

    def page(self, stage: str) -> str:
        return listing(self.programs[stage])


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
    for each in PASSES:
        program, _ = applied(program, (each,))
        programs[each.name] = program
    return Trace(derived, programs)


# -- for the terminal --------------------------------------------------------------------------------------


def explained(found: Trace, line: int | None) -> str:
    """All energies of a spec, or what became of one of its lines."""
    source = found.derived.program.span.source

    def asked(*spans: Span) -> bool:
        return line is None or any(span.source.path == source.path and span.line == line for span in spans)

    parts = [section(one, number) for number, one in _numbered(found.derived) if asked(one.energy.used, one.energy.declared)]
    fused = [f"{score.used}: {score.says}" for score in scores(found.derived) if asked(score.used)]
    parts += ["scores\n" + "\n".join(f"  {each}" for each in dict.fromkeys(fused)) + "\n"] if fused else []
    if line is not None:
        parts += list(_stages(found, source, line))
    parts += [text for text in (_generated(found, source, line),) if text]
    nothing = f"{source.name} takes no step down an energy, and has no softmax over tokens that are seen"
    return "\n".join(parts) or (f"{nothing}\n" if line is None else f"no value that is computed stands on {source.name}:{line}\n")


def _numbered(derived: Derived) -> Iterator[tuple[int, Derivation]]:
    number = 1
    for one in derivations(derived):
        yield number, one
        number += 3 if one.layer else 2


def _stages(found: Trace, source: Source, line: int) -> Iterator[str]:
    """What each stage has on a line, where that is not what the one before had."""
    beside = re.compile(rf"#.*\b{re.escape(source.name)}:{line}$")
    before: list[str] = []
    for stage in STAGES:
        lines = [text.strip() for text in found.page(stage).splitlines() if beside.search(text)]
        if lines and [_bare(text) for text in lines] != before:
            yield f"after {stage} ({DOES[stage]})\n" + "\n".join(f"  {text}" for text in lines) + "\n"
        before = [_bare(text) for text in lines] or before


def _bare(text: str) -> str:
    """Without the numbers of nodes, which are other ones in each stage."""
    return re.sub(r"%\d+|\s+", " ", text)


def _generated(found: Trace, source: Source, line: int | None) -> str:
    """The lines of the module that come from a line of the spec: those that say so, with what stands above them and comes from no other line."""
    if line is None:
        return ""
    place = re.compile(rf"  {re.escape(source.name)}:(\d+)$")
    chosen: list[str] = []
    above: list[str] = []
    decoding = False
    for text in found.text.splitlines():
        decoding = bool(re.search(r" def _?decode", text)) or (decoding and " def " not in text)
        said = None if decoding else place.search(text)
        starts = re.match(r"\s*(def|class) |\s*return\b|\s*$", text)
        above = [] if starts or (said and int(said[1]) != line) else [*above, text]
        if said and int(said[1]) == line:
            chosen += above
            above = []
    methods = {name for text in chosen for name in re.findall(r"by_rows\(self\.(\w+),", text)}
    parts = [chosen, *(_method(found.text.splitlines(), name) for name in sorted(methods))]
    return "generated\n" + "\n".join(textwrap.indent(textwrap.dedent("\n".join(part)), "  ") + "\n" for part in parts) if chosen else ""


def _method(lines: list[str], name: str) -> list[str]:
    start = next(place for place, text in enumerate(lines) if text.lstrip().startswith(f"def {name}("))
    return list(itertools.takewhile(str.strip, lines[start:]))


# -- as a page --------------------------------------------------------------------------------------------

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font-family: sans-serif; margin: 2em; }}
table.diff {{ font-family: monospace; font-size: 12px; border-collapse: collapse; }}
table.diff td {{ padding: 0 0.5em; white-space: pre; }}
.diff_add {{ background: #d4f5d4; }} .diff_chg {{ background: #fff3bf; }} .diff_sub {{ background: #f9d3d3; }} .diff_header {{ color: #888; }}
pre {{ font-size: 12px; }}
</style></head><body>
<h1>{title}</h1>
{body}
</body></html>
"""


def page(found: Trace) -> str:
    """One HTML page: what each stage did, as differences of the listings, and the module at the end."""
    differ = difflib.HtmlDiff(tabsize=2)
    parts = [f"<h2>build</h2><p>{html.escape(DOES['build'])}</p><pre>{html.escape(found.page('build'))}</pre>"]
    for before, after in itertools.pairwise(STAGES):
        old, new = (found.page(stage).splitlines() for stage in (before, after))
        table = differ.make_table(old, new, before, after, context=True, numlines=1)
        parts.append(f"<h2>{after}</h2><p>{html.escape(DOES[after])}</p>{table}")
    parts.append(f"<h2>{html.escape(found.derived.program.name)}.py</h2><pre>{html.escape(found.text)}</pre>")
    return PAGE.format(title=html.escape(f"{found.derived.program.name}, stage by stage"), body="\n".join(parts))
