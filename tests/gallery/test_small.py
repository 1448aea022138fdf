"""The judges of the gallery can say no."""

from __future__ import annotations

import pytest
from torch import Tensor

from tests.gallery.common import Tensors, agree, causal, errors, ids, loaded

VOCAB = 61


def test_a_difference_is_found() -> None:
    model, given = loaded("alibi", vocab=VOCAB, d=24), {"tokens": ids(VOCAB, 2, 5)}

    def other(p: Tensors, tokens: Tensor) -> Tensors:
        return {"logits": model(tokens).logits.detach() + p["embed"].sum() * 1e-6}

    assert errors(model, other, given)["logits"] > 1e-9
    with pytest.raises(AssertionError):
        agree(model, other, given)


def test_looking_ahead_is_found() -> None:
    with pytest.raises(AssertionError):
        causal(loaded("t5_bias", vocab=VOCAB), {"tokens": ids(VOCAB, 2, 5)})
