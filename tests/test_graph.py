"""What `mptc graph` draws: boxes, folded stacks, what is held fixed, ties and contexts; and that a spec cannot write the drawing's own syntax."""

from __future__ import annotations

import re
import stat
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from shutil import which
from typing import Any

import pytest
from click.testing import CliRunner

from mptc.cli import main
from mptc.graph import Edge, Graph, Style
from mptc.graph.build import graph
from mptc.graph.dot import dot, quoted
from mptc.graph.mermaid import escaped, mermaid
from mptc.graph.text import text
from mptc.model.resolve import resolve
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source
from tests.golden import SPECS

ROOT = Path(__file__).parent.parent
LEGAL = [ROOT / f"tests/model/legal/{name}.mpt" for name in ("embeddings", "memory", "small", "experts")]

FRAME = """
use "lib/std.mpt"
use "lib/cem.mpt"
dim vocab = 12
dim d = 6
dim head = 2
dim key = 4
dim hidden = 8
dim rank = 2
dim kv = 1
dim group = 2
model m {{
  input tokens: id[vocab]
  param embed: [vocab, d]
  x = lookup(embed, tokens)
  {body}
}}
"""


def drawn(source: Source) -> Graph:
    diagnostics = Diagnostics()
    model = resolve(source, {}, None, diagnostics)
    assert model is not None, diagnostics.found
    return graph(model)


def of(body: str) -> Graph:
    return drawn(Source(str(ROOT / "specs/drawn.mpt"), FRAME.format(body=body)))


def edges(found: Graph, style: Style) -> set[tuple[str, str, tuple[str, ...]]]:
    """Of one kind, by the labels of what they join."""
    label = {box.number: box.label for box in found.boxes}
    return {(label[edge.source], label[edge.target], edge.labels) for edge in found.edges if edge.style is style}


# -- what is drawn ---------------------------------------------------------------------------------------


def test_folded() -> None:
    """A stack and the repeat in it are boxes around one body each; what is carried goes round."""
    found = of("stack 12 as layers { repeat 3 { x <- x + swiglu(x) } }\n  output y = x")
    assert [(group.title, group.parent) for group in found.groups] == [("stack 12 as layers", None), ("repeat 3", 1)]
    [call] = [box for box in found.boxes if box.label == "swiglu"]
    assert call.group == 2
    assert edges(found, Style.NEXT) == {("x <- (x + swiglu)", "x", ("next copy",)), ("x <- (x + swiglu)", "x", ("next pass",))}
    assert ("x <- (x + swiglu)", "output y: [d] = y", ()) in edges(found, Style.FLOW)


def test_held_fixed() -> None:
    """The conditions of a derivative, and what is stopped; not the conditions of an energy's value."""
    found = of("c = past(rmsnorm(x) as context)\n  y = x - grad interaction(x | c) as step\n  output z = y + stop(y)")
    assert edges(found, Style.HELD) == {
        ("rmsnorm as context", "grad interaction as step", ("past", "held fixed")),
        ("y = (x - step)", "z = (y + stop(y))", ("stop",)),
    }
    value = of("e = interaction(x | past(x)) as energy\n  output z = x + e")
    assert not edges(value, Style.HELD)
    assert ("x = lookup[vocab](embed, tokens)", "e = interaction as energy", ("past",)) in edges(value, Style.FLOW)


def test_contexts() -> None:
    found = of("y = attention_to(x, only(window(x, 4), past(tokens) == tokens)) as seen\n  output z = y")
    flow = edges(found, Style.FLOW)
    assert ("x = lookup[vocab](embed, tokens)", "y = attention_to as seen", ("window 4", "only")) in flow
    assert ("input tokens: id[vocab]", "y = attention_to as seen", ("past", "only where")) in flow


def test_ties() -> None:
    """Of parameters, of calls, inside one call, and calls of one shared set."""
    body = """param readout: [vocab, d]
  stack 2 as layers {
    x <- x + swiglu(rmsnorm(x) as before)
    tie swiglu.W_gate = swiglu.W_up
  }
  tie readout = embed
  share both: rmsnorm
  output z = readout @ both(both(x))"""
    assert edges(of(body), Style.TIE) == {
        ("swiglu", "swiglu", ("swiglu.W_gate = swiglu.W_up",)),
        ("param readout: [vocab, d]", "param embed: [vocab, d]", ("readout = embed",)),
        ("share both: rmsnorm", "both", ("shared",)),
    }


def test_a_value_that_is_only_looked_at_is_no_box() -> None:
    found = of("c = past(x)\n  k = c\n  output z = attention_to(x, k) as last")
    assert not [box for box in found.boxes if box.label.startswith(("c =", "k ="))]
    assert ("x = lookup[vocab](embed, tokens)", "z = attention_to as last", ("past",)) in edges(found, Style.FLOW)


