"""Continuing a text byte by byte. The whole window is computed again for each byte."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from mptc.runtime.errors import UserError
from mptc.runtime.settings import at_least
from mptc.runtime.surface import BYTES, Surface, require_continuation


@dataclass(frozen=True)
class Draw:
    """How a byte is chosen. `temperature` 0 takes the likeliest; `top_k` 0 is all; at most the last `window` bytes are seen."""

    temperature: float = 1.0
    top_k: int = 0
    seed: int = 0
    window: int = 256


def generate(model: nn.Module, surface: Surface, prompt: bytes, tokens: int, draw: Draw) -> Iterator[int]:
    """Yield `tokens` bytes that continue `prompt`, a function of the seed.

    Raises `UserError` for a model that cannot continue bytes, an empty prompt or a number out of range.
    """
    require_continuation(surface)
    if not prompt:
        raise UserError("error: the prompt is empty; a model continues at least one byte")
    for option, number, least in (("tokens", tokens, 0), ("top-k", draw.top_k, 0), ("seed", draw.seed, 0), ("window", draw.window, 1)):
        at_least(option, number, least)
    if not 0 <= draw.temperature < math.inf:
        raise UserError(f"error: --temperature is {draw.temperature:g}; it must be a number of at least 0")
    return _continue(model.eval(), str(surface.logits), list(prompt), tokens, draw)


def _continue(model: nn.Module, logits: str, seen: list[int], tokens: int, draw: Draw) -> Iterator[int]:
    source = torch.Generator().manual_seed(draw.seed)
    for _ in range(tokens):
        with torch.no_grad():
            out = model(torch.tensor([seen[-draw.window :]]))
        seen.append(choose(getattr(out, logits)[0, -1, :BYTES].float(), draw.temperature, draw.top_k, source))
        yield seen[-1]


def choose(logits: Tensor, temperature: float, top_k: int, source: torch.Generator) -> int:
    """A byte by its logits `[256]`."""
    if temperature == 0:
        return int(logits.argmax())
    if 0 < top_k < len(logits):
        values, indices = logits.topk(top_k)
        return int(indices[choose(values, temperature, 0, source)])
    return int(torch.multinomial(torch.softmax(logits / temperature, -1), 1, generator=source))
