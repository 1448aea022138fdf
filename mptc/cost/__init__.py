"""What a model costs: parameters, operations, bytes moved and memory of one training step, as polynomials in the batch and the lengths.

Of the planned program, as the generated torch module runs it in float32: nothing is run or measured here. Products are counted as
`torch.utils.flop_counter.FlopCounterMode` does with attention by its formula: 2·m·n·k each, whatever a mask hides.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from math import prod

from mptc.backends.kept import entries
from mptc.cost.again import Again, fewest
from mptc.cost.chunks import SIZE, largest_chunk, summed
from mptc.cost.few import number_of
from mptc.cost.parameters import counted, numbers
from mptc.cost.polynomial import ZERO, Polynomial, total
from mptc.cost.rows import REST, CallSites, Named
from mptc.cost.sizes import Sizes
from mptc.cost.step import Step
from mptc.cost.tape import Tally, Tape
from mptc.ir.node import Node
from mptc.ir.program import Program
from mptc.passes import applied
from mptc.passes.scopes import Scopes

BYTES = 4  # of a number in float32
OF = 1024  # tokens, of which it is told how many are chosen
NO_LENGTHS: Mapping[str, int] = {}


@dataclass(frozen=True)
class Row:
    """One call site, parameter or part, all copies and passes of it together. `copies`: how many a stack has of it.

    `stored`: numbers of parameters; `effective`: counted for each operator that reads them, each pass for itself.
    `forward`, `backward`: floating-point operations of matrix products. `elements`, `moved`: operations on single elements, and bytes that
    operators read and write, each forward and backward. `kept`: bytes of activations that autograd keeps.
    """

    name: str
    copies: int
    stored: int
    effective: int
    forward: Polynomial
    backward: Polynomial
    elements: tuple[Polynomial, Polynomial]
    moved: tuple[Polynomial, Polynomial]
    kept: Polynomial


@dataclass(frozen=True)
class Cost:
    """Of one model. `symbols`: the lengths that polynomials may have. `trained`: numbers of parameters that get a gradient.

    `peak`: bytes of the activations, gradients and passing results that live at once; the largest of these, which depends on the lengths.
    `at_most`: whether fewer may be chosen than are counted. `chosen`: how many are, of `OF` tokens, by the symbol that stands for it.
    `by_rows`: whether scores are computed for some of the tokens at a time.
    `cache`: bytes that decoding keeps for each token, and of the last tokens of windows; or why it does not decode token by token.
    """

    name: str
    symbols: tuple[str, ...]
    rows: tuple[Row, ...]
    total: Row
    trained: int
    peak: tuple[Polynomial, ...]
    cache: tuple[int, int] | str
    by_rows: bool
    at_most: bool
    chosen: Mapping[str, int]


def cost(program: Program, following: Program | str, lengths: Mapping[str, int] = NO_LENGTHS) -> Cost:
    """The cost of a planned program, as all passes leave it. `following`: the program of the next tokens, or why there is none.

    `lengths`: numbers in the place of symbols. What is computed by rows is exact at a `seq` that is known. While that is open it is taken to be above
    128, a multiple of it, and that much or more above any window (`mptc.cost.chunks`).

    Raises `mptc.backends.deployment.TooLarge` where stacks and repeats, written out, are too many.
    """
    program, _ = applied(program)
    stored, trained = counted(program)
    sizes = Sizes(program)
    lengths = sizes.known(lengths)
    length = lengths.get("seq")
    step = Step(program, sizes, CallSites(program), whole=length is not None and length <= SIZE)
    tape = step.take()
    names = dict.fromkeys([*stored, *step.uses, *tape.rows])
    rows = [_row(program, name, stored.get(name, 0), step.uses.get(name, 0), tape.rows.get(name, Tally()), lengths) for name in names]
    rows = [row for row in rows if row.stored or row.forward.terms or row.moved[0].terms]
    order = _order(rows)
    lives = (chunk for live in tape.peaks for chunk in largest_chunk(Polynomial.of(dict(live)), length))
    peak = largest(chunk.at(lengths) for chunk in lives)
    some = {name: number_of(count, OF) for name, count in sizes.chosen.counts.items()}
    kept = cache(following)
    return Cost(program.name, tuple(sizes.symbols), order, _sum(order), trained, peak, kept, step.by_rows, sizes.chosen.at_most, some)


def shares(program: Program, parts: Mapping[str, Container[Node]], lengths: Mapping[str, int] = NO_LENGTHS) -> list[Row]:
    """What parts of a program cost, as all passes left it: a row for each, of the nodes that no part before has. Raises `TooLarge`."""
    sizes = Sizes(program)
    lengths = sizes.known(lengths)
    length = lengths.get("seq")
    step = Step(program, sizes, Named(parts), whole=length is not None and length <= SIZE)
    tape = step.take()
    stored = {name: numbers(program, step.read.get(name, ())) for name in parts}
    return [_row(program, name, stored[name], step.uses.get(name, 0), tape.rows.get(name, Tally()), lengths) for name in parts]


def again(program: Program, lengths: Mapping[str, int], room: int) -> Again:
    """Which copies of the stacks that stand in the model itself to compute once more on the way back, the fewest with which a training step's
    activations and gradients are `room` bytes at most; all of them where that is not enough. `lengths`: every one. Raises `TooLarge`."""
    program, _ = applied(program)
    sizes = Sizes(program)
    known = sizes.known(lengths)
    whole = known["seq"] <= SIZE

    def taken(copies: Mapping[str, int]) -> Tape:
        return Step(program, sizes, CallSites(program), whole, copies).take()

    def number(polynomial: Polynomial) -> int:
        return round(summed(polynomial, known["seq"]).at(known).value or 0)

    def most(copies: Mapping[str, int]) -> int:
        lives = (chunk for live in taken(copies).peaks for chunk in largest_chunk(Polynomial.of(dict(live)), known["seq"]))
        return max(round(chunk.at(known).value or 0) for chunk in lives)

    stacks = {path.removesuffix("[*]"): count for path, count in program.copies.items() if "[*]" not in path.removesuffix("[*]")}
    return fewest(taken({}).rows, stacks, most, number, room)


def _row(program: Program, name: str, stored: int, effective: int, tally: Tally, lengths: Mapping[str, int]) -> Row:
    def of(what: str, back: bool = False) -> Polynomial:
        return summed(tally.of(what, back), lengths.get("seq")).at(lengths)

    both = [(of(what), of(what, back=True)) for what in ("flops", "elements", "bytes")]
    (forward, backward), elements, moved = both
    parts = name.split("[*]")
    times = prod(program.copies.get("[*]".join(parts[: place + 1]), 1) for place in range(len(parts) - 1))
    return Row(name, times, stored, effective, forward, backward, elements, moved, of("kept"))


def _order(rows: Iterable[Row]) -> tuple[Row, ...]:
    """As they come, what belongs to a stack together, and what belongs to nothing last."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.name.partition("[*]")[0] if "[*]" in row.name else row.name, []).append(row)
    return tuple(sorted((row for group in groups.values() for row in group), key=lambda row: row.name == REST))


