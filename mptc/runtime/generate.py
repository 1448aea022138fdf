"""Continuing texts byte by byte, or token by token, with the derived cache as long as it holds what is seen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mptc.runtime.codec import Bytes, Codec
from mptc.runtime.errors import UserError
from mptc.runtime.sampling import Draw, Logits, choose
from mptc.runtime.settings import at_least
from mptc.runtime.surface import BYTES, Surface, require_continuation


def generate(
    model: nn.Module, surface: Surface, prompt: Sequence[int], tokens: int, draw: Draw, cached: bool = True, codec: Codec = Bytes()
) -> Iterator[int]:
    """Yield up to `tokens` bytes, or ids of `codec`, that continue `prompt`, a function of the seed.

    `cached=False` computes all that is seen again for each byte. Raises `UserError` for a model that cannot continue bytes, an empty prompt or a
    number out of range.
    """
    steps = generate_all(model, surface, [prompt], tokens, draw, cached, codec)
    return (step[0] for step in steps if step[0] is not None)


def generate_all(
    model: nn.Module, surface: Surface, prompts: Sequence[Sequence[int]], tokens: int, draw: Draw, cached: bool = True, codec: Codec = Bytes()
) -> Iterator[list[int | None]]:
    """Yield the next byte of every prompt, of any lengths, as one batch; None for those that have come to their end. As `generate`."""
    require_continuation(surface, codec.size, codec.told)
    if not all(prompts):
        raise UserError(f"error: the prompt is empty; a model continues at least one {codec.unit}")
    at_least("tokens", tokens, 0)
    draw.check()
    if cached and not hasattr(model, "new_cache"):
        cached = False
    return _continue(model.eval(), str(surface.logits), [list(prompt) for prompt in prompts], tokens, draw, cached, codec.size)


def _continue(
    model: nn.Module, logits: str, rows: list[list[int]], tokens: int, draw: Draw, cached: bool, size: int
) -> Iterator[list[int | None]]:
    sources = [draw.source(row) for row in range(len(rows))]
    ended = [False] * len(rows)
    read = Cached(model, logits, len(rows), draw.window, size) if cached else Whole(model, logits, draw.window, size)
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

    def __init__(self, model: nn.Module, logits: str, window: int, size: int = BYTES) -> None:
        self.model, self.logits, self.window, self.size = model, logits, window, size

    def __call__(self, rows: list[list[int]], ended: list[bool]) -> list[Logits]:
        return [self._numbers(self._call(torch.tensor([row[-self.window :]]))[0, -1]) for row in rows]

    def _call(self, tokens: Tensor, **options: object) -> Tensor:
        with torch.no_grad():
            found = getattr(self.model(tokens, **options), self.logits)
        assert isinstance(found, Tensor)
        return found

    def _numbers(self, logits: Tensor) -> Logits:
        """Those of the bytes or tokens, of a vocabulary that may have further ids."""
        return np.asarray(logits[: self.size].float().cpu().numpy())


class Cached(Whole):
    """From what is new behind what a cache holds, until more is there than is to be seen."""

    def __init__(self, model: nn.Module, logits: str, batch: int, window: int, size: int = BYTES) -> None:
        super().__init__(model, logits, window, size)
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
        return [self._numbers(each[max(len(row) - 1, 0)]) for each, row in zip(found, new, strict=True)]
