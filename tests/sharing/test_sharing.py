"""A tensor that several uses share is one parameter: stored, begun and trained once, whatever is done to the module."""

from __future__ import annotations

import copy
import pickle
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mptc.build import build
from mptc.derive import derive
from mptc.interpret import interpret
from mptc.ir.axis import BATCH, SEQ
from mptc.ir.program import Program
from mptc.model.resolve import resolve
from mptc.runtime import checkpoint
from mptc.runtime.run import Run
from mptc.runtime.settings import Settings
from mptc.runtime.spec import compile_spec
from mptc.runtime.surface import Surface
from mptc.runtime.train import make_optimizer
from mptc.runtime.weights import load_weights, save_weights
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source
from tests.sharing.cases import CASES, TOKENS, Pair, agree, pair

SETTINGS = Settings(lr=0.01, decay=0.1)


@pytest.fixture(scope="module", params=CASES)
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return pair(CASES[request.param], tmp_path_factory.mktemp("spec"))


def anew(both: Pair, seed: int = 3) -> nn.Module:
    return type(both.model)(seed=seed).double()


def moved(model: nn.Module) -> nn.Module:
    """The model with every tensor away from where it was."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter)
    return model


def test_one_parameter_and_one_entry(both: Pair) -> None:
    model = both.model
    tensors = {name: tensor.shape for name, tensor in both.apart.state_dict().items()}
    shapes: dict[str, torch.Size] = {}
    for name, home in both.home.items():
        shapes.setdefault(home, tensors.get(home, tensors[name]))
    found = {name: tensor.shape for name, tensor in model.state_dict().items()}
    assert {name: tuple(sorted(shape)) for name, shape in found.items()} == {name: tuple(sorted(shape)) for name, shape in shapes.items()}
    assert all(found[name] == shapes[name] for name in found if name in tensors), "in the order in which it is declared"
    assert len(found) == both.case.count
    every = list(model.named_parameters(remove_duplicate=False))
    assert [name for name, _ in every] == list(found)
    assert len({id(parameter) for _, parameter in every}) == len({parameter.data_ptr() for _, parameter in every}) == len(found)
    groups = make_optimizer(model, SETTINGS).param_groups
    assert sorted(id(each) for group in groups for each in group["params"]) == sorted(id(parameter) for _, parameter in every)


@pytest.mark.parametrize("seed", [0, 11])
def test_it_begins_once_under_its_own_path(both: Pair, seed: int) -> None:
    model, apart = type(both.model)(seed=seed), type(both.apart)(seed=seed)
    model.reset_parameters(seed)
    for name, tensor in model.state_dict().items():
        if name in apart.state_dict():
            torch.testing.assert_close(tensor, apart.state_dict()[name], rtol=0, atol=0, msg=name)
        else:  # of a share: a function of seed and path alone, not of the places that call it
            other = type(both.model)(seed=seed + 1).state_dict()[name]
            assert torch.equal(tensor, other) == (tensor.unique().numel() == 1), name


@pytest.mark.parametrize(
    ("case", "begins"),
    [
        ("a share at two sites", {"k.W": ("normal", 0.2), "k.U": ("uniform", 0.5), "k.gain": ("fill", 1.0)}),
        ("a share that nothing calls", {"k.W": ("normal", 0.1), "f.U": ("uniform", 0.5)}),
        ("a tensor of the model to one copy", {"layers.1.f.W": ("normal", 0.2)}),
    ],
)
def test_it_begins_as_it_is_declared_there(case: str, begins: dict[str, tuple[str, float]], tmp_path: Path) -> None:
    model = pair(CASES[case], tmp_path, seed=2).model
    begin = sys.modules[type(model).__module__].begin  # type: ignore[attr-defined]
    for name, (kind, value) in begins.items():
        expected = torch.full_like(model.state_dict()[name], torch.nan)
        begin(expected, name, 2, kind, value)
        torch.testing.assert_close(model.state_dict()[name], expected, rtol=0, atol=0, msg=name)


def test_every_use_reads_it_and_adds_to_its_gradient(both: Pair) -> None:
    agree(both, moved(anew(both)))


def test_the_interpreter_means_the_same(both: Pair) -> None:
    model = moved(anew(both))
    program = raw(both.path)
    derived = derive(program)
    values = {name: tensor.numpy() for name, tensor in model.state_dict().items()} | {"tokens": TOKENS.numpy()}
    expected = model(TOKENS)[0].detach().numpy()
    sizes = {**program.sizes, BATCH: TOKENS.shape[0], SEQ: TOKENS.shape[1]}
    for form in (program, derived.canonical, derived.program):
        (found,) = interpret([form.outputs[0].node], values, sizes, form.ties)
        axes = form.outputs[0].node.axes
        order = [axes.index(axis) for axis in (BATCH, SEQ, *form.outputs[0].axes)]
        np.testing.assert_allclose(np.transpose(found, order), expected, rtol=1e-10, atol=1e-12)


def raw(path: Path) -> Program:
    diagnostics = Diagnostics()
    model = resolve(Source(str(path), path.read_text()), {}, None, diagnostics)
    assert model is not None, diagnostics.found
    program = build(model, diagnostics)
    assert program is not None, diagnostics.found
    return program


# -- what is done to a module ------------------------------------------------------------------------


def pickled(model: nn.Module, _: Path) -> nn.Module:
    made = pickle.loads(pickle.dumps(model))
    assert isinstance(made, nn.Module)
    return made


def loaded(model: nn.Module, _: Path) -> nn.Module:
    made = type(model)(seed=9).double()
    made.load_state_dict(model.state_dict(), strict=True)
    return made


def safetensors(model: nn.Module, folder: Path) -> nn.Module:
    save_weights(model, folder / "model.safetensors")
    made = type(model)(seed=9).double()
    load_weights(made, folder / "model.safetensors")
    return made


def checkpointed(model: nn.Module, folder: Path) -> nn.Module:
    """After two steps, with the moments of each tensor once."""
    surface = Surface(name="m", causal=True, inputs=())
    run = Run(folder, "m.mpt", None, {}, surface, SETTINGS, "a text", {}, "")
    optimizer = trained(model)
    checkpoint.save(run, model, optimizer, checkpoint.Progress(2))
    made = type(model)(seed=9).double()
    again = make_optimizer(made, SETTINGS)
    checkpoint.restore(run, made, again)
    assert len(again.state) == len(optimizer.state) == sum(parameter.grad is not None for parameter in model.parameters())
    return made


def trained(model: nn.Module) -> torch.optim.AdamW:
    optimizer = make_optimizer(model, SETTINGS)
    for _ in range(2):
        optimizer.zero_grad()
        model(TOKENS)[0].square().sum().backward()
        optimizer.step()
    return optimizer


def in_float32_and_back(model: nn.Module, _: Path) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.float())
    return copy.deepcopy(model).to(torch.float32).to(torch.float64)


def replaced(model: nn.Module, _: Path) -> nn.Module:
    """`.to()` as it is in the future of torch: parameters are new objects."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        return copy.deepcopy(model).to(torch.float64)
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)


