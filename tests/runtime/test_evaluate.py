"""The held-out loss is the mean over all that counts, however it is spread over batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mptc.runtime.data import Batch
from mptc.runtime.errors import DataError
from mptc.runtime.evaluate import Evaluation, counting, evaluate, require_counting, unit
from mptc.runtime.surface import Argument, Surface, Target

INPUTS = (Argument("tokens", True, (), ("vocab", 5)), Argument("targets", True, (), ("vocab", 5)))
SURFACE = Surface("m", False, INPUTS, None, True, Target("targets", True, False, "logits"), True, ("targets",))


class Fixed(nn.Module):
    """Its logits are a table's rows; its loss is `mean`, of the cross-entropy of what counts."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(5, 5, generator=torch.Generator().manual_seed(0)))

    def forward(self, tokens: Tensor, targets: Tensor, loss: bool = False) -> SimpleNamespace:
        logits = self.table[tokens]
        return SimpleNamespace(logits=logits, loss=F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1))


def examples(count: int = 30) -> Batch:
    draw = torch.Generator().manual_seed(1)
    tokens, targets = (torch.randint(0, 5, (count, 4), generator=draw) for _ in range(2))
    hidden = torch.rand(count, 4, generator=draw) < torch.linspace(0, 1, count)[:, None]  # ever more of them
    return {"tokens": tokens, "targets": torch.where(hidden, -1, targets)}


def batches(whole: Batch, sizes: list[int]) -> Iterator[Batch]:
    for parts in zip(*(tensor.split(sizes) for tensor in whole.values()), strict=True):
        yield dict(zip(whole, parts, strict=True))


@pytest.mark.parametrize("sizes", [[30], [1] * 30, [20, 9, 1], [7, 7, 7, 7, 2]])
def test_batches_do_not_matter(sizes: list[int]) -> None:
    model, whole = Fixed(), examples()
    assert not (whole["targets"][-1] >= 0).any()  # one by one, some count nothing
    found = evaluate(model, SURFACE, batches(whole, sizes), 7)
    with torch.no_grad():
        wanted = model(**whole)
    counts = whole["targets"] >= 0
    assert found.step == 7
    assert found.loss == pytest.approx(float(wanted.loss), rel=1e-6)
    assert found.accuracy == pytest.approx(float((wanted.logits.argmax(-1) == whole["targets"])[counts].float().mean()))
    assert model.training


def test_targets_that_follow() -> None:
    following = dataclasses.replace(SURFACE, target=Target("tokens", True, True, "logits"))
    batch = {"tokens": torch.tensor([[0, 1, 2, -1], [3, 3, -1, -1]]), "targets": torch.zeros(2, 4, dtype=torch.int64)}
    assert counting(following, batch) == 3
    model = Fixed()
    with torch.no_grad():
        model.table.copy_(torch.eye(5).roll(1, 1))  # the next id is likeliest
    assert evaluate(model, following, [batch]).accuracy == pytest.approx(2 / 3)


def test_what_is_not_one_cross_entropy_is_weighed_by_examples() -> None:
    other = dataclasses.replace(SURFACE, target=None, alone=False)
    assert counting(other, examples(6)) == 6
    assert evaluate(Fixed(), other, [examples(6)]).accuracy is None


def test_nothing_that_counts_is_said() -> None:
    nothing = {"tokens": torch.zeros(2, 4, dtype=torch.int64), "targets": torch.full((2, 4), -1)}
    require_counting(SURFACE, [nothing, examples()], "")
    with pytest.raises(DataError, match="the loss counts no id of targets in the held-out part: all that it looks at are below 0"):
        require_counting(SURFACE, [nothing], "the held-out part")


@pytest.mark.parametrize(
    ("surface", "kind", "said"),
    [
        (SURFACE, "arrays", " nats per token"),
        (SURFACE, "text", " nats per byte"),
        (dataclasses.replace(SURFACE, target=Target("label", False, False, None)), "function", " nats per sequence"),
        (dataclasses.replace(SURFACE, alone=False), "arrays", ""),
        (dataclasses.replace(SURFACE, target=None), "arrays", ""),
    ],
)
def test_the_unit(surface: Surface, kind: str, said: str) -> None:
    assert unit(surface, SimpleNamespace(kind=kind)) == said  # type: ignore[arg-type]


def test_how_it_is_told() -> None:
    assert Evaluation(30, 1.25, 0.5).told(" nats per byte") == "step     30  held-out loss 1.2500 nats per byte, accuracy 50.0%"
    assert Evaluation(30, 1.25, None).told("") == "step     30  held-out loss 1.2500"
