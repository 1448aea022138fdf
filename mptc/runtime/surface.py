"""What training and generating have to know of a model: read off its typed tree, so that they refuse early and say why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from mptc.model.tree import Apply, Bind, Binding, Expr, Input, Load, Loss, Model, Output, Penalty, Per, Update
from mptc.runtime.errors import UserError

BYTES = 256


@dataclass(frozen=True)
class Argument:
    """One input. `axes`: names and sizes, None for a context, which is of any length; `vocabulary`: name and size of what its ids index."""

    name: str
    per_token: bool
    axes: tuple[tuple[str, int | None], ...] = ()
    vocabulary: tuple[str, int] | None = None


@dataclass(frozen=True)
class Target:
    """The ids that the loss, one cross-entropy, counts: those of an input, with `following` those one token later, where they are not below 0.

    `logits` names the output that they are compared with, where it is one.
    """

    input: str
    per_token: bool
    following: bool
    logits: str | None


@dataclass(frozen=True)
class Surface:
    """`logits` names the output with one number for each id of the one input, for each token.

    `loss`: whether one is declared. `target` is None unless it is one cross-entropy of an input's ids; `alone` then says that nothing else is added.
    `masked` are the inputs whose ids a loss counts: there, ids below 0 mean something.
    """

    name: str
    causal: bool
    inputs: tuple[Argument, ...]
    logits: str | None = None
    loss: bool = False
    target: Target | None = None
    alone: bool = False
    masked: tuple[str, ...] = ()

    @property
    def vocab(self) -> int | None:
        """How many ids the one input has, None where the model's inputs are not one id for each token."""
        first = self.inputs[0] if len(self.inputs) == 1 else None
        return first.vocabulary[1] if first and first.per_token and first.vocabulary and not first.axes else None


def read_surface(record: Mapping[str, Any]) -> Surface:
    """A surface from what JSON makes of one. Raises `TypeError`, `ValueError` or `KeyError` for anything else."""
    inputs = []
    for each in record["inputs"]:
        axes, vocabulary = tuple((str(name), size) for name, size in each["axes"]), each["vocabulary"]
        inputs.append(Argument(each["name"], each["per_token"], axes, vocabulary and (str(vocabulary[0]), int(vocabulary[1]))))
    target = record["target"] and Target(**record["target"])
    return Surface(**{**record, "inputs": tuple(inputs), "target": target, "masked": tuple(record["masked"])})


# -- reading a model ---------------------------------------------------------------------------------------


def surface(model: Model) -> Surface:
    """The facts, from the model's own body: inputs, outputs and losses stand nowhere else."""
    inputs = [statement.binding for statement in model.body if isinstance(statement, Input)]
    outputs = [statement for statement in model.body if isinstance(statement, Output)]
    losses = [statement.value for statement in model.body if isinstance(statement, Loss)]
    read = inputs[0].shape.vocabulary if len(inputs) == 1 else None
    logits = [each.name for each in outputs if each.axes == (read,) and each.value.shape.per is Per.TOKEN]
    target = _target(losses[0], inputs, outputs, _updated(model)) if len(losses) == 1 else None
    return Surface(
        name=model.name,
        causal=model.causal,
        inputs=tuple(_argument(binding, model) for binding in inputs),
        logits=logits[0] if logits else None,
        loss=bool(losses),
        target=target,
        alone=target is not None and not any(isinstance(part, Penalty) for part in _parts(model.body)),
        masked=tuple(binding.name for binding in inputs if binding in _counted(losses, model)),
    )


def _argument(binding: Binding, model: Model) -> Argument:
    shape = binding.shape
    vocabulary = (shape.vocabulary.name, model.sizes[shape.vocabulary]) if shape.vocabulary else None
    return Argument(binding.name, shape.per is Per.TOKEN, tuple((axis.name, model.sizes.get(axis)) for axis in shape.axes), vocabulary)


def _target(loss: Expr, inputs: list[Binding], outputs: list[Output], updated: set[Binding]) -> Target | None:
    if not (isinstance(loss, Apply) and loss.function == "cross_entropy"):
        return None
    logits, ids = loss.args
    following = isinstance(ids, Apply) and ids.function == "next"
    ids = ids.args[0] if isinstance(ids, Apply) and following else ids
    if not (isinstance(ids, Load) and ids.of in inputs and ids.of not in updated):
        return None
    same = [each.name for each in outputs if isinstance(logits, Load) and isinstance(each.value, Load) and each.value.of is logits.of]
    shown = same[0] if same and isinstance(logits, Load) and logits.of not in updated else None
    return Target(ids.of.name, ids.shape.per is Per.TOKEN, following, shown)


def _updated(model: Model) -> set[Binding]:
    return {part.binding for part in _parts(model.body) if isinstance(part, Update)}


def _counted(losses: list[Expr], model: Model) -> set[Binding]:
    """The bindings that the ids of a cross-entropy come from, through whatever was bound in between."""
    values = {statement.binding: statement.value for statement in model.body if isinstance(statement, Bind)}
    calls = [part for part in _parts(losses) if isinstance(part, Apply) and part.function == "cross_entropy"]
    found: set[Binding] = set()
    pending: list[Expr] = [call.args[1] for call in calls]
    while pending:
        loaded = {part.of for part in _parts(pending.pop()) if isinstance(part, Load) and isinstance(part.of, Binding)} - found
        found |= loaded
        pending += [values[binding] for binding in loaded if binding in values]
    return found


def _parts(root: object) -> Iterator[object]:
    """Every part of a typed tree once, what it calls included."""
    seen: set[int] = set()
    pending = [root]
    while pending:
        part = pending.pop()
        if isinstance(part, tuple | list):
            pending += part
        elif is_dataclass(part) and id(part) not in seen:
            seen.add(id(part))
            yield part
            pending += [getattr(part, each.name) for each in fields(part) if each.name != "span"]


# -- what is refused ---------------------------------------------------------------------------------------


def no_bytes(surface: Surface, size: int = BYTES, told: str = "bytes") -> str | None:
    """Why the model cannot read ids below `size`: it needs one id input for each token, of a vocabulary that holds them. None where it can."""
    if surface.vocab is None:
        found = ", ".join(each.name for each in surface.inputs) or "none"
        return f"model {surface.name} must have one input, an id for each token, to read text; its inputs are: {found}"
    if surface.vocab < size:
        return f"model {surface.name} has a vocabulary of {surface.vocab:,}; {told} need at least {size:,}"
    return None


def require_loss(surface: Surface) -> None:
    """Raise `UserError` where there is nothing to train on."""
    if not surface.loss:
        raise UserError(f"error: model {surface.name} declares no loss to train on; add `loss cross_entropy[vocab](logits, next(tokens))`")


def require_continuation(surface: Surface, size: int = BYTES, told: str = "bytes") -> None:
    """Raise `UserError` unless the model can continue a text: it reads bytes, or `told`, is causal and has logits over its ids."""
    reason = no_bytes(surface, size, told)
    if reason:
        raise UserError(f"error: {reason}, so there is no text that it could continue")
    if not surface.causal:
        raise UserError(f"error: model {surface.name} is bidirectional: it sees later tokens, so it cannot continue a text")
    if surface.logits is None:
        raise UserError(f"error: model {surface.name} has no output with one number for each id of its vocabulary to draw from")
