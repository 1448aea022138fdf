"""safetensors files without torch: read as others read them, written as others write them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mptc.backends.deployment import Stored, placed
from mptc.runtime.errors import WeightsError
from mptc.runtime.files import write
from mptc.runtime.tensors import filled, read_tensors

VALUES = {
    "matrix": torch.randn(5, 8, generator=torch.Generator().manual_seed(0)),
    "odd": torch.tensor([1.0, -2.5, 3e-5]),
    "edges": torch.tensor([0.0, -0.0, torch.inf, -torch.inf, 1.00390625, 1.01171875, 65504.0, 1e-8]),  # two lie between two numbers of bfloat16
    "one": torch.tensor(7.0),
}
TORCH = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


@pytest.mark.parametrize("dtype", TORCH)
def test_what_is_written_is_what_torch_would_have_written(dtype: str, tmp_path: Path) -> None:
    file = placed("w.safetensors", [Stored(name, name, dtype, tuple(value.shape)) for name, value in VALUES.items()])
    write(tmp_path / file.name, filled(file, lambda name: VALUES[name].numpy()))
    assert (tmp_path / file.name).stat().st_size == file.size
    found = load_file(tmp_path / file.name)
    assert found.keys() == VALUES.keys()
    for name, value in VALUES.items():
        assert found[name].dtype == TORCH[dtype]
        assert torch.equal(found[name], value.to(TORCH[dtype])), name


@pytest.mark.parametrize("dtype", [torch.float64, *TORCH.values()])
def test_what_others_write_is_read(dtype: torch.dtype, tmp_path: Path) -> None:
    save_file({name: value.to(dtype) for name, value in VALUES.items()}, tmp_path / "w.safetensors")
    tensors = read_tensors(tmp_path / "w.safetensors")
    assert tensors.shapes() == {name: tuple(value.shape) for name, value in VALUES.items()}
    for name, value in VALUES.items():
        np.testing.assert_array_equal(tensors(name).astype(np.float64), value.to(dtype).double().numpy())


def test_not_a_number_stays_one(tmp_path: Path) -> None:
    file = placed("w", [Stored("x", "x", "BF16", (2,))])
    write(tmp_path / "w", filled(file, lambda name: np.asarray([np.nan, 1.0], np.float32)))
    assert load_file(tmp_path / "w")["x"].isnan().tolist() == [True, False]


def test_rows_of_bytes_are_within_half_a_step(tmp_path: Path) -> None:
    """A row of zeros stays one; the largest of a row is kept."""
    matrix = np.random.default_rng(0).normal(size=(6, 3, 5)).astype(np.float32)
    matrix[2] = 0
    file = placed("w", [Stored("m", "m", "I8", (6, 3, 5), 18), Stored("m:scale", "m", "F32", (18,), 18)])
    write(tmp_path / "w", filled(file, lambda name: matrix))
    found = load_file(tmp_path / "w")
    scales = found["m:scale"].numpy().reshape(6, 3, 1)
    back = found["m"].numpy() * scales
    assert found["m"].dtype == torch.int8
    assert (np.abs(back - matrix) <= scales * 0.5001).all()
    np.testing.assert_allclose(np.abs(back).max(axis=-1), np.abs(matrix).max(axis=-1), rtol=1e-6)


def _file(header: object, data: bytes = b"\0" * 16) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff" * 12,
        _file(b"[" * 100_000),
        _file(b"\xff\xfe"),
        _file([]),
        _file({"a": 1}),
        _file({"a": {"dtype": "F32", "shape": [4]}}),
        _file({"a": {"dtype": "F8", "shape": [4], "data_offsets": [0, 16]}}),
        _file({"a": {"dtype": "F32", "shape": [5], "data_offsets": [0, 16]}}),
        _file({"a": {"dtype": "F32", "shape": [-2, -2], "data_offsets": [0, 16]}}),
        _file({"a": {"dtype": "F32", "shape": ["x"], "data_offsets": [0, 16]}}),
        _file({"a": {"dtype": "F32", "shape": [4], "data_offsets": [-16, 0]}}),
        _file({"a": {"dtype": "F32", "shape": [4], "data_offsets": [16, 32]}}),
        _file({"a": {"dtype": "F32", "shape": [4], "data_offsets": ["0", "16"]}}),
        _file({"a": {"dtype": ["F32"], "shape": [4], "data_offsets": [0, 16]}}),
    ],
)
def test_what_is_no_such_file_is_said_in_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(WeightsError, match="^error: cannot read weights from .*/w: ") as caught:
        read_tensors(tmp_path / "w")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="No such file"):
        read_tensors(tmp_path / "w")
    with pytest.raises(WeightsError, match="directory"):
        read_tensors(tmp_path)
