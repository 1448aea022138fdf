"""What training and generating refuse, read off the typed model."""

import dataclasses
import json
from pathlib import Path

import pytest

from mptc.ir.axis import dim
from mptc.model import tree
from mptc.runtime.errors import UserError
from mptc.runtime.spec import typed_spec
from mptc.runtime.surface import Argument, Surface, Target, no_bytes, read_surface, require_continuation, require_loss, surface
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
    assert facts == Surface("m", True, (Argument("in0", True, (), ("vocab", 300)),), "scores", True)
    assert facts.vocab == 300
    assert no_bytes(facts) is None
    require_loss(facts)
    require_continuation(facts)


NUMBERS = tree.Shape((dim("d"),), tree.Per.TOKEN)
LABEL = tree.Shape((), tree.Per.SEQUENCE, VOCAB)
PATCHES = tree.Shape((dim("d"),), tree.Per.TOKEN, VOCAB)


@pytest.mark.parametrize("inputs", [[], [IDS, IDS], [NUMBERS], [LABEL], [PATCHES]])
def test_other_inputs(inputs: list[tree.Shape]) -> None:
    assert "must have one input, an id for each token" in str(no_bytes(surface(model(inputs))))


def test_refusals_say_why() -> None:
    small = dataclasses.replace(SURFACE, inputs=(Argument("tokens", True, (), ("vocab", 255)),))
    with pytest.raises(UserError, match="vocabulary of 255; bytes need at least 256, so there is no text that it could continue"):
        require_continuation(small)
    with pytest.raises(UserError, match="declares no loss"):
        require_loss(dataclasses.replace(SURFACE, loss=False))
    with pytest.raises(UserError, match="bidirectional"):
        require_continuation(dataclasses.replace(SURFACE, causal=False))
    with pytest.raises(UserError, match="to draw from"):
        require_continuation(dataclasses.replace(SURFACE, logits=None))


# -- what a loss counts --------------------------------------------------------------------------------------


def test_inputs_of_real_specs(root: Path) -> None:
    facts = surface(typed_spec(root / "specs/encoder_decoder.mpt", variant="tiny"))
    assert facts.inputs == (
        Argument("tokens", True, (), ("vocab", 256)),
        Argument("source", False, (("src", None),), ("vocab", 256)),
        Argument("mask", False, (("src", None),)),
    )
    assert facts.target == Target("tokens", per_token=True, following=True, logits="logits")
    assert (facts.alone, facts.masked) == (True, ("tokens",))
    assert surface(typed_spec(root / "specs/vit.mpt", variant="tiny")).target == Target("label", per_token=False, following=False, logits="logits")


FRAME = """
dim vocab = 8
dim d = 4
block heavy(x: [d]) {{
  penalty sum[d](x^2)
  return x
}}
model m {{
  input tokens: id[vocab]
  input targets: id[vocab]
  param embed: [vocab, d]
  x = lookup(embed, tokens)
  {}
}}
"""
LOGITS = "output logits = embed @ x"


@pytest.mark.parametrize(
    ("body", "target", "alone", "masked"),
    [
        ([LOGITS, "loss cross_entropy[vocab](logits, targets)"], Target("targets", True, False, "logits"), True, ["targets"]),
        ([LOGITS, "loss cross_entropy[vocab](embed @ x, next(tokens))"], Target("tokens", True, True, None), True, ["tokens"]),
        ([LOGITS, "ids = shift(targets, 1)", "loss cross_entropy[vocab](logits, ids)"], None, False, ["targets"]),
        ([LOGITS, "loss cross_entropy[vocab](logits, targets) / 2"], None, False, ["targets"]),
        (
            [LOGITS, "loss cross_entropy[vocab](logits, targets)", "loss cross_entropy[vocab](logits, next(tokens))"],
            None,
            False,
            ["tokens", "targets"],
        ),
        (
            ["x <- heavy(x)", LOGITS, "loss cross_entropy[vocab](logits, targets)"],
            Target("targets", True, False, "logits"),
            False,
            ["targets"],
        ),
        ([LOGITS, "loss sum[d](x^2)"], None, False, []),
    ],
)
def test_what_a_loss_counts(body: list[str], target: Target | None, alone: bool, masked: list[str], tmp_path: Path) -> None:
    (tmp_path / "m.mpt").write_text(FRAME.format("\n  ".join(body)))
    facts = surface(typed_spec(tmp_path / "m.mpt"))
    assert (facts.target, facts.alone, list(facts.masked)) == (target, alone, masked)
    assert read_surface(json.loads(json.dumps(dataclasses.asdict(facts)))) == facts


def test_a_target_that_was_updated_is_not_the_input(tmp_path: Path) -> None:
    (tmp_path / "m.mpt").write_text(FRAME.format(f"{LOGITS}\n  targets <- shift(targets, 1)\n  loss cross_entropy[vocab](logits, targets)"))
    assert surface(typed_spec(tmp_path / "m.mpt")).target is None
