"""A cost as text for people and as JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from mptc.cost import BYTES, OF, Cost, Row
from mptc.cost.polynomial import ZERO, Polynomial, short, sized

Lengths = Mapping[str, int]
LIKELY = tuple(2**power for power in range(8, 15))  # lengths for which a peak that is not exact is right
NEAR, LITTLE = 0.05, 0.01  # to within which it is; and what of it is not told

NOTES = """\
Matrix products are counted as 2·m·n·k each, forward and for every gradient that is made; a mask takes nothing off them. Element-wise
operations stand apart. Bytes are what operators read and write in float32, none fused with another but attention. Kept is what autograd
keeps for the way back. The peak is of activations, gradients and passing results together, outputs held, beside parameters and inputs."""
BY_ROWS = """\
Scores that are computed by rows are counted as they are for more than 128 tokens: made for 128 of the tokens that ask at a time, for those up to the
last of them where the model is causal, and once more on the way back. While seq is open it is taken for a multiple of 128, that much above any
window or more."""

AT_MOST = """\
How many tokens or experts are chosen, only the run tells: as many are counted as there may be at most."""


@dataclass(frozen=True)
class _Page:
    cost: Cost
    lengths: Lengths

    def amount(self, polynomial: Polynomial) -> str:
        return _amount(polynomial, self.lengths, short)

    def bytes(self, polynomial: Polynomial) -> str:
        return _amount(polynomial, self.lengths, sized)

    def shown(self) -> str:
        cost = self.cost
        known = "".join(f", {name} = {length:,}" for name, length in self.lengths.items())
        lines = [f"{cost.name}{known}", ""]
        lines += [
            f"parameters      {cost.total.stored:,} stored ({BYTES * cost.total.stored:,} bytes), {cost.trained:,} of them trained;",
            f"                {cost.total.effective:,} effective: counted wherever an operator reads them, in every pass",
            *self.peak(),
            f"cache           {self.cache()}",
            "",
        ]
        head = ("", "stored", "effective", "FLOPs forward", "FLOPs backward")
        lines += [*_table(head, (self.first(row) for row in (*cost.rows, cost.total))), ""]
        below = ("", "element-wise forward", "backward", "bytes moved forward", "backward", "kept")
        lines += [*_table(below, (self.second(row) for row in (*cost.rows, cost.total))), "", NOTES]
        lines += [BY_ROWS] if cost.by_rows else []
        lines += [AT_MOST] if cost.at_most else []
        lines += [f"{name}: the tokens that are chosen, {count:,} of {OF:,}." for name, count in cost.chosen.items() if "seq" not in self.lengths]
        return "\n".join(lines) + "\n"

    def name(self, row: Row) -> str:
        return row.name + (f" × {row.copies}" if row.copies > 1 else "")

    def first(self, row: Row) -> list[str]:
        numbers = [f"{row.stored:,}", f"{row.effective:,}"]
        return [self.name(row), *numbers, self.amount(row.forward), self.amount(row.backward)]

    def second(self, row: Row) -> list[str]:
        return [self.name(row), *map(self.amount, row.elements), *map(self.bytes, (*row.moved, row.kept))]

    def peak(self) -> list[str]:
        """One number where the lengths are known; else what it is for long sequences, and for shorter ones."""
        found = peak(self.cost, self.lengths)
        if isinstance(found, int):
            return [f"peak memory     {found:,} bytes of activations and gradients ({sized(found)})"]
        first, *others = leading(found)
        lines = [f"peak memory     {first.text(sized)} of activations and gradients"]
        lines += [f"                or {each.text(sized)}, where that is more" for each in others]
        return [*lines, f"                (within {NEAR + LITTLE:.0%} from {LIKELY[0]} tokens on; exact with --batch and --seq, or with --json)"]

    def cache(self) -> str:
        if isinstance(self.cost.cache, str):
            return f"none: {self.cost.cache}"
        growing, fixed = self.cost.cache
        parts = [f"{growing:,} bytes for each token"] if growing or not fixed else []
        return " and ".join([*parts, *([f"{fixed:,} bytes of the last tokens"] if fixed else [])]) + " of a sequence, in float32"


def text(cost: Cost, lengths: Lengths) -> str:
    """Tables by call site; with numbers in the place of the lengths that are given."""
    return _Page(cost, lengths).shown()


def share(row: Row, lengths: Lengths) -> str:
    """One row in words."""
    flops, moved = ((f"{_amount(forward, lengths, number)} forward, {_amount(back, lengths, number)} backward") for forward, back, number in (
        (row.forward, row.backward, short), (*row.moved, sized)))
    parts = [f"FLOPs of products: {flops}", f"element-wise: {_amount(row.elements[0], lengths, short)}, {_amount(row.elements[1], lengths, short)}"]
    parts += [f"bytes moved: {moved}", f"kept for the way back: {_amount(row.kept, lengths, sized)}"]
    return f"{row.name}: {row.stored:,} parameters\n" + "\n".join(f"    {part}" for part in parts)


def _amount(polynomial: Polynomial, lengths: Lengths, number: Callable[[int], str]) -> str:
    found = polynomial.at(lengths)
    return found.text(number) if found.terms else "0"


def peak(cost: Cost, lengths: Lengths) -> int | list[Polynomial]:
    """The peak in bytes; where a length is not known, the polynomials of which it is the largest."""
    found = [each.at(lengths) for each in cost.peak]
    values = [each.value for each in found]
    if all(value is not None for value in values):
        return max(value for value in values if value is not None)
    return list(dict.fromkeys(found))


def leading(found: Sequence[Polynomial]) -> list[Polynomial]:
    """Few polynomials of several, without small terms, of which the largest is nearly the largest of all at any likely lengths, the longest first."""
    symbols = sorted({name for each in found for powers, _ in each.terms for name, _ in powers})
    options = [(1, 4, 16, 64) if name == "batch" else LIKELY for name in symbols]
    points = [dict(zip(symbols, lengths, strict=True)) for lengths in product(*(option[::-1] for option in options))]
    values = [[each.at(point).value or 0 for each in found] for point in points]
    chosen: list[int] = []
    for row in values:
        most = max(row)
        if max((row[place] for place in chosen), default=0) < (1 - NEAR) * most:
            chosen.append(row.index(most))
    return list(dict.fromkeys(_without_little(found[place], points) for place in chosen))


def _without_little(polynomial: Polynomial, points: Sequence[Lengths]) -> Polynomial:
    """The smallest terms gone, where they never come to much together."""
    rest, kept = ZERO, dict(polynomial.terms)
    for term in sorted(polynomial.terms, key=lambda term: max(abs(Polynomial((term,)).at(at).value or 0) for at in points)):
        more = rest + Polynomial((term,))
        if any(abs(more.at(at).value or 0) > LITTLE * (polynomial.at(at).value or 0) for at in points):
            break
        rest = more
        del kept[term[0]]
    return Polynomial.of(kept)


def as_json(cost: Cost, lengths: Lengths) -> str:
    """Everything, exact: a polynomial as the list of its terms, `[factor, {symbol: power}]`, or one number where all its lengths are known."""
    found = peak(cost, lengths)
    cache = {"reason": cost.cache} if isinstance(cost.cache, str) else {"per_token": cost.cache[0], "last_tokens": cost.cache[1]}
    page = {
        "model": cost.name,
        "symbols": list(cost.symbols),
        "lengths": dict(lengths),
        "by_rows": cost.by_rows,
        "at_most": cost.at_most,
        "chosen": {"of": OF, **cost.chosen},
        "parameters": {"stored": cost.total.stored, "effective": cost.total.effective, "trained": cost.trained},
        "rows": [_row(row, lengths) for row in cost.rows],
        "total": _row(cost.total, lengths),
        "peak_bytes": found if isinstance(found, int) else {"largest_of": [_exact(each) for each in found]},
        "cache_bytes": cache,
    }
    return json.dumps(page, indent=2, ensure_ascii=False)


def _row(row: Row, lengths: Lengths) -> dict[str, object]:
    named = {
        "flops_forward": row.forward,
        "flops_backward": row.backward,
        "elementwise_forward": row.elements[0],
        "elementwise_backward": row.elements[1],
        "bytes_forward": row.moved[0],
        "bytes_backward": row.moved[1],
        "kept_bytes": row.kept,
    }
    front = {"name": row.name, "copies": row.copies, "stored": row.stored, "effective": row.effective}
    return {**front, **{name: _exact(each.at(lengths)) for name, each in named.items()}}


def _exact(polynomial: Polynomial) -> object:
    value = polynomial.value
    return [[factor, dict(powers)] for powers, factor in polynomial.terms] if value is None else value


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Columns as wide as their widest cell, numbers to the right."""
    cells = [head, *rows]
    widths = [max(len(row[place]) for row in cells) for place in range(len(head))]
    made = []
    for row in cells:
        first, *rest = (cell.ljust(width) if place == 0 else cell.rjust(width) for place, (cell, width) in enumerate(zip(row, widths, strict=True)))
        made.append("  ".join([first, *rest]).rstrip())
    return made



