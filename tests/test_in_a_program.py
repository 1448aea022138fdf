"""A loaded model is a module as any other: copies, transforms, precision, hooks, exports; and the examples run."""

from __future__ import annotations

import importlib.util
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad

import mptc

NAMES = ("cem_small", "llama_small", "alibi", "nrgpt")  # alibi's score is computed by rows
models = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def model(name: str, root: Path) -> nn.Module:
    return mptc.load(root / f"specs/{name}.mpt", variant="tiny")


@pytest.fixture
def tokens() -> Tensor:
    return torch.randint(0, 200, (2, 24), generator=torch.Generator().manual_seed(0))


def gradients(model: nn.Module, tokens: Tensor) -> dict[str, Tensor]:
    model.zero_grad()
    model(tokens, loss=True).loss.backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def close(mine: dict[str, Tensor], theirs: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    assert mine.keys() == theirs.keys()
    for name in mine:
        assert float((mine[name] - theirs[name]).abs().max()) <= tolerance * float(mine[name].abs().max()), name


@models
def test_a_deep_copy_is_another_model(model: nn.Module, tokens: Tensor) -> None:
    copy = deepcopy(model)
    before = model(tokens).logits
    assert torch.equal(copy(tokens).logits, before)
    with torch.no_grad():
        for parameter in copy.parameters():
            parameter.add_(1.0)
    assert torch.equal(model(tokens).logits, before)
    assert not torch.equal(copy(tokens).logits, before)


@models
def test_a_compiled_model_has_the_same_gradients(model: nn.Module, tokens: Tensor) -> None:
    """One graph, forward and backward, by the compiler that needs no C++; test_compiled.py has inductor."""
    wanted = gradients(model, tokens)
    found = gradients(torch.compile(model, backend="aot_eager", fullgraph=True), tokens)
    close(wanted, {name.removeprefix("_orig_mod."): gradient for name, gradient in found.items()})


@models
def test_an_exported_model_takes_any_batch_and_length(model: nn.Module, tokens: Tensor) -> None:
    dims = {"tokens": {0: torch.export.Dim("batch", max=64), 1: torch.export.Dim("seq", max=4096)}}
    exported = torch.export.export(model.eval(), (), {"tokens": tokens}, dynamic_shapes=dims).module()
    for given in (tokens, torch.randint(0, 200, (3, 41))):
        torch.testing.assert_close(exported(tokens=given).logits, model(given).logits)


@models
def test_called_with_other_parameters(model: nn.Module, tokens: Tensor) -> None:
    """Values and gradients as a function of parameters."""
    wanted = gradients(model, tokens)
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def loss(parameters: dict[str, Tensor], tokens: Tensor) -> Tensor:
        return functional_call(model, parameters, (tokens,), {"loss": True}).loss

    close(wanted, grad(loss)(parameters, tokens))
    doubled = functional_call(model, {name: 2 * parameter for name, parameter in parameters.items()}, (tokens,)).logits
    assert not torch.allclose(doubled, model(tokens).logits)


@models
def test_automatic_mixed_precision(model: nn.Module, tokens: Tensor) -> None:
    """Autocast, and a loss that is scaled before its gradients are made."""
    wanted = gradients(model, tokens)
    model.zero_grad()
    scaler, optimizer = torch.amp.GradScaler("cpu", init_scale=1024.0), torch.optim.SGD(model.parameters(), lr=0.0)
    with torch.autocast("cpu", torch.bfloat16):
        out = model(tokens, loss=True)
    scaler.scale(out.loss).backward()
    scaler.unscale_(optimizer)
    found = torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])
    assert found.dtype is torch.float32
    assert float(torch.cosine_similarity(found, torch.cat([each.flatten() for each in wanted.values()]), dim=0)) > 0.99


@pytest.mark.parametrize("name", [name for name in NAMES if name != "nrgpt"])  # which has no stack
def test_hooks_see_every_copy_and_change_what_goes_on(model: nn.Module, tokens: Tensor) -> None:
    """Of a stack's copies, forward and backward; of a call site's parameters, where a parent reads them; of a parameter, where its gradient is."""
    wanted, before = gradients(model, tokens), model(tokens).logits
    seen: list[str] = []
    [stack] = [each for each in model.children() if isinstance(each, nn.ModuleList)]
    for number, copy in enumerate(stack):
        copy.register_forward_hook(lambda *_, number=number: seen.append(f"forward {number}"))
        copy.register_full_backward_hook(lambda *_, number=number: seen.append(f"backward {number}"))
    site = next(each for each in stack[0].children())
    site.register_forward_hook(lambda *_: seen.append("read"))
    first = next(model.parameters())
    first.register_hook(lambda gradient: 3 * gradient)
    found = gradients(model, tokens)
    numbers = range(len(stack))
    assert seen == ["read", *(f"forward {number}" for number in numbers), *(f"backward {number}" for number in reversed(numbers))]
    name = next(name for name, _ in model.named_parameters())
    close({name: 3 * wanted[name]}, {name: found[name]})
    stack[0].register_forward_hook(lambda _module, _given, out: out * 0.5)
    assert not torch.allclose(model(tokens).logits, before)


# -- the examples ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("example", "library"), [("plain", "torch"), ("with_lightning", "lightning"), ("with_accelerate", "accelerate")])
def test_the_example_learns(example: str, library: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(library, reason=f"{library} is not installed")
    monkeypatch.chdir(root)
    spec = importlib.util.spec_from_file_location(example, root / f"examples/{example}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    losses = module.main(60)
    assert len(losses) == 60
    assert losses[0] > 5
    assert losses[-1] < 2
