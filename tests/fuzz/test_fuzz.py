"""Two thousand texts in every run of the tests, and what longer runs have found. By hand: `python -m tests.fuzz --count 100000`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from tests.fuzz.judge import judge
from tests.fuzz.texts import HERE, texts

COUNT = 2000
FINDS = sorted((Path(__file__).parent / "finds").glob("*.mpt"))


def test_nothing_but_diagnostics() -> None:
    """Fixed seed: a failure here is the same one tomorrow."""
    counted: Counter[str] = Counter()
    problems = []
    for kind, path, text in texts(COUNT):
        verdict = judge(text, path)
        counted[kind] += 1
        counted["compiled"] += verdict.compiled
        counted["refused"] += bool(verdict.codes)
        if verdict.problem is not None:
            problems.append(f"{verdict.problem} ({verdict.seconds:.1f} s), {kind} of {path}:\n{text}")
    assert not problems, f"{len(problems)} of {COUNT}\n" + "\n".join(problems[:3])
    assert sum(counted[kind] for kind in ("grammar", "mutation", "bytes")) == COUNT
    assert counted["compiled"] >= COUNT / 20  # else the texts never get to the later stages
    assert counted["refused"] >= COUNT / 4


@pytest.mark.parametrize("path", FINDS, ids=lambda path: path.stem)
def test_found_once(path: Path) -> None:
    verdict = judge(path.read_bytes().decode("utf-8", errors="replace"), HERE)
    assert verdict.problem is None


def test_the_judge_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception, and a stage that takes too long, are seen."""
    import tests.fuzz.judge as room

    def broken(*_: object) -> None:
        raise ValueError("planted")

    monkeypatch.setattr(room, "check", broken)
    assert (judge("", HERE).problem or "").startswith("check: ValueError")
    monkeypatch.setattr(room, "check", lambda *_: [None for _ in iter(int, 1)])
    monkeypatch.setattr(room, "STOP", 0.2)
    assert judge("", HERE).problem == "check: TooLongError"
