"""Values that nothing reads any more are let go of before a function ends."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
import torch

from mptc.runtime.bench.peak import peak
from mptc.runtime.module import as_module
from tests.differential import compiled
from tests.golden import SPECS, text

LAYER = """
use "lib/cem.mpt"
dim d      = 64
dim head   = 2
dim key    = d / head
dim hidden = 176
dim rank   = 4
model layer {{
  input x: [d]
  {body}
}}
"""
ONE = """c = past(rmsnorm(x) as context)
  y = x - grad interaction(rmsnorm(x) as query | c)
  h = rmsnorm(y) as pre_gate
  output z = y - grad gated(h | h)"""
REPEATED = """c = past(rmsnorm(x) as context)
  y = x
  repeat 2 { y <- y - precondition(grad interaction(rmsnorm(y) as query | c)) }
  h = rmsnorm(y) as pre_gate
  output z = y - grad gated(h | h)"""
WATCHED = f"""share e: interaction
  {ONE.replace("grad interaction", "grad e")}
  probe value = e(rmsnorm(y) as again | c)"""


def body_of(written: str) -> list[str]:
    """The lines of `forward`."""
    return written[written.index("    def forward(") : written.index("    @torch.no_grad()\n    def decode(")].splitlines()


@pytest.mark.parametrize("body", [ONE, REPEATED], ids=["one step", "repeated"])
def test_the_peak_is_lower(body: str) -> None:
    written = compiled(LAYER.format(body=body)).text
    kept = re.sub(r"^ *del [\w, ]+\n", "", written, flags=re.MULTILINE)
    assert kept != written
    x = torch.randn(2, 512, 64)
    peaks, values = [], []
    for each in (written, kept):
        model = as_module("layer", each).Model(seed=0)
        with torch.no_grad():
            values.append(model(x).z)
            peaks.append(peak(lambda model=model: model(x), "cpu"))  # type: ignore[misc]
    assert torch.equal(*values)
    assert peaks[0] <= 0.75 * peaks[1]


def test_nothing_is_let_go_of_in_a_repeat() -> None:
    """The next pass takes the names again; what it alone has read is let go of when it is over."""
    lines = body_of(compiled(LAYER.format(body=REPEATED)).text)
    (let_go,) = [place for place, line in enumerate(lines) if line.lstrip().startswith("del ")]
    loop = next(place for place, line in enumerate(lines) if line.lstrip().startswith("for "))
    assert let_go > loop and not lines[let_go].startswith(" " * 12)
    assert {"context", "query", "q", "o", "step", "k"} == set(lines[let_go].split("#")[0].removeprefix("        del ").split(", "))


def test_what_is_there_only_if_asked_for_is_not_let_go_of() -> None:
    made = compiled(LAYER.format(body=WATCHED))
    lines = body_of(made.text)
    for place, line in enumerate(lines):
        if line.lstrip().startswith("del "):
            assert line.startswith("        del ")
            for name in line.strip().removeprefix("del ").split(", "):
                given = [other for other in lines[:place] if other.startswith(f"        {name} = ")]
                assert given, f"{name} may not be there"
    x = torch.randn(1, 7, 64, dtype=torch.float64)
    assert torch.equal(made.model(x).z, made.model(x, probe=True).z)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.stem)
def test_a_function_does_not_end_with_it(spec: Path) -> None:
    lines = text(spec).splitlines()
    for line, after in itertools.pairwise(lines):
        assert not (line.lstrip().startswith("del ") and after.lstrip().startswith("return "))
