"""Soft top-k against a root finder, against the paper's dual updates, and against what others wrote of those."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor

import mptc

TEXT = "model m bidirectional {{\n  input s: []\n  output m = softtopk[seq](s, keep = {keep}, eps = {eps}{more})\n}}\n"


def soft(s: Tensor, keep: str, eps: str, folder: Path, more: str = "") -> Tensor:
    path = folder / "m.mpt"
    path.write_text(TEXT.format(keep=keep, eps=eps, more=more))
    found: Tensor = mptc.load(path)(s).m
    return found


def drawn(batch: int, tokens: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(batch, tokens, generator=torch.Generator().manual_seed(tokens), dtype=torch.float64)


def level(s: list[float], keep: int, eps: float) -> float:
    """The scalar a for which Σ min(1, exp((s + a) / eps)) is `keep`, by bisection to the last bit, with sums that do not round."""
    low, high = -max(s) - 800 * eps, -min(s) + 60 * eps
    for _ in range(300):
        middle = (low + high) / 2
        total = math.fsum(min(1.0, math.exp(min(0.0, (each + middle) / eps))) for each in s)
        low, high = (low, middle) if total >= keep else (middle, high)
    return high


@pytest.mark.parametrize("eps", ["0.03", "0.3", "1"])
@pytest.mark.parametrize(("tokens", "keep"), [(7, "2"), (40, "seq / 3"), (40, "seq - 1"), (200, "0.4 * seq")])
def test_it_is_the_root(tokens: int, keep: str, eps: str, tmp_path: Path) -> None:
    s = drawn(3, tokens)
    found = soft(s, keep, eps, tmp_path)
    number = math.ceil({"2": 2, "seq / 3": Fraction(tokens, 3), "seq - 1": tokens - 1, "0.4 * seq": Fraction(4, 10) * tokens}[keep])
    for row, own in zip(s.tolist(), found.tolist(), strict=True):
        a = level(row, number, float(eps))
        weights = [min(1.0, math.exp(min(0.0, (each + a) / float(eps)))) for each in row]
        best = sorted(range(tokens), key=lambda place, row=row: (-row[place], place))[:number]
        assert max(abs(own[place] - (weights[place] if place in best else 0.0)) for place in range(tokens)) <= 1e-12


def test_all_is_one(tmp_path: Path) -> None:
    assert (soft(drawn(2, 9), "seq", "0.03", tmp_path) == 1).all()
    assert (soft(drawn(2, 9), "50", "0.03", tmp_path) == 1).all()


def test_of_equals_the_lower_index(tmp_path: Path) -> None:
    found = soft(torch.tensor([[1.0, 2.0, 2.0, 0.0, 2.0, 2.0]], dtype=torch.float64), "3", "0.5", tmp_path)
    assert (found != 0).tolist() == [[False, True, True, False, True, False]]


def test_its_gradient_is_that_of_the_root(tmp_path: Path) -> None:
    """By differences of the root finder; the number that is kept does not move."""
    s, keep, eps, width = drawn(1, 11), 4, 0.7, 1e-5
    along = torch.randn(11, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    weights = torch.randn(11, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    given = s.clone().requires_grad_()
    (slope,) = torch.autograd.grad((soft(given, str(keep), str(eps), tmp_path)[0] * weights).sum(), given)

    def value(moved: float) -> float:
        row = (s[0] + moved * along).tolist()
        a = level(row, keep, eps)
        best = sorted(range(11), key=lambda place: -row[place])[:keep]
        return sum(float(weights[place]) * min(1.0, math.exp((row[place] + a) / eps)) for place in best)

    assert abs(float(slope[0] @ along) - (value(width) - value(-width)) / (2 * width)) <= 1e-6


@pytest.mark.parametrize("steps", [1, 3, 20])
@pytest.mark.parametrize("eps", [0.1, 1.0])
def test_the_papers_iterates(steps: int, eps: float, tmp_path: Path) -> None:
    """Duals that begin at 0, by their formulas."""
    s, keep = drawn(2, 13), 4
    a, b = torch.zeros(2, 1, dtype=torch.float64), torch.zeros_like(s)
    for _ in range(steps):
        a = eps * (math.log(keep) - torch.logsumexp((s + b) / eps, 1, keepdim=True))
        b = (-s - a).clamp(max=0)
    weights = ((s + a + b) / eps).exp()
    assert float((soft(s, str(keep), str(eps), tmp_path, f", steps = {steps}") - weights * best(s, keep)).abs().max()) <= 1e-12


def descent(s: Tensor, steps: int, keep: int, eps: float) -> Tensor:
    """What colt5-attention computes, with one eps throughout."""
    found: Tensor = pytest.importorskip("colt5_attention.coor_descent").coor_descent(
        s, n_iters=steps, k=float(keep), eps=eps, eps_init=eps, eps_decay=1.0
    )
    return found


def best(s: Tensor, keep: int) -> Tensor:
    return torch.zeros_like(s).scatter(1, s.topk(keep, 1).indices, 1.0)


@pytest.mark.parametrize("eps", [0.1, 1.0])
def test_it_is_where_colt5_attention_goes(eps: float, tmp_path: Path) -> None:
    """After many of its updates: the same weights as solved at once."""
    s, keep = drawn(2, 13), 4
    assert float((soft(s, str(keep), str(eps), tmp_path) - descent(s, 4000, keep, eps) * best(s, keep)).abs().max()) <= 1e-7


@pytest.mark.parametrize("steps", [1, 5, 20])
@pytest.mark.parametrize("eps", [0.1, 1.0])
def test_its_iterates_are_those_of_colt5_attention(steps: int, eps: float, tmp_path: Path) -> None:
    """That begins at b = -s, where all scores are alike: of scores up to 0 its first update gives b = 0, where ours begin. A score that all have more
    moves none of ours."""
    s, keep = drawn(2, 13), 4
    below = s - s.max(1, keepdim=True).values
    found = soft(s, str(keep), str(eps), tmp_path, f", steps = {steps}")
    assert float((found - descent(below, steps + 1, keep, eps) * best(s, keep)).abs().max()) <= 1e-12
