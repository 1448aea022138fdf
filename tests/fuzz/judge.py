"""One text through the whole compiler: diagnostics are fine, anything else is a find."""

from __future__ import annotations

import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from mptc.compile import check, compile
from mptc.source.diagnostic import Diagnostics
from mptc.source.render import render
from mptc.source.text import Source

SLOW = 2.0  # seconds of this process
STOP = 20.0  # seconds of this process, after which a text counts as hanging


class TooLongError(BaseException):
    """Not an Exception, so that nothing on the way catches it."""


@dataclass(frozen=True)
class Verdict:
    """What became of one text. `problem` is None where all is well; it names the stage and the exception."""

    codes: tuple[str, ...]
    seconds: float
    compiled: bool = False
    problem: str | None = None


def judge(text: str, path: str) -> Verdict:
    """`path`: beside which files the text's `use` looks. What was slow is tried again: the machine may have been busy."""
    verdict = _judge(text, path)
    return _judge(text, path) if verdict.problem is not None and verdict.problem.endswith(": slow") else verdict


def _judge(text: str, path: str) -> Verdict:
    began = time.process_time()
    diagnostics = Diagnostics()
    compiled, problem, stage = False, None, "check"
    try:
        with _limited():
            source = Source(path, text)
            check(source, diagnostics)
            stage = "render"
            for one in diagnostics.found[:20]:
                render(one)
            if not diagnostics.failed:
                stage = "compile"
                compiled = compile(source, diagnostics) is not None
    except (Exception, TooLongError) as error:  # noqa: BLE001 -- that there is none is what is judged
        problem = f"{stage}: {_where(error)}"
    seconds = time.process_time() - began
    if problem is None and seconds > SLOW:
        problem = f"{stage}: slow"
    return Verdict(tuple(one.code for one in diagnostics.found), seconds, compiled, problem)


def _where(error: BaseException) -> str:
    """The exception with the place that raised it: what tells two finds apart."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "/mptc/" in frame.filename] or list(frames)
    place = f"{ours[-1].filename.rpartition('/mptc/')[2]}:{ours[-1].name}" if ours and not isinstance(error, TooLongError) else ""
    return f"{type(error).__name__} {place}".strip()


@contextmanager
def _limited() -> Iterator[None]:
    def stop(_: int, __: FrameType | None) -> None:
        raise TooLongError

    if sys.platform == "win32":
        yield
        return
    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, STOP, 1)  # again, where a callback swallows it
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