def on_no_device(model: nn.Module, _: Path) -> nn.Module:
    with torch.device("meta"):
        made = copy.deepcopy(type(model)())
    made = made.to_empty(device="cpu").double()
    made.load_state_dict(copy.deepcopy(model.state_dict()), assign=True)
    return made


OPERATIONS: list[Callable[[nn.Module, Path], nn.Module]] = [
    lambda model, _: copy.deepcopy(model),
    pickled,
    loaded,
    safetensors,
    checkpointed,
    in_float32_and_back,
    replaced,
    on_no_device,
]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__.replace("<lambda>", "copied"))
def test_it_stays_one(both: Pair, operation: Callable[[nn.Module, Path], nn.Module], tmp_path: Path) -> None:
    model = moved(anew(both))
    made = operation(model, tmp_path)
    assert made is not model
    assert list(made.state_dict()) == list(model.state_dict())
    expected = model(TOKENS)[0].detach()
    torch.testing.assert_close(made(TOKENS)[0], expected, rtol=0, atol=0)
    agree(both, moved(made))
    torch.testing.assert_close(model(TOKENS)[0], expected, rtol=0, atol=0, msg="they have tensors of their own")


def test_a_file_with_the_left_path_does_not_fit(both: Pair) -> None:
    for name, home in both.home.items():
        if name != home:
            given = {**both.model.state_dict(), name: torch.zeros(1)}
            with pytest.raises(RuntimeError, match="Unexpected key"):
                both.model.load_state_dict(given)
            return


@pytest.mark.parametrize("name", ["a chain through copies", "a tensor in the body of a copy", "a stack in a share, in loops"])
def test_it_is_one_graph_for_torch_compile(name: str, tmp_path: Path) -> None:
    model = moved(pair(CASES[name], tmp_path).model.double())
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(TOKENS)[0], model(TOKENS)[0], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("one copy of a tensor", ['tie(self.layers[0], "f.W", self.layers[2], "f.W")']),
        ("a tensor of the model to one copy", ['tie(self, "W", self.layers[1], "f.W", (1, 0))']),
        ("heads in another order", ['tie(self.layers[0], "E.W_q", self.layers[1], "E.W_k", (2, 0, 1))']),
        (
            "stars on one stack and numbers on another",
            [
                "for i in range(2):",
                'tie(self.a[i].b[1], "f.W", self.a[i], "g.W", (1, 0))',
                "for i in range(3):",
                'tie(self.a[0].b[i], "f.U", self.a[1].b[i], "f.U")',
            ],
        ),
        ("stars in the body", []),
    ],
)
def test_the_module_says_what_is_tied(name: str, lines: list[str], tmp_path: Path) -> None:
    (tmp_path / "shared.mpt").write_text(CASES[name].text(shared=True))
    text = compile_spec(tmp_path / "shared.mpt").files["m.py"]
    init = text[text.index("class Model") : text.index("def reset_parameters")].splitlines()
    assert [line.strip() for line in init if line.strip().startswith(("for ", "tie("))] == lines
