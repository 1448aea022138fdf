"""`mptc explain SPEC[:LINE]`, `--emit ir --after STAGE`, and the page of differences."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

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
    from mptc.trace import explained, page, trace

    found = trace(Source.read(spec), Diagnostics(), variant="tiny")
    assert found is not None
    said = explained(found, None)
    assert "fused attention" in said
    for one in found.derived.program.energies:
        assert str(one.used) in said
    whole = page(found)
    Balanced().feed(whole)
    assert whole.count('<table class="diff"') == 3


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
    assert f"computed by rows, in memory linear in length; no fused attention: {reason}" in said


def test_rows_are_shown_with_the_line_that_asks_for_them(mptc: Shell, tmp_path: Path) -> None:
    (tmp_path / "m.mpt").write_text(SCORES.format(energy="minimize -logsumexp[ctx](tanh(sum[d](x * k)))"))
    said = mptc("explain", "m.mpt:9").stdout
    assert "def rows(self, " in said and "torch.softmax(" in said[said.index("def rows") :]
    assert "rows(" in mptc("compile", "m.mpt", "--emit", "ir", "--after", "rows").stdout
    assert "rows(" not in mptc("compile", "m.mpt", "--emit", "ir", "--after", "derive").stdout
    assert "grad e(" in mptc("compile", "m.mpt", "--emit", "ir", "--after", "build").stdout


def test_a_page_of_differences(mptc: Shell, tmp_path: Path) -> None:
    assert mptc("explain", CEM, "--html", "trace.html").stdout == "wrote trace.html\n"
    text = (tmp_path / "trace.html").read_text()
    assert re.findall(r"<h2>(.*?)</h2>", text) == ["build", "canonical", "derive", "rows", "cem_small.py"]


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
    ],
)
def test_mistakes_are_said(arguments: list[str], said: str, mptc: Shell) -> None:
    if "\0" in arguments[-1]:
        arguments = [*arguments[:-1], "/proc/nowhere/page.html"]
    found = mptc("explain", *arguments)
    assert found.returncode and said in found.stderr and "Traceback" not in found.stderr
    assert mptc("compile", CEM, "--after", "rows").returncode == 2
