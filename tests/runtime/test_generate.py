"""Continuing a prompt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import mptc
from mptc.runtime.errors import UserError
from mptc.runtime.generate import generate, generate_all
from mptc.runtime.load import instantiate
from mptc.runtime.sampling import Draw, choose
from tests.runtime.stand_in import SURFACE, TEXT

SPECS = Path(__file__).resolve().parent.parent.parent / "specs"


def continued(draw: Draw, prompt: bytes = b"abc", tokens: int = 12) -> list[int]:
    return list(generate(instantiate("stand_in", TEXT), SURFACE, prompt, tokens, draw))


def test_a_function_of_the_seed() -> None:
    first = continued(Draw(seed=1))
    assert len(first) == 12
    assert all(0 <= byte < 256 for byte in first)
    assert continued(Draw(seed=1)) == first
    assert continued(Draw(seed=2)) != first


def test_greedy_is_top_one() -> None:
    assert continued(Draw(temperature=0)) == continued(Draw(top_k=1, seed=9)) == continued(Draw(top_p=1e-9, seed=3))


def test_only_the_window_is_seen() -> None:
    last = continued(Draw(temperature=0, window=3), b"zzzabc", 1)
    assert last == continued(Draw(temperature=0, window=3), b"abc", 1)
    model = instantiate("stand_in", TEXT).eval()
    assert last == [int(model(torch.tensor([list(b"abc")])).logits[0, -1].argmax())]


def test_a_stop_ends_the_text() -> None:
    whole = continued(Draw(seed=5))
    assert len(set(whole)) > 6
    place = next(place for place, byte in enumerate(whole) if byte not in whole[:place] and place > 3)
    assert continued(Draw(seed=5, stop=(whole[place],))) == whole[:place]


def drawn(logits: list[float], draw: Draw) -> list[int]:
    return [choose(np.array(logits), draw, np.random.default_rng(seed)) for seed in range(400)]


def test_top_k_and_top_p_leave_the_others_out() -> None:
    logits = [0.0, 3.0, 1.0, 2.0]
    assert set(drawn(logits, Draw(temperature=5.0, top_k=2))) == {1, 3}
    assert set(drawn(logits, Draw(top_p=0.8))) == {1, 3}  # 0.64 and 0.24
    assert set(drawn(logits, Draw(top_p=0.6))) == {1}
    assert set(drawn([1.0, 1.0, 1.0], Draw(top_k=2))) == {0, 1}  # of equal ones the lower


def test_draws_follow_the_probabilities() -> None:
    found = drawn([0.0, np.log(3.0)], Draw())
    assert 0.68 < np.mean(found) < 0.82


def test_ids_beyond_bytes_are_never_drawn() -> None:
    class Wide(nn.Module):
        def forward(self, tokens: torch.Tensor) -> object:
            logits = torch.zeros(*tokens.shape, 300)
            logits[..., 256:] = 100.0
            return type("Outputs", (), {"logits": logits})

    assert max(generate(Wide(), SURFACE, b"a", 40, Draw())) < 256


@pytest.mark.parametrize("spec", ["cem_small", "llama_small", "latent_attention", "alibi"])
def test_the_cache_changes_nothing(spec: str) -> None:
    """The same greedy text with and without it, past the window too; and prompts of different lengths in one batch go on as alone."""
    model = mptc.load(SPECS / f"{spec}.mpt", variant="tiny").double()
    with torch.no_grad():
        for value in model.parameters():
            value.mul_(3)
    draw = Draw(temperature=0, window=24)
    prompts = [b"ROMEO:", b"a", b"To be, or"]
    alone = [list(generate(model, SURFACE, prompt, 30, draw, cached=False)) for prompt in prompts]
    assert [list(generate(model, SURFACE, prompt, 30, draw)) for prompt in prompts] == alone
    steps = list(generate_all(model, SURFACE, prompts, 12, draw))
    assert [list(row) for row in zip(*steps, strict=True)] == [row[:12] for row in alone]
    ended = list(generate_all(model, SURFACE, prompts, 12, Draw(temperature=0, window=24, stop=(alone[1][4],))))
    assert [step[1] for step in ended][:5] == [*alone[1][: alone[1].index(alone[1][4])], *[None] * 5][:5]


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        (Draw(temperature=-1), "--temperature is -1; it must be a number of at least 0"),
        (Draw(temperature=float("nan")), "--temperature is nan"),
        (Draw(top_k=-1), "--top-k is -1; it must be at least 0"),
        (Draw(top_p=0), "--top-p is 0; it must be above 0 and at most 1"),
        (Draw(window=0), "--window is 0; it must be at least 1"),
        (Draw(seed=-1), "--seed is -1"),
    ],
)
def test_numbers_out_of_range(draw: Draw, said: str) -> None:
    with pytest.raises(UserError, match=said):
        continued(draw)


def test_an_empty_prompt() -> None:
    with pytest.raises(UserError, match="prompt is empty"):
        continued(Draw(), b"")
