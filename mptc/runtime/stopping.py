"""Signals that end a run, taken between two steps: what a step has done is then whole, and can be saved."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass
class Request:
    """`number` is the signal that asked to stop, 0 before one did."""

    number: int = 0


@contextmanager
def stop_requests() -> Iterator[Request]:
    """Within the block the first Ctrl-C or SIGTERM is noted, and a second one does what it always does.

    Outside the main thread, where Python hears no signals, nothing is ever noted.
    """
    request = Request()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, _frame: FrameType | None) -> None:
        request.number = number
        restore()

    for number in SIGNALS:
        signal.signal(number, note)
    try:
        yield request
    finally:
        restore()
