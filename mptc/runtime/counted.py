"""What the cost model says of a run: the operations of one step, and which copies of stacks to compute again to fit a memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import nn

from mptc.cost.polynomial import sized
from mptc.runtime.again import compute_again
from mptc.runtime.asked import Asked
from mptc.runtime.data import Data
from mptc.runtime.errors import UserError
from mptc.runtime.settings import Settings, amount
from mptc.runtime.spec import as_settings, read
from mptc.runtime.surface import Surface
from mptc.show import computed_again, counted
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source

Found = TypeVar("Found")
WEIGHT, MOMENTS, GRADIENT = 4, 8, 4  # bytes of float32


def step_lengths(facts: Surface, data: Data, chosen: Settings) -> dict[str, int]:
    """Those of what goes through the model together: sequences, tokens, and the entries of each memory."""
    batch = data.training_batch(chosen.seed, 0)
    together = -(-chosen.batch // chosen.accumulate)
    found = {"batch": together, "seq": next((batch[each.name].shape[1] for each in facts.inputs if each.per_token), 1)}
    for each in facts.inputs:
        sizes = batch[each.name].shape[1 + each.per_token :]
        found |= {name: length for (name, size), length in zip(each.axes, sizes, strict=True) if size is None}
    return found


def flops(asked: Asked, lengths: dict[str, int], parts: int) -> int | None:
    """Floating-point operations of products in one training step, forward and backward; None of a model whose costs are not counted."""
    found = _of(asked, lambda source, diagnostics: counted(source, diagnostics, as_settings(asked.set), asked.variant, lengths))
    total = None if found is None else (found.total.forward + found.total.backward).at(lengths).value
    return None if total is None else round(total) * parts


def into_memory(model: nn.Module, asked: Asked, lengths: dict[str, int], chosen: Settings) -> str:
    """Have as few copies of stacks as it takes computed again, in place. Returns what was done, for the report.

    Raises `UserError` where a step does not fit even with all of them, or its memory is not counted.
    """
    given = amount(str(chosen.memory))
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    there = WEIGHT * sum(parameter.numel() for parameter in model.parameters()) + MOMENTS * trained + GRADIENT * trained * (chosen.accumulate > 1)
    found = _of(asked, lambda source, diagnostics: computed_again(source, diagnostics, as_settings(asked.set), asked.variant, lengths, given - there))
    if found is None:
        raise UserError("error: --memory: what a step of this model takes is not counted")
    takes = there + found.peak
    if takes > given:
        every = ", with every copy of its stacks computed again" if found.copies else ""
        smaller = "a smaller --batch, or --accumulate more parts" if lengths["batch"] > 1 else "a shorter --length"
        raise UserError(f"error: --memory is {chosen.memory}, and a step takes {sized(takes)}{every}; try {smaller}")
    compute_again(model, {stack: count for stack, (count, _) in found.copies.items()})
    done = ", ".join(f"{count} of {of} copies of {stack}" for stack, (count, of) in found.copies.items())
    return f"memory: a step takes {sized(takes)} of {chosen.memory}" + (f"; computed again on the way back: {done}" if done else "")


def _of(asked: Asked, stage: Callable[[Source, Diagnostics], Found | None]) -> Found | None:
    """What a stage finds of the spec, which is known to compile."""
    diagnostics = Diagnostics()
    source = read(asked.spec, diagnostics)
    return None if source is None else stage(source, diagnostics)
