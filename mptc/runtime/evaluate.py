"""How good a model is on what it was not trained on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mptc.runtime.data import Batch, Data
from mptc.runtime.errors import DataError
from mptc.runtime.surface import Surface, Target


class Evaluation(NamedTuple):
    """After `step` steps. `accuracy`: the share of what the loss counts whose likeliest id is right; None where there are no logits to tell."""

    step: int
    loss: float
    accuracy: float | None

    def told(self, unit: str) -> str:
        right = "" if self.accuracy is None else f", accuracy {self.accuracy:.1%}"
        return f"step {self.step:>6}  held-out loss {self.loss:.4f}{unit}{right}"


def unit(surface: Surface, data: Data) -> str:
    """What the held-out loss is measured in, where it is one cross-entropy and nothing else."""
    if surface.target is None or not surface.alone:
        return ""
    return f" nats per {'byte' if data.kind == 'text' else 'token' if surface.target.per_token else 'sequence'}"


def evaluate(model: nn.Module, surface: Surface, batches: Iterable[Batch], step: int = 0) -> Evaluation:
    """The mean loss over all that counts in the batches; over examples, where that is more than one cross-entropy of ids."""
    target = surface.target
    total, weight, right = 0.0, 0, 0
    model.eval()
    with torch.no_grad():
        for batch in batches:
            count = counting(surface, batch)
            if count:
                out = model(**batch, loss=True)
                total += float(out.loss) * count
                weight += count
                right += _right(target, batch, getattr(out, target.logits)) if target and target.logits else 0
    model.train()
    return Evaluation(step, total / weight, right / weight if target and target.logits else None)


def require_counting(surface: Surface, batches: Iterable[Batch], what: str) -> None:
    """Raise `DataError` where the loss counts nothing in any of them."""
    if surface.target and not any(counting(surface, batch) for batch in batches):
        raise DataError(f"error: the loss counts no id of {surface.target.input} in {what}: all that it looks at are below 0")


def counting(surface: Surface, batch: Batch) -> int:
    """How many ids of a batch the loss counts; how many examples there are, where it is not one cross-entropy of ids."""
    if surface.target is None:
        return len(next(iter(batch.values())))
    return int((_ids(surface.target, batch) >= 0).sum())


def _ids(target: Target, batch: Batch) -> Tensor:
    ids = batch[target.input]
    return ids[:, 1:] if target.following else ids


def _right(target: Target, batch: Batch, logits: Tensor) -> int:
    """How many of the ids that count are the likeliest. logits: `[batch, seq, vocab]` or `[batch, vocab]`."""
    ids = _ids(target, batch)
    likeliest = (logits[:, :-1] if target.following else logits).argmax(-1)
    return int(((likeliest == ids) & (ids >= 0)).sum())