def _sum(rows: Iterable[Row]) -> Row:
    rows = tuple(rows)
    elements, moved = _both(row.elements for row in rows), _both(row.moved for row in rows)
    forward, backward, kept = (total(getattr(row, name) for row in rows) for name in ("forward", "backward", "kept"))
    return Row("total", 1, sum(row.stored for row in rows), sum(row.effective for row in rows), forward, backward, elements, moved, kept)


def _both(pairs: Iterable[tuple[Polynomial, Polynomial]]) -> tuple[Polynomial, Polynomial]:
    pairs = tuple(pairs)
    return total(forward for forward, _ in pairs), total(backward for _, backward in pairs)


def largest(found: Iterable[Polynomial]) -> tuple[Polynomial, ...]:
    """Those of several polynomials that are somewhere larger than every other."""
    left: dict[Polynomial, Polynomial] = {}  # and as polynomials in what lengths are above 1, which tells which is larger
    for one in sorted(set(found), key=lambda each: each.at(dict.fromkeys(_symbols(each), 256)).value or 0, reverse=True):
        shifted = one.shifted()
        if not any(shifted.within(other) for other in left.values()):
            left = {known: other for known, other in left.items() if not other.within(shifted)} | {one: shifted}
    return tuple(left) or (ZERO,)


def _symbols(polynomial: Polynomial) -> set[str]:
    return {name for powers, _ in polynomial.terms for name, _ in powers}


def cache(following: Program | str) -> tuple[int, int] | str:
    """Bytes in float32 for each token, and of the last tokens; or why there are none."""
    if isinstance(following, str):
        return following
    found = entries(following, Scopes(following.roots))
    growing = sum(entry.times * entry.numbers for entry in found if entry.window is None)
    fixed = sum(entry.times * entry.numbers * (entry.window - 1) for entry in found if entry.window is not None)
    return BYTES * growing, BYTES * fixed
