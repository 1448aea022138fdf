"""Continuing texts byte by byte, with the derived cache as long as it holds what is seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mptc.runtime.errors import UserError
from mptc.runtime.sampling import Draw, Logits, choose
from mptc.runtime.settings import at_least
from mptc.runtime.surface import BYTES, Surface, require_continuation


def generate(model: nn.Module, surface: Surface, prompt: bytes, tokens: int, draw: Draw, cached: bool = True) -> Iterator[int]:
    """Yield up to `tokens` bytes that continue `prompt`, a function of the seed.

    `cached=False` computes all that is seen again for each byte. Raises `UserError` for a model that cannot continue bytes, an empty prompt or a
    number out of range.
    """
    for step in generate_all(model, surface, [prompt], tokens, draw, cached):
        if step[0] is not None:
            yield step[0]


def generate_all(
    model: nn.Module, surface: Surface, prompts: Sequence[bytes], tokens: int, draw: Draw, cached: bool = True
) -> Iterator[list[int | None]]:
    """Yield the next byte of every prompt, of any lengths, as one batch; None for those that have come to their end. As `generate`."""
    require_continuation(surface)
    if not all(prompts):
        raise UserError("error: the prompt is empty; a model continues at least one byte")
    at_least("tokens", tokens, 0)
    draw.check()
    if cached and not hasattr(model, "new_cache"):
        cached = False
    return _continue(model.eval(), str(surface.logits), [list(prompt) for prompt in prompts], tokens, draw, cached)


def _continue(model: nn.Module, logits: str, rows: list[list[int]], tokens: int, draw: Draw, cached: bool) -> Iterator[list[int | None]]:
    sources = [draw.source(row) for row in range(len(rows))]
    ended = [False] * len(rows)
    read = Cached(model, logits, len(rows), draw.window) if cached else Whole(model, logits, draw.window)
    for _ in range(tokens):
        following = read(rows, ended)
        step: list[int | None] = []
        for row, seen in enumerate(rows):
            chosen = None if ended[row] else choose(following[row], draw, sources[row])
            if chosen in draw.stop:
                chosen = None
            ended[row] = chosen is None
            seen += [] if chosen is None else [chosen]
            step.append(chosen)
        if all(ended):
            return
        yield step


class Whole:
    """The logits of what comes next, from all that is seen anew."""

    def __init__(self, model: nn.Module, logits: str, window: int) -> None:
        self.model, self.logits, self.window = model, logits, window

    def __call__(self, rows: list[list[int]], ended: list[bool]) -> list[Logits]:
        return [_numbers(self._call(torch.tensor([row[-self.window :]]))[0, -1]) for row in rows]

    def _call(self, tokens: Tensor, **options: object) -> Tensor:
        with torch.no_grad():
            found = getattr(self.model(tokens, **options), self.logits)
        assert isinstance(found, Tensor)
        return found


class Cached(Whole):
    """From what is new behind what a cache holds, until more is there than is to be seen."""

    def __init__(self, model: nn.Module, logits: str, batch: int, window: int) -> None:
        super().__init__(model, logits, window)
        self.cache = model.new_cache(batch=batch, capacity=window)  # type: ignore[operator]
        self.done = [0] * batch

    def __call__(self, rows: list[list[int]], ended: list[bool]) -> list[Logits]:
        if max(map(len, rows)) > self.window:
            return super().__call__(rows, ended)
        new = [row[done:] for row, done in zip(rows, self.done, strict=True)]
        longest = max(map(len, new))
        tokens = torch.tensor([[*row, *[-1] * (longest - len(row))] for row in new])
        found = self._call(tokens, cache=self.cache)
        self.done = [len(row) for row in rows]
        return [_numbers(each[max(len(row) - 1, 0)]) for each, row in zip(found, new, strict=True)]


def _numbers(logits: Tensor) -> Logits:
    """Those of the bytes, of a vocabulary that may have further ids."""
    return np.asarray(logits[:BYTES].float().cpu().numpy())
