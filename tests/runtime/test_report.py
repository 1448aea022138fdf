"""What a run says of itself on the way."""

import io

import pytest

from mptc.runtime import report
from mptc.runtime.report import EVERY, Lines


def test_the_speed_is_that_since_the_line_before(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, EVERY / 10, EVERY / 10 + EVERY / 2])
    monkeypatch.setattr(report.time, "monotonic", lambda: next(now))
    out = io.StringIO()
    lines = Lines(out)
    lines.start(0, 2 * EVERY)
    for step in range(1, 2 * EVERY + 1):
        lines.step(step, 1.0, 1e-3)
    assert [line.split()[-2:] for line in out.getvalue().splitlines()[1:]] == [["10.0", "steps/s"], ["2.0", "steps/s"]]
