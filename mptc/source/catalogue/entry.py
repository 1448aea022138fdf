"""What is known of one diagnostic code."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A code, its name in words, why it is reported, and a spec that triggers it."""

    code: str
    title: str
    explanation: str
    example: str
