"""Which copies of stacks to compute once more on the way back, so that one training step fits into the memory that there is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from mptc.cost.polynomial import Polynomial
from mptc.cost.tape import Record, Storage, Tally, Tape, Tensor


@contextmanager
def computed_again(tape: Tape, given: Iterable[Tensor]) -> Iterator[None]:
    """What is run here runs under `torch.utils.checkpoint`: of what autograd keeps, only what it is given stays, until its gradients are made."""
    before = len(tape.records)
    yield
    records = tape.records[before:]
    if not records:
        return
    inputs = {tensor.storage for tensor in given}
    frames = dict.fromkeys(record.frame for record in records if record.frame is not None)
    left: dict[Record, list[Storage]] = {}
    for record in records:
        left[record], record.kept = _parted(record.kept, inputs)
    for frame in frames:
        more, frame.held = _parted(frame.held, inputs)
        left[frame.records[0]] += more
    for storages in left.values():
        for storage in storages:
            tape.release(storage)
    for storage in inputs:
        storage.holders += 1
    records[0].kept += inputs

    def restore() -> None:
        for record, storages in left.items():
            for storage in storages if record.again is not None else ():
                if not storage.holders:
                    tape.allocate(storage.bytes)
                storage.holders += 1
                record.kept.append(storage)
        left.clear()

    for record in records:
        record.again = restore


def _parted(kept: Iterable[Storage], inputs: set[Storage]) -> tuple[list[Storage], list[Storage]]:
    """What is made again, and what stays: what it is given, and what was there before the step."""
    kept = list(kept)
    stays = [storage.fixed or storage in inputs for storage in kept]
    return [each for each, here in zip(kept, stays, strict=True) if not here], [each for each, here in zip(kept, stays, strict=True) if here]


@dataclass(frozen=True)
class Again:
    """`copies`: by stack, how many of its copies are computed again, from the first on, and how many it has. `peak`: bytes of activations and
    gradients then. `flops`: of the products that are computed again."""

    copies: Mapping[str, tuple[int, int]]
    peak: int
    flops: int


def fewest(
    rows: Mapping[str, Tally], stacks: Mapping[str, int], peak: Callable[[Mapping[str, int]], int], number: Callable[[Polynomial], int], room: int
) -> Again:
    """The fewest copies with which the peak is at most `room`, those first that keep the most bytes for a floating-point operation.

    `rows`: what a step comes to with none; `stacks`: how many copies each has; `peak`: bytes with so many copies of each computed again; `number`: of
    a polynomial. Where no copies are enough, all are computed again, and the peak is above `room`.
    """
    kept = {stack: sum(number(tally.of("kept")) for name, tally in rows.items() if name.startswith(f"{stack}[*]")) for stack in stacks}
    flops = {stack: sum(number(tally.of("flops")) for name, tally in rows.items() if name.startswith(f"{stack}[*]")) for stack in stacks}
    best = sorted((stack for stack in stacks if kept[stack]), key=lambda stack: flops[stack] / kept[stack])
    order = [stack for stack in best for _ in range(stacks[stack])]
    peaks: dict[int, int] = {}

    def fits(count: int) -> bool:
        peaks[count] = peak({stack: order[:count].count(stack) for stack in best})
        return peaks[count] <= room

    low, high = 0, len(order)
    if fits(0):
        high = 0
    elif fits(high):
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if fits(middle) else (middle, high)
    copies = {stack: (order[:high].count(stack), stacks[stack]) for stack in best if order[:high].count(stack)}
    return Again(copies, peaks[high], sum(flops[stack] * count // of for stack, (count, of) in copies.items()))
