"""What a call holds in memory."""

from __future__ import annotations

from collections.abc import Callable
from itertools import accumulate

import torch


def peak(call: Callable[[], object], device: str) -> int:
    """Bytes that the allocator had given out and not got back, at the worst moment of a call, beyond what there was before it.

    On the CPU they are counted by torch's memory profiler, which sees whatever asks torch's allocator: operators, what they need inside, and
    kernels of torch.compile. A process's resident size would add whatever malloc keeps.
    """
    if device == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with torch.autograd.profiler.profile(profile_memory=True) as found:
        call()
    assert found.kineto_results is not None
    moves = sorted((each.start_ns(), each.nbytes()) for each in found.kineto_results.events() if each.name() == "[memory]")
    return max(accumulate(size for _, size in moves), default=0)
