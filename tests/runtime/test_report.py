"""What a run says of itself on the way."""

import io

import pytest

from mptc.runtime import report
from mptc.runtime.report import EVERY, Done, Lines


def test_the_speed_is_that_since_the_line_before(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter([0.0, EVERY / 10, EVERY / 10 + EVERY / 2])
    monkeypatch.setattr(report.time, "monotonic", lambda: next(now))
    out = io.StringIO()
    lines = Lines(out)
    lines.start(0, 2 * EVERY)
    for step in range(1, 2 * EVERY + 1):
        lines.step(Done(step, 1.0, 1e-3, 1.0, 20, 0.1 if step <= EVERY else 0.5, 0.5 if step <= EVERY else 0.1))
    assert out.getvalue().splitlines()[1:] == [
        f"step {EVERY:>6}  loss 1.0000  rate 1.00e-03  200 tokens/s  MFU 50%  0:05 left",
        f"step {2 * EVERY:>6}  loss 1.0000  rate 1.00e-03  40 tokens/s  MFU 10%  0:00 left",
    ]