@pytest.mark.parametrize("spec", [*SPECS, *LEGAL], ids=lambda spec: spec.stem)
def test_every_spec(spec: Path) -> None:
    """Every box is reached from an input or a parameter, or is one; in text each stands once, and every format has every edge."""
    found = drawn(Source.read(spec))
    numbers = {box.number for box in found.boxes}
    assert all({edge.source, edge.target} <= numbers for edge in found.edges)
    targets = {edge.target for edge in found.edges}
    assert all(box.number in targets or box.kind.value in ("input", "parameter", "share", "value") for box in found.boxes)
    lines = text(found).splitlines()
    assert all(sum(line.strip().startswith(f"{box.number}  {box.label[:20]}") for line in lines) == 1 for box in found.boxes)
    assert all(any(line.strip() == group.title for line in lines) for group in found.groups)
    chart, graphviz = mermaid(found), dot(found)
    assert len(re.findall(r"(?m)^  n\d+ (?:-->|-\.->|==>|---)", chart)) == len(re.findall(r"(?m)^  n\d+ -> n\d+", graphviz)) == len(found.edges)
    assert len(re.findall(r"(?m)^ +subgraph g", chart)) == len(re.findall(r"(?m)^ +end$", chart)) == len(found.groups)
    assert graphviz.count("subgraph cluster_") == len(found.groups)
    assert graphviz.count("{") == graphviz.count("}")


# -- labels are text -------------------------------------------------------------------------------------

NASTY = 'a"]; click n1 "javascript:x" <b>&amp; \\N \\" %%{init}%% `c` #quot; | end\nn1 --> n2'


def test_mermaid_labels_end_nothing() -> None:
    assert re.fullmatch(r"(?:[A-Za-z0-9_ ]|#\d+;)*", escaped(NASTY))
    assert "".join(chr(int(part[1:-1])) if part.startswith("#") else part for part in re.findall(r"#\d+;|[^#]", escaped(NASTY))) == NASTY


def test_dot_labels_end_nothing() -> None:
    shown = quoted(NASTY)
    assert re.fullmatch(r'"(?:[^"\\\n]|\\.)*"', shown)
    assert shown[1:-1].replace("\\\\", "\0").replace('\\"', '"').replace("\0", "\\").replace("&amp;", "&") == NASTY.replace("\n", " ")


def test_styles() -> None:
    """Ties are dashed, held edges dotted, in both languages."""
    found = of("tie swiglu.W_gate = swiglu.W_up\n  h = stop(x)\n  output z = swiglu(h)")
    lines = dot(found).splitlines()
    assert sum("style=dashed, dir=none" in line for line in lines) == sum("style=dotted" in line for line in lines) == 1
    order = [edge.style for edge in found.edges]
    assert f"linkStyle {order.index(Style.TIE)} stroke-dasharray:8 4" in mermaid(found)
    assert f"linkStyle {order.index(Style.HELD)} stroke-dasharray:2 3" in mermaid(found)
    assert Edge(1, 2) == Edge(1, 2, Style.FLOW, ())


# -- the command -----------------------------------------------------------------------------------------

Run = Callable[..., Any]
SPEC = ROOT / "specs/cem_small.mpt"


@pytest.fixture
def run() -> Run:
    return lambda *arguments: CliRunner().invoke(main, ["graph", *map(str, arguments)])


def test_command(run: Run, tmp_path: Path) -> None:
    assert "  stack 2 as layers\n" in run(SPEC, "--variant", "tiny").stdout
    assert "  stack 3 as layers\n" in run(SPEC, "--set", "depth=3").stdout
    assert run(SPEC, "--format", "mermaid", "-o", tmp_path / "out.mmd").stdout == ""
    assert (tmp_path / "out.mmd").read_text().startswith("flowchart TD\n")


def test_svg_needs_graphviz(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    failed = run(SPEC, "--format", "svg")
    assert failed.exit_code == 1
    assert "apt install graphviz" in failed.stderr
    assert "--format mermaid" in failed.stderr


@pytest.mark.parametrize(("script", "code", "said"), [("cat", 0, "digraph"), ("echo no >&2; exit 3", 1, "did not draw the graph: no")])
def test_svg_is_what_dot_says(script: str, code: int, said: str, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program = tmp_path / "dot"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    result = run(SPEC, "--format", "svg")
    assert result.exit_code == code
    assert said in result.output


@pytest.mark.skipif(which("dot") is None, reason="graphviz is not installed")
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.stem)
def test_graphviz_draws_it(spec: Path, run: Run) -> None:
    picture = ET.fromstring(run(spec, "--format", "svg").stdout)
    assert picture.tag.endswith("svg")


MISTAKES = {
    "no file": (("nowhere.mpt",), "nowhere.mpt:1:1: error[E0205]"),
    "a name": ((SPEC, "--set", "width=3"), "error[E"),
    "a variant": ((SPEC, "--variant", "huge"), "error[E"),
    "no model": ((ROOT / "specs/lib/std.mpt",), "there is no model in this file"),
    "no folder": ((SPEC, "-o", "/nowhere/at/all"), "cannot write this file"),
    "no format": ((SPEC, "--format", "png"), "'png' is not one of"),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(arguments: tuple[object, ...], message: str, run: Run) -> None:
    failed = run(*arguments)
    assert failed.exit_code in (1, 2)
    assert message in failed.stderr
    assert isinstance(failed.exception, SystemExit)
