"""What a program over text has to know of a model: read off its typed tree, so that training and generating refuse early and say why."""

from __future__ import annotations

from dataclasses import dataclass

from mptc.model.tree import Input, Loss, Model, Output, Per
from mptc.runtime.errors import UserError

BYTES = 256


@dataclass(frozen=True)
class Surface:
    """`vocab` is how many ids the one input has, None where the model's inputs are not one id for each token.

    `logits` names the output with one number for each id, for each token.
    """

    name: str
    causal: bool
    inputs: tuple[str, ...]
    vocab: int | None
    logits: str | None
    loss: bool


def surface(model: Model) -> Surface:
    """The facts, from the model's own body: inputs, outputs and losses stand nowhere else."""
    inputs = [statement.binding for statement in model.body if isinstance(statement, Input)]
    ids = inputs[0].shape if len(inputs) == 1 else None
    vocabulary = ids.vocabulary if ids and not ids.axes and ids.per is Per.TOKEN else None
    outputs = [statement for statement in model.body if isinstance(statement, Output)]
    logits = [each.name for each in outputs if each.axes == (vocabulary,) and each.value.shape.per is Per.TOKEN]
    return Surface(
        name=model.name,
        causal=model.causal,
        inputs=tuple(binding.name for binding in inputs),
        vocab=model.sizes[vocabulary] if vocabulary else None,
        logits=logits[0] if logits else None,
        loss=any(isinstance(statement, Loss) for statement in model.body),
    )


def require_bytes(surface: Surface) -> None:
    """Raise `UserError` unless the model reads bytes: one id input for each token, of a vocabulary that holds them."""
    if surface.vocab is None:
        found = ", ".join(surface.inputs) or "none"
        raise UserError(f"error: model {surface.name} must have one input, an id for each token, to read text; its inputs are: {found}")
    if surface.vocab < BYTES:
        raise UserError(f"error: model {surface.name} has a vocabulary of {surface.vocab}; bytes need at least {BYTES}")


def require_loss(surface: Surface) -> None:
    """Raise `UserError` where there is nothing to train on."""
    if not surface.loss:
        raise UserError(f"error: model {surface.name} declares no loss to train on; add `loss cross_entropy[vocab](logits, next(tokens))`")


def require_continuation(surface: Surface) -> None:
    """Raise `UserError` unless the model can continue a text: causal, with logits over its ids."""
    if not surface.causal:
        raise UserError(f"error: model {surface.name} is bidirectional: it sees later tokens, so it cannot continue a text")
    if surface.logits is None:
        raise UserError(f"error: model {surface.name} has no output with one number for each id of its vocabulary to draw from")
