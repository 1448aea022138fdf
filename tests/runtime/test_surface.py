"""What training and generating refuse, read off the typed model."""

import dataclasses

import pytest

from mptc.ir.axis import dim
from mptc.model import tree
from mptc.runtime.errors import UserError
from mptc.runtime.surface import Surface, require_bytes, require_continuation, require_loss, surface
from mptc.source.text import Source, Span
from tests.runtime.stand_in import SURFACE

SPAN = Span(Source("m.mpt", ""), 0, 0)
VOCAB = dim("vocab")


def model(inputs: list[tree.Shape], *, causal: bool = True, extra: tuple[tree.Statement, ...] = ()) -> tree.Model:
    body = tuple(tree.Input(tree.Binding(f"in{i}", shape, SPAN), span=SPAN) for i, shape in enumerate(inputs))
    return tree.Model("m", causal, body + extra, {VOCAB: 300, dim("d"): 4}, SPAN)


def output(name: str, axis: str) -> tree.Output:
    axes = (dim(axis),)
    return tree.Output(name, axes, tree.Expr(shape=tree.Shape(axes, tree.Per.TOKEN), span=SPAN), span=SPAN)


IDS = tree.Shape((), tree.Per.TOKEN, VOCAB)


def test_a_language_model() -> None:
    loss = tree.Loss(tree.Expr(shape=tree.Shape(), span=SPAN), span=SPAN)
    facts = surface(model([IDS], extra=(output("hidden", "d"), output("scores", "vocab"), loss)))
    assert facts == Surface("m", True, ("in0",), 300, "scores", True)
    require_bytes(facts)
    require_loss(facts)
    require_continuation(facts)


NUMBERS = tree.Shape((dim("d"),), tree.Per.TOKEN)
LABEL = tree.Shape((), tree.Per.SEQUENCE, VOCAB)
PATCHES = tree.Shape((dim("d"),), tree.Per.TOKEN, VOCAB)


@pytest.mark.parametrize("inputs", [[], [IDS, IDS], [NUMBERS], [LABEL], [PATCHES]])
def test_other_inputs(inputs: list[tree.Shape]) -> None:
    with pytest.raises(UserError, match="must have one input, an id for each token"):
        require_bytes(surface(model(inputs)))


def test_refusals_say_why() -> None:
    with pytest.raises(UserError, match="vocabulary of 255; bytes need at least 256"):
        require_bytes(dataclasses.replace(SURFACE, vocab=255))
    with pytest.raises(UserError, match="declares no loss"):
        require_loss(dataclasses.replace(SURFACE, loss=False))
    with pytest.raises(UserError, match="bidirectional"):
        require_continuation(dataclasses.replace(SURFACE, causal=False))
    with pytest.raises(UserError, match="to draw from"):
        require_continuation(dataclasses.replace(SURFACE, logits=None))
