"""No token of a causal spec sees a later one, in float64: neither by changing later tokens nor by derivatives; and what is left out is not missed."""

from __future__ import annotations

import pytest

from tests.gallery.common import SPECS, causal, loaded
from tests.gallery.drawn import drawn, per_sequence, typed

TOKENS, MEMORY = 9, 7
SIZES = {"windowed_documents": {"document": 3}, "gpt2": {"places": 12}, "yuriiformer": {"places": 12}}
NAMES = [path.stem for path in sorted(SPECS.glob("*.mpt")) if typed(path.stem, {}).causal]


def test_there_are_causal_specs() -> None:
    assert {"cem_small", "encoder_decoder", "gpt2", "llama_small", "mpt_multimodal", "nrgpt", "windowed_documents"} < set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_no_later_token(name: str) -> None:
    sizes = SIZES.get(name, {})
    model = typed(name, sizes)
    causal(loaded(name, **sizes), drawn(model, TOKENS, MEMORY), per_sequence(model))


@pytest.mark.parametrize("name", ["t5_bias", "hyper_set", "energy_transformer"])
def test_looking_ahead_is_found(name: str) -> None:
    model = typed(name, {})
    with pytest.raises(AssertionError):
        causal(loaded(name), drawn(model, TOKENS, MEMORY), per_sequence(model))
