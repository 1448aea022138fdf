"""Continuing a prompt."""

import pytest
import torch
from torch import nn

from mptc.runtime.errors import UserError
from mptc.runtime.generate import Draw, choose, generate
from mptc.runtime.load import instantiate
from tests.runtime.stand_in import SURFACE, TEXT


def continued(draw: Draw, prompt: bytes = b"abc", tokens: int = 12) -> list[int]:
    return list(generate(instantiate("stand_in", TEXT), SURFACE, prompt, tokens, draw))


def test_a_function_of_the_seed() -> None:
    first = continued(Draw(seed=1))
    assert len(first) == 12
    assert all(0 <= byte < 256 for byte in first)
    assert continued(Draw(seed=1)) == first
    assert continued(Draw(seed=2)) != first


def test_greedy_is_top_one() -> None:
    assert continued(Draw(temperature=0)) == continued(Draw(top_k=1, seed=9))


def test_only_the_window_is_seen() -> None:
    last = continued(Draw(temperature=0, window=3), b"zzzabc", 1)
    assert last == continued(Draw(temperature=0, window=3), b"abc", 1)
    model = instantiate("stand_in", TEXT).eval()
    assert last == [int(model(torch.tensor([list(b"abc")])).logits[0, -1].argmax())]


def test_top_k_leaves_the_others_out() -> None:
    logits = torch.tensor([0.0, 3.0, 1.0, 2.0])
    drawn = {choose(logits, 5.0, 2, torch.Generator().manual_seed(seed)) for seed in range(50)}
    assert drawn == {1, 3}


def test_ids_beyond_bytes_are_never_drawn() -> None:
    class Wide(nn.Module):
        def forward(self, tokens: torch.Tensor) -> object:
            logits = torch.zeros(*tokens.shape, 300)
            logits[..., 256:] = 100.0
            return type("Outputs", (), {"logits": logits})

    assert max(generate(Wide(), SURFACE, b"a", 40, Draw())) < 256


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        (Draw(temperature=-1), "--temperature is -1; it must be a number of at least 0"),
        (Draw(temperature=float("nan")), "--temperature is nan"),
        (Draw(top_k=-1), "--top-k is -1; it must be at least 0"),
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
