"""`mptc explain SPEC[:LINE]`, `--emit ir --after STAGE`, and the page of differences."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mptc.cost.polynomial import total
from mptc.trace import STAGES
from tests.conftest import ROOT, Shell
from tests.golden import SPECS

CEM = ROOT / "specs/cem_small.mpt"
STEP = next(number for number, line in enumerate(CEM.read_text().splitlines(), 1) if "grad interaction" in line)

SCORES = """
dim d = 4
energy e(x: [d] | c: [d]) {{
  k = past(c)
  {energy}
}}
model m {{
  input x: [d]
  output y = x - grad e(x | x)
}}
"""


def test_a_line_from_its_equation_to_its_code(mptc: Shell) -> None:
    said = mptc("explain", f"{CEM}:{STEP}", "--variant", "tiny").stdout
    wanted = ["E_i = ", "−∂E/∂x_i = ", "fused attention over ctx, bilinear in key, causal", "after build", "after derive", "generated"]
    assert [text for text in wanted if text not in said] == []
    code = said[said.index("generated") :]
    assert "F.scaled_dot_product_attention(q, k, k, is_causal=True)" in code
    assert "cache.keep" not in code and "F.silu" not in code


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.stem)
def test_every_spec_has_equations_or_says_so(spec: Path) -> None:
    from mptc.source.diagnostic import Diagnostics
    from mptc.source.text import Source
    from mptc.trace import trace
    from mptc.trace.line import explained
    from mptc.trace.page import page

    found = trace(Source.read(spec), Diagnostics(), variant="tiny")
    assert found is not None
    said = explained(found)
    assert "fused attention" in said
    for one in found.derived.program.energies:
        assert str(one.used) in said
    whole = page(found)
    Balanced().feed(whole)
    assert whole.count('<table class="diff"') == len(STAGES) - 1


@pytest.mark.parametrize(
    ("energy", "reason"),
    [
        ("minimize -logsumexp[ctx](tanh(sum[d](x * k)))", "no term of its score is a sum of products of what the two tokens have"),
        ("s = sum[d](x * k)\n  minimize -sum[ctx](softmax[ctx](s) * s * s)", "what it sums belongs to pairs too"),
    ],
)
def test_why_a_score_is_not_fused(energy: str, reason: str, mptc: Shell, tmp_path: Path) -> None:
    (tmp_path / "m.mpt").write_text(SCORES.format(energy=energy))
    said = mptc("explain", "m.mpt").stdout
    assert f"    computed by rows, in memory linear in length\n    no fused attention: {reason}" in said


def test_rows_are_shown_with_the_line_that_asks_for_them(mptc: Shell, tmp_path: Path) -> None:
    (tmp_path / "m.mpt").write_text(SCORES.format(energy="minimize -logsumexp[ctx](tanh(sum[d](x * k)))"))
    said = mptc("explain", "m.mpt:9").stdout
    assert "def rows(self, " in said and "torch.softmax(" in said[said.index("def rows") :]
    stage = said[said.index("after rows") : said.index("generated")]
    assert "= rows(" in stage and "= softmax[ctx](" in stage and "some rows" in stage
    assert "rows(" in mptc("compile", "m.mpt", "--emit", "ir", "--after", "rows").stdout
    assert "rows(" not in mptc("compile", "m.mpt", "--emit", "ir", "--after", "derive").stdout
    assert "grad e(" in mptc("compile", "m.mpt", "--emit", "ir", "--after", "build").stdout


TWO = """
dim d = 4
energy e(x: [d] | c: [d]) {
  k = past(c)
  near = sum[d](x * k)
  minimize -logsumexp[ctx](near) - logsumexp[ctx](tanh(near))
}
model m {
  input x: [d]
  y = x - grad e(x | x)
  z = y - grad e(tanh(y) | x)
  output z = z
}
"""


@pytest.mark.parametrize("line", [3, 4, 5, 6])
def test_a_line_of_an_energy_stands_for_every_use(line: int, mptc: Shell, tmp_path: Path) -> None:
    (tmp_path / "m.mpt").write_text(TWO)
    said = mptc("explain", f"m.mpt:{line}").stdout
    assert [said.count(each) for each in ("used at m.mpt:10 as e", "used at m.mpt:11 as e", "−∂E/∂x_i = ")] == [1, 1, 2]
    assert all(f"after {stage} (" in said for stage in ("build", "canonical", "derive", "rows"))
    code = said[said.index("generated") : said.index("cost")]
    assert code.count("def rows") == 2 and "m.mpt:10" in code and "m.mpt:11" in code
    first = mptc("explain", "m.mpt:10").stdout
    assert first.count("def rows") == 1 and "m.mpt:11" not in first
    cost = said[said.index("cost") :]
    assert all(f"  m.mpt:{place} e: 0 parameters\n    FLOPs of products: 16·batch·seq² forward" in cost for place in (10, 11))


def test_scores_of_one_line_are_told_apart(mptc: Shell, tmp_path: Path) -> None:
    (tmp_path / "m.mpt").write_text(TWO)
    said = mptc("explain", "m.mpt:10").stdout
    listed = said[said.index("scores") : said.index("after build")]
    assert re.findall(r"m.mpt:10 e: (.*)\n +(\w+)", listed) == [
        ("softmax_j≤i(near_ij)", "computed"),
        ("softmax_j≤i(tanh(near_ij))", "computed"),
    ]


def test_a_line_of_a_library(mptc: Shell) -> None:
    wanted = ["used at ", "softmax_j≤i(q_i·k_j / √key) k_j", "lse[ctx]", "stream[ctx, key"]
    wanted += ["F.scaled_dot_product_attention(q, k, k", "layers[*].interaction: "]
    for line in ("lib/cem.mpt:6", "cem.mpt:11", str(ROOT / "specs/lib/cem.mpt:9")):
        said = mptc("explain", CEM, "--line", line, "--variant", "tiny").stdout
        assert [text for text in wanted if text not in said] == [], line
    assert mptc("explain", CEM, "--line", str(STEP)).stdout == mptc("explain", f"{CEM}:{STEP}").stdout


@pytest.mark.parametrize("name", ["cem_small", "energy_transformer", "cem_dlr"])
def test_the_cost_of_an_energy_is_that_of_its_products(name: str) -> None:
    """What `mptc cost` says of its call site, wherever nothing else reads parameters of that."""
    from mptc.cost import cost, shares
    from mptc.derive import steps_of
    from mptc.source.diagnostic import Diagnostics
    from mptc.source.text import Source
    from mptc.trace import trace

    found = trace(Source.read(ROOT / f"specs/{name}.mpt"), Diagnostics(), variant="tiny")
    assert found is not None
    parts = {energy.label: found.after("rows", steps_of(found.derived, energy)) for energy in found.derived.program.energies}
    for lengths in ({}, {"batch": 2, "seq": 100}, {"batch": 2, "seq": 300}):
        whole = cost(found.derived.program, "", lengths)
        for row in shares(found.programs["rows"], parts, lengths):
            like = [each for each in whole.rows if each.name == row.name or each.name.startswith(f"{row.name}.")]
            assert row.forward.terms or row.forward.value
            assert row.forward == total(each.forward for each in like)
            assert row.backward == total(each.backward for each in like)
            assert row.stored == sum(each.stored for each in like)


def test_lengths_are_put_in(mptc: Shell) -> None:
    open_, known = (mptc("explain", f"{CEM}:{STEP}", "--variant", "tiny", *more).stdout for more in ((), ("--batch", "2", "--seq", "300")))
    assert "·batch·seq²" in open_[open_.index("cost") :] and "seq" not in known[known.index("cost") :]


STORED = """
context notes
context other
dim d = 4
model m bidirectional {
  input x:       [d]
  input written: [notes, d] per sequence
  seen = written[notes -> other]
  m = sum[other](softmax[other](tanh(sum[d](written * seen))) * seen)
  w = softmax[ctx](tanh(sum[d](x * all(x))))
  probe weights = sum[ctx](w * w)
  output y = x * sum[notes](m)
  penalty sum[ctx](w * shift(w, 1))
}
"""


def test_why_a_score_is_stored(mptc: Shell, tmp_path: Path) -> None:
    (tmp_path / "m.mpt").write_text(STORED)
    said = mptc("explain", "m.mpt:9").stdout
    assert "stored for all pairs of tokens\n    not by rows: those that ask are the tokens of notes, not those of the sequence" in said
    said = mptc("explain", "m.mpt:10").stdout
    assert "not by rows: shift needs all of its rows at once" in said or "not by rows: row by row there is no shift" in said
    warned = mptc("check", "m.mpt").stderr
    assert "stored for each pair of tokens: those that ask are the tokens of notes" in warned
    assert "let the sequence's own tokens ask" in " ".join(warned.split())


def test_a_page_of_differences(mptc: Shell, tmp_path: Path) -> None:
    assert mptc("explain", CEM, "--html", "trace.html").stdout == "wrote trace.html\n"
    text = (tmp_path / "trace.html").read_text()
    assert re.findall(r"<h2>(.*?)</h2>", text) == [*STAGES, "cem_small.py"]


def test_regions_are_shown(mptc: Shell) -> None:
    said = mptc("compile", CEM, "--emit", "ir", "--after", "fuse").stdout
    marked = [line for line in said.splitlines() if line.endswith(f"# region 0  x  cem_small.mpt:{STEP}")]
    assert len(marked) == 1
    step = marked[0].split()[0]
    assert re.search(rf"^  region 0 = .* → {step} : rows \[batch, seq, d\], backward saves %\d+$", said, re.MULTILINE)
    assert "region 0" in mptc("explain", f"{CEM}:{STEP}").stdout


class Balanced(HTMLParser):
    """Raises where something from a spec has become markup."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = "html head meta title style body h1 h2 p pre table colgroup thead tbody tr td th span a br"
        assert tag in known.split(), tag


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nope"], "nope is neither a diagnostic"),
        (["nope.mpt"], "cannot read this file"),
        ([f"{CEM}:9999"], "it has no line 9999"),
        (["Z9999"], "there is no diagnostic Z9999"),
        ([str(CEM), "--html", "no\0name"], "error"),
        ([f"{CEM}:abc"], "'abc' is not the number of a line"),
        ([f"{CEM}:{STEP}", "--html", "page.html"], "--html is of a whole SPEC, not of a line"),
        (["E0205", "--html", "page.html"], "are of a SPEC"),
        (["--line", "4"], "are of a SPEC"),
        ([str(CEM), "--seq", "4"], "lengths are of the cost of a line"),
        ([f"{CEM}:{STEP}", "--line", "4"], "a line is named once"),
        ([str(CEM), "--line", "nowhere.mpt:6"], "nowhere.mpt is none of them: what is computed stands in"),
        ([str(CEM), "--line", "cem.mpt:999"], "cem.mpt: error: it has no line 999"),
        ([f"{ROOT}/specs/lib/cem.mpt:6"], "with one that uses it, `mptc explain SPEC --line lib/cem.mpt:6`"),
    ],
)
def test_mistakes_are_said(arguments: list[str], said: str, mptc: Shell) -> None:
    if "\0" in arguments[-1]:
        arguments = [*arguments[:-1], "/proc/nowhere/page.html"]
    found = mptc("explain", *arguments)
    assert found.returncode and said in found.stderr and "Traceback" not in found.stderr
    assert mptc("compile", CEM, "--after", "rows").returncode == 2
