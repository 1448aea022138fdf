"""Did you mean …?"""

from __future__ import annotations

from collections.abc import Iterable, Set

_MOST_CANDIDATES = 2_000
_LONGEST = 40


def closest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that a slip of the finger makes into `name`, if there is one; of several as near the first."""
    if len(name) > _LONGEST:
        return None
    allowed = 1 if len(name) <= 4 else 2 if len(name) <= 8 else 3
    best: tuple[int, str] | None = None
    ordered = sorted(candidates) if isinstance(candidates, Set) else list(candidates)
    for candidate in ordered[:_MOST_CANDIDATES]:
        if candidate == name or abs(len(candidate) - len(name)) > allowed:
            continue
        distance = 0 if candidate.lower() == name.lower() else _distance(name, candidate)
        if distance <= min(allowed, len(candidate) - 1) and (best is None or distance < best[0]):
            best = distance, candidate
    return best[1] if best else None


def did_you_mean(name: str, candidates: Iterable[str]) -> str | None:
    """The help line, for a `Diagnostic`."""
    found = closest(name, candidates)
    return f"did you mean `{found}`?" if found else None


def _distance(left: str, right: str) -> int:
    """Insertions, deletions, replacements and swaps of neighbours from one to the other."""
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        before, last, row = row, before, [i]
        for j, b in enumerate(right, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]
