"""A module made of text behaves as one read from a file."""

import copy
import inspect
import linecache
import os
import pickle
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
import torch

from mptc.runtime.load import instantiate
from mptc.runtime.module import as_module
from tests.runtime.stand_in import TEXT


def test_the_same_text_is_the_same_module() -> None:
    assert as_module("stand_in", TEXT) is as_module("stand_in", TEXT)
    assert as_module("stand_in", TEXT) is not as_module("stand_in", TEXT + "\n")


def test_source_deepcopy_and_pickle() -> None:
    model = instantiate("stand_in", TEXT)
    tokens = torch.arange(12).reshape(1, 12)
    wanted = model.eval()(tokens).logits
    linecache.checkcache()
    assert "F.rms_norm" in inspect.getsource(type(model).forward)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(other) is type(model)
        assert torch.equal(other(tokens).logits, wanted)


def test_a_pickle_is_read_by_another_process(root: Path, tmp_path: Path) -> None:
    model = instantiate("stand_in", TEXT).eval()
    tokens = torch.arange(12).reshape(1, 12)
    torch.save((model, model(tokens).logits), tmp_path / "model.pt")
    text = (
        "import torch\n"
        "model, wanted = torch.load('model.pt', weights_only=False)\n"
        "assert torch.equal(model(torch.arange(12).reshape(1, 12)).logits, wanted)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", text], cwd=tmp_path, env=environment, check=True, timeout=120)


def test_tracebacks_show_lines() -> None:
    model = instantiate("stand_in", TEXT)
    with pytest.raises(IndexError) as caught:
        model(torch.tensor([[999]]))
    assert "x = F.dropout(F.embedding(tokens, self.embed)" in "".join(traceback.format_exception(caught.value))


def test_text_that_fails_leaves_no_module() -> None:
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            as_module("broken", "1 / 0")
