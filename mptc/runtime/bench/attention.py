"""The attentions that stand beside the kernel: torch's own backends and FlexAttention, with key as value, causal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

Attend = Callable[[Tensor, Tensor], Tensor]


def sides(kernel: Attend, compiles: bool) -> Iterator[tuple[str, Attend]]:
    """Ours first. Each takes queries and keys, [batch, heads, tokens, width]."""
    yield "kernels", kernel
    yield "SDPA default", lambda q, k: F.scaled_dot_product_attention(q, k, k, is_causal=True)
    yield "SDPA cuDNN", _cudnn
    yield "FlexAttention", lambda q, k: _flex(compiles)(q, k, k, block_mask=_causal(q.shape[-2], q.device))


def _cudnn(q: Tensor, k: Tensor) -> Tensor:
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        return F.scaled_dot_product_attention(q, k, k, is_causal=True)


@cache
def _flex(compiles: bool) -> Any:
    from torch.nn.attention.flex_attention import flex_attention

    return torch.compile(flex_attention) if compiles else flex_attention


@cache
def _causal(seq: int, device: torch.device) -> Any:
    from torch.nn.attention.flex_attention import create_block_mask

    return create_block_mask(lambda b, h, i, j: i >= j, None, None, seq, seq, device=str(device))


def rotated(attend: Attend, seq: int, width: int, like: Tensor) -> Attend:
    """With queries and keys rotated by their positions and the output rotated back, halves against each other."""
    rates = 10000.0 ** (-torch.arange(0, width, 2, device=like.device, dtype=torch.float32) / width)
    angles = (torch.arange(seq, device=like.device)[:, None] * rates).repeat(1, 2)
    cos, sin = angles.cos().to(like.dtype), angles.sin().to(like.dtype)

    def turned(x: Tensor, sign: int) -> Tensor:
        first, second = x.chunk(2, -1)
        return x * cos + sign * torch.cat((-second, first), -1) * sin

    return lambda q, k: turned(attend(turned(q, 1), turned(k, 1)), -1)
