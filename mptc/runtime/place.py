"""Where a model is trained, and in which numbers."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from mptc.runtime.data import Batch
from mptc.runtime.errors import UserError
from mptc.runtime.settings import Settings

ROUNDS = 3
SIZE = {"cpu": 1024, "cuda": 8192}  # of the matrices whose product is timed


@dataclass(frozen=True)
class Place:
    """A device, and the dtype of products there: float32, or bfloat16 by autocast, the weights and their sums staying float32."""

    device: torch.device
    dtype: torch.dtype

    def here(self, batch: Batch) -> Batch:
        return {name: tensor.to(self.device) for name, tensor in batch.items()}

    def all_here(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        return map(self.here, batches)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32)

    def speed(self) -> float:
        """Floating-point operations in a second of one large product, the fastest of a few: what MFU is a share of."""
        size = SIZE[self.device.type]
        left, seconds = torch.ones(size, size, device=self.device, dtype=self.dtype), []
        for _ in range(ROUNDS):
            self._wait()
            began = time.perf_counter()
            left @ left
            self._wait()
            seconds.append(time.perf_counter() - began)
        return 2 * size**3 / min(seconds)

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def place(settings: Settings) -> Place:
    """Raises `UserError` where there is no such device."""
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise UserError("error: --device is cuda, and torch finds none here")
    return Place(torch.device(settings.device), getattr(torch, settings.dtype))
