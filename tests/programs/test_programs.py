"""Random programs: what the compiler makes of them is what they mean. What longer runs have found is tried again in each.

By hand: `MPTC_PROGRAMS=3000 python -m pytest tests/programs`, or `python -m tests.programs --count 3000`, which goes on after a failure.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.programs.judge import judge
from tests.programs.models import Spec, specs

COUNT = int(os.environ.get("MPTC_PROGRAMS", "200"))
FINDS = sorted((Path(__file__).parent / "finds").glob("*.mpt"))


@seed(1)
@settings(max_examples=COUNT, database=None, deadline=None, phases=[Phase.generate, Phase.shrink], suppress_health_check=list(HealthCheck))
@given(specs())
def test_what_is_made_is_what_is_meant(spec: Spec) -> None:
    judge(spec)


@pytest.mark.parametrize("path", FINDS, ids=lambda path: path.stem)
def test_found_once(path: Path) -> None:
    judge(Spec(path.read_text(encoding="utf-8")))
