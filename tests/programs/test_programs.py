"""Random programs: what the compiler makes of them is what they mean. What longer runs have found is tried again in each.

By hand: `python -m tests.programs --count 3000`, which goes on after a failure. A spec that fails is made small by `python -m tests.programs.reduce`:
hypothesis would take hours to, a program at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.programs.deploy import deploy
from tests.programs.judge import Wild, judge
from tests.programs.models import Spec, seeded, specs
from tests.programs.reduce import sound

COUNT, DEPLOYED, PARTS = 200, 24, 4
WILD = 2  # of the specs of a part, those whose numbers are too wild to tell
FINDS = sorted((Path(__file__).parent / "finds").glob("*.mpt"))


@pytest.mark.parametrize("part", range(PARTS))
def test_what_is_made_is_what_is_meant(part: int) -> None:
    assert sum(_wild(number, judge) for number in range(part, COUNT, PARTS)) <= WILD


@pytest.mark.parametrize("part", range(PARTS))
def test_what_is_deployed_is_the_same(part: int) -> None:
    for number in range(part, DEPLOYED, PARTS):
        assert not _wild(number, lambda spec: list(deploy(spec)))


def _wild(number: int, judged: Callable[[Spec], object]) -> bool:
    """Tries one. Whether its numbers are too wild to tell."""
    spec = seeded(number)
    try:
        judged(spec)
        return False
    except Wild:
        return True
    except Exception as error:
        error.add_note(f"seed {number}:\n{spec}")
        raise


@seed(1)
@settings(max_examples=20, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(specs())
def test_the_strategy_makes_specs(spec: Spec) -> None:
    """Which ones changes with the modules that are loaded, as hypothesis takes numbers from there: these are not judged."""
    assert sound(spec.text)


@pytest.mark.parametrize("path", FINDS, ids=lambda path: path.stem)
def test_found_once(path: Path) -> None:
    spec = Spec.read(path.read_text(encoding="utf-8"))
    judge(spec)
    assert "as a whole" in list(deploy(spec))
