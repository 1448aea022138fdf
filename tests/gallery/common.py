"""How a spec of the gallery is held against its reference: outputs, loss and every gradient in float64, and what a causal model must not see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mptc

SPECS = Path(__file__).resolve().parent.parent.parent / "specs"
EXACT = 1e-9

Tensors = dict[str, Tensor]
Reference = Callable[..., Tensors]


def loaded(name: str, **sizes: object) -> nn.Module:
    """The tiny variant in float64, parameters of order one where they multiply: with the 0.02 that they begin with, half of the mathematics
    would be below the tolerance. What begins as a constant stays near it."""
    model = mptc.load(SPECS / f"{name}.mpt", set=sizes, variant="tiny").double()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in model.parameters():
            noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
            constant = bool((value == value.flatten()[0]).all())
            value.copy_(value + 0.2 * noise if constant else noise / value.shape[-1] ** 0.5)
    return model


def ids(size: int, *shape: int, seed: int = 2) -> Tensor:
    return torch.randint(0, size, shape, generator=torch.Generator().manual_seed(seed))


def numbers(*shape: int, seed: int = 3) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def errors(model: nn.Module, reference: Reference, inputs: Tensors) -> dict[str, float]:
    """Each output, the loss, and the gradient of each parameter and continuous input: its largest difference from `reference(parameters,
    **inputs)`, relative to its largest number. One that should vanish is measured by the largest of all."""
    model.requires_grad_()  # what is frozen too
    parameters = {name: leaf(value) for name, value in model.named_parameters()}
    given = {name: leaf(value) for name, value in inputs.items()}
    expected = reference(parameters, **given)
    wanted = gradients(expected, {**parameters, **given})
    given = {name: leaf(value) for name, value in inputs.items()}
    result = model(**given, loss=True) if "loss" in expected else model(**given)
    values = {name: getattr(result, name) for name in expected}
    found = gradients(values, {**dict(model.named_parameters()), **given})
    assert all(values[name].shape == value.shape for name, value in expected.items())
    return {**relative(values, expected), **{f"d {name}": error for name, error in relative(found, wanted).items()}}


def leaf(value: Tensor) -> Tensor:
    return value.detach().clone().requires_grad_(value.is_floating_point())


def gradients(values: Tensors, leaves: Tensors) -> Tensors:
    """Of one random projection of all values."""
    generator = torch.Generator().manual_seed(5)
    scalar = sum((value * torch.randn(value.shape, generator=generator, dtype=torch.float64)).sum() for value in values.values())
    leaves = {name: value for name, value in leaves.items() if value.requires_grad}
    found = torch.autograd.grad(scalar, list(leaves.values()), allow_unused=True)
    return {name: torch.zeros_like(value) if grad is None else grad for (name, value), grad in zip(leaves.items(), found, strict=True)}


def relative(found: Tensors, expected: Tensors) -> dict[str, float]:
    largest = max(top(value) for value in expected.values())
    return {name: top(found[name] - value) / max(top(value), 1e-4 * largest) for name, value in expected.items()}


def top(value: Tensor) -> float:
    return float(value.detach().abs().max())


def agree(model: nn.Module, reference: Reference, inputs: Tensors, tolerance: float = EXACT) -> None:
    found = errors(model, reference, inputs)
    wrong = {name: error for name, error in found.items() if not error <= tolerance}
    assert not wrong, wrong


# -- causality ----------------------------------------------------------------------------------------------


def causal(model: nn.Module, inputs: Tensors, per_sequence: Sequence[str] = ()) -> None:
    """No token sees a later one: by changing one or all of them, by leaving them out, and by derivatives, which are 0 and not nearly so."""
    tokens = {name: value for name, value in inputs.items() if name not in per_sequence}
    fixed = {name: inputs[name] for name in per_sequence}
    length = next(iter(tokens.values())).shape[1]
    whole = outputs(model, inputs)
    for cut in range(1, length):
        one = {name: torch.cat((value[:, :cut], value[:, cut : cut + 1].roll(1, 0), value[:, cut + 1 :]), dim=1) for name, value in tokens.items()}
        changed = outputs(model, {**one, **fixed})
        assert all(top(changed[name][:, :cut] - value[:, :cut]) <= 1e-12 for name, value in whole.items()), cut
        other = {name: torch.cat((value[:, :cut], value[:, cut:].roll(1, 0)), dim=1) for name, value in tokens.items()}
        assert any(not torch.equal(other[name], tokens[name]) for name in tokens)
        changed = outputs(model, {**other, **fixed})
        assert all(top(changed[name][:, :cut] - value[:, :cut]) <= 1e-12 for name, value in whole.items()), cut
        assert any(top(changed[name][:, cut:] - value[:, cut:]) > 1e-6 for name, value in whole.items()), cut
        short = outputs(model, {**{name: value[:, :cut] for name, value in tokens.items()}, **fixed})
        assert all(top(short[name] - value[:, :cut]) <= 1e-10 for name, value in whole.items()), cut
        influence = influences(model, tokens, fixed, cut)
        assert influence
        assert all(top(value[:, cut:]) == 0 for value in influence), cut
        assert any(top(value[:, :cut]) > 1e-6 for value in influence), cut


def outputs(model: nn.Module, inputs: Tensors) -> Tensors:
    with torch.no_grad():
        return model(**inputs)._asdict()


def influences(model: nn.Module, tokens: Tensors, fixed: Tensors, cut: int) -> list[Tensor]:
    """Derivatives of the outputs before `cut` by what each token brings in: its continuous inputs, and whatever is looked up for its ids."""
    nudges = [value.requires_grad_() for value in (leaf(value) for value in tokens.values()) if value.is_floating_point()]
    given = dict(zip([name for name, value in tokens.items() if value.is_floating_point()], nudges, strict=True))
    shape = next(iter(tokens.values())).shape[:2]
    scope: dict[str, Any] = type(model).forward.__globals__
    kept = {name: scope[name] for name in ("lookup", "mixture") if name in scope}

    def nudged(plain: Callable[..., Tensor], *args: Any) -> Tensor:
        rows = plain(*args)
        if rows.shape[:2] != shape:  # of a memory: let it be of another length
            return rows
        nudges.append(torch.zeros_like(rows).requires_grad_())
        return rows + nudges[-1]

    scope.update({name: partial(nudged, plain) for name, plain in kept.items()})
    try:
        result = model(**{**tokens, **given}, **fixed)._asdict()
    finally:
        scope.update(kept)
    early = {name: value[:, :cut] for name, value in result.items() if value.requires_grad}
    return list(gradients(early, {str(place): nudge for place, nudge in enumerate(nudges)}).values())


# -- the words that references are written in ---------------------------------------------------------------


def under(parameters: Tensors, path: str) -> Tensors:
    """Parameters by their names below a path."""
    return {name.removeprefix(f"{path}."): value for name, value in parameters.items() if name.startswith(f"{path}.")}


def seen(length: int) -> Tensor:
    """[i, j]: token i sees token j of its past."""
    return torch.ones(length, length, dtype=torch.bool).tril()


def rms(x: Tensor, eps: float = 1e-6) -> Tensor:
    return x / (x.square().mean(-1, keepdim=True) + eps).sqrt()


def layernorm(x: Tensor, p: Tensors, eps: float = 1e-5) -> Tensor:
    return p["gain"] * (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + eps).sqrt() + p["bias"]


def attend(x: Tensor, c: Tensor, p: Tensors, mask: Tensor | None = None) -> Tensor:
    """Block `attend` of the prelude. `mask`: [i, j] or [batch, i, j]."""
    q, k, v = (torch.einsum("hkd,bnd->bhnk", p[f"W_{name}"], y) + p[f"b_{name}"][None, :, None] for name, y in (("q", x), ("k", c), ("v", c)))
    weights = softmax(q @ k.mT / q.shape[-1] ** 0.5, mask)
    return torch.einsum("bhnk,dhk->bnd", weights @ v, p["W_o"]) + p["b_o"]


def grouped(x: Tensor, p: Tensors, mask: Tensor) -> Tensor:
    """Blocks `attention` and `attention_to` of the prelude: several queries share each key and value."""
    groups = p["W_q"].shape[1]
    q = rope(torch.einsum("vgkd,bnd->bvgnk", p["W_q"], x)).flatten(1, 2)
    k = rope(torch.einsum("vkd,bnd->bvnk", p["W_k"], x)).repeat_interleave(groups, 1)
    v = torch.einsum("vkd,bnd->bvnk", p["W_v"], x).repeat_interleave(groups, 1)
    return torch.einsum("bhnk,dhk->bnd", softmax(q @ k.mT / q.shape[-1] ** 0.5, mask) @ v, p["W_o"].flatten(1, 2))


def softmax(scores: Tensor, mask: Tensor | None = None) -> Tensor:
    """Of [batch, head, i, j] over j."""
    if mask is not None:
        scores = scores.masked_fill(~(mask if mask.dim() == 2 else mask[:, None]), -torch.inf)
    return scores.softmax(-1)


def rope(x: Tensor, base: float = 10000.0) -> Tensor:
    """[…, token, key], halves rotated by position."""
    size = x.shape[-1]
    angle = torch.arange(x.shape[-2], dtype=x.dtype)[:, None] * base ** (-torch.arange(0, size, 2, dtype=x.dtype) / size)
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin()), dim=-1)


def swiglu(x: Tensor, p: Tensors) -> Tensor:
    return (F.silu(x @ p["W_gate"].T) * (x @ p["W_up"].T)) @ p["W_down"].T


def mlp(x: Tensor, p: Tensors, act: Callable[[Tensor], Tensor] = F.gelu) -> Tensor:
    return act(x @ p["W_in"].T + p["b_in"]) @ p["W_out"].T + p["b_out"]


def next_token(logits: Tensor, tokens: Tensor) -> Tensor:
    """The mean cross-entropy of the token that follows."""
    return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


def rewired(theirs: nn.Module, state: Tensors, *arguments: Any, **named: Any) -> Any:
    """Another library's model with our parameters in the place of its own, all of them, gradients flowing into ours."""
    names = {name for name, _ in theirs.named_parameters(remove_duplicate=False)}
    assert names == set(state), names ^ set(state)
    shapes = {name: (state[name].shape, value.shape) for name, value in theirs.named_parameters(remove_duplicate=False)}
    assert all(mine == other for mine, other in shapes.values()), shapes
    return torch.func.functional_call(theirs, state, arguments, named, tie_weights=False)


def descent(energy: Callable[..., Tensor], x: Tensor, *held: Any) -> Tensor:
    """The derivative of an energy by its first argument, by autograd; what the others share with it is held fixed."""
    moved = x.clone()
    (step,) = torch.autograd.grad(energy(moved, *held).sum(), moved, create_graph=True)
    return step


class _Potential(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return torch.full_like(z, torch.nan)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (z,) = ctx.saved_tensors
        return grad * F.silu(z)


def silu_integral(z: Tensor) -> Tensor:
    """A function whose derivative is silu: of a potential, descent needs nothing else, and its value is not a number."""
    result: Tensor = _Potential.apply(z)
    return result


class Doubled:
    """`torch` as a library sees it that computes some of its steps in float32 whatever its weights are: here in float64."""

    float32 = float = torch.float64

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def doubled(library: Any, monkeypatch: Any) -> None:
    """Lets a library compute in float64 throughout."""
    monkeypatch.setattr(library, "torch", Doubled())
    monkeypatch.setattr(Tensor, "float", Tensor.double)
