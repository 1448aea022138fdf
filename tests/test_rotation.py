"""The tables of rotary position are made once for each length, and serve whoever asks next: in training, inference, other dtypes, or with no data."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.gallery.common import ids, loaded


def made() -> tuple[torch.nn.Module, dict[object, tuple[torch.Tensor, torch.Tensor]]]:
    model = loaded("cem_small")
    tables = type(model).forward.__globals__["rotation"].__defaults__[0]
    tables.clear()
    return model, tables


def test_made_once() -> None:
    model, tables = made()
    first = model(ids(64, 1, 9)).logits
    (table,) = tables.values()
    assert torch.equal(model(ids(64, 1, 9)).logits, first)
    assert next(iter(tables.values())) is table
    for length in range(10, 30):
        model(ids(64, 1, length))
    assert len(tables) == 8 and max(key[0] for key in tables) == 29  # type: ignore[index]


def test_inference_then_training() -> None:
    model, tables = made()
    with torch.inference_mode():
        model(ids(64, 1, 9))
    assert not tables
    model(ids(64, 1, 9)).logits.sum().backward()
    assert len(tables) == 1
    with torch.inference_mode():
        model(ids(64, 1, 9))
    model(ids(64, 1, 9)).logits.sum().backward()


def test_without_data() -> None:
    model, tables = made()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        model(mode.from_tensor(ids(64, 1, 9)))
    assert not tables
    assert bool(model(ids(64, 1, 9)).logits.isfinite().all())


def test_each_dtype_has_its_own() -> None:
    model, tables = made()
    tokens = ids(64, 1, 9)
    exact = model.double()(tokens).logits
    near = deepcopy(model).float()(tokens).logits
    assert len(tables) == 2
    assert torch.equal(model(tokens).logits, exact) and near.dtype == torch.float32


def test_compiled_beside_eager() -> None:
    model, _ = made()
    tokens = ids(64, 1, 9)
    eager = model(tokens).logits
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(tokens).logits, eager)
    torch.testing.assert_close(model(tokens).logits, eager)
