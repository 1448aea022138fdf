"""Models with kernels give what they give without: every output, and the gradient of every parameter and input."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from click.testing import CliRunner
from torch import nn

import mptc
from mptc.cli import main
from mptc.runtime.module import as_module
from tests.kernels.models import ROOT, SINGLE, apart, compiled, run

FULL = os.environ.get("MPTC_KERNELS") == "full"  # every energy and spec there is; otherwise one for each form of kernel
ENERGIES = sorted((ROOT / "tests" / "energies").glob("*.mpt"))
FORMS = [
    "alibi", "biased", "cem", "condition_alone", "decay", "diagonal", "documents", "exp_temperature", "grouped",
    "key_bias", "latent", "long_keys", "nrgpt", "padded", "quartic", "query_bias", "sink_learned", "soft_cap",
    "softplus_weighted", "strictly_before", "two_contexts", "two_kinds", "windowed", "window_of_one",
]
SPECS = sorted((ROOT / "specs").glob("*.mpt"))
WHOLE = ("cem_small", "encoder_decoder", "gpt2", "hyper_set", "windowed_documents")
CHOSEN = [path for path in [*ENERGIES, *SPECS] if FULL or path.stem in (FORMS if path in ENERGIES else WHOLE)]
TOKENS = 37  # a multiple of nothing, and more than a tile
THERE = 76  # energies that have a kernel: fewer would be a loss


@pytest.fixture(autouse=True)
def _interpreted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Kernels by the interpreter; what is made without values holds NaN."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    empty = torch.empty

    def full_of_nan(*size: object, **options: object) -> torch.Tensor:
        made = empty(*size, **options)  # type: ignore[call-overload]
        return made.fill_(torch.nan) if made.is_floating_point() else made  # type: ignore[no-any-return]

    monkeypatch.setattr(torch, "empty", full_of_nan)
    yield
    torch.use_deterministic_algorithms(False)


def filled(module: ModuleType) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = module.Model()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")  # the interpreter's, of pairs that are not seen
@pytest.mark.parametrize("path", CHOSEN, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_a_model_with_kernels_is_the_model_without(path: Path) -> None:
    text = path.read_text()
    made = compiled(path, "tiny" if "variant tiny" in text else None, {"depth": "1"} if "const depth" in text else {})
    if not made.kernels:
        assert FULL, "one of those chosen for their kernels"
        assert "kernels" not in made.text
        return
    module = made.module()
    model, inputs = filled(module), made.inputs(TOKENS)
    module.kernels.MODE = "torch"
    by_torch = run(model, inputs)
    module.kernels.MODE = "triton"
    assert apart(run(model, inputs), by_torch) < SINGLE
    torch.use_deterministic_algorithms(True, warn_only=True)
    assert apart(run(model, inputs), by_torch) < SINGLE


@pytest.mark.skipif(not FULL, reason="compiles every energy: MPTC_KERNELS=full does")
def test_energies_keep_their_kernels() -> None:
    assert sum("def attention(" in compiled(path).kernels for path in ENERGIES) >= THERE


FAULTS = {
    "none": ("new = tl.maximum(top, tl.max(s, 1))\n", "new = 1.0 * tl.maximum(top, tl.max(s, 1))\n", False),
    "weights": ("p = tl.exp2(s - base[:, None])", "p = tl.exp2(s - base[:, None] + 0.01 * s)", True),
    "what is summed so far": ("shrink = tl.exp2(top - base)", "shrink = 0.9 * tl.exp2(top - base)", True),
    "which tokens are seen": ("(i[:, None] >= j[None, :])", "(i[:, None] > j[None, :])", True),
    "the log-sum-exp": ("(top + tl.log2(below)) * LN_2", "(top + tl.log2(below)) * 0.7", True),
    "the adjoint of a score": ("ds = p * (flow - delta_tile[None, :])", "ds = p * flow", True),
    "the adjoint of values": ("tl.dot(p.to(do_tile.dtype), do_tile", "tl.dot((0.5 * p).to(do_tile.dtype), do_tile", True),
    "a row": ("t2 = x3_tile + t1\n", "t2 = x3_tile + 1.01 * t1\n", True),
    "the adjoint of a row": ("(t4).to(dx1.dtype.element_ty)", "(1.01 * t4).to(dx1.dtype.element_ty)", True),
    "what rows share": ("found[0].sum(0)", "0.9 * found[0].sum(0)", True),
    "a gate": ("z_tile = tl.dot(x_tile", "z_tile = 1.01 * tl.dot(x_tile", True),
    "the adjoint of a gate": ("tl.store(dz + at, (", "tl.store(dz + at, 1.01 * (", True),
    "the matrix of both products": ("total = tl.dot(tl.trans(du_tile)", "total = 0.9 * tl.dot(tl.trans(du_tile)", True),
    "the adjoint of queries": ("dq_step = tl.dot(tl.trans(back), k_tile", "dq_step = tl.dot(tl.trans(-back), k_tile", True),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_kernels_changes_the_model(fault: str) -> None:
    """What is no fault changes nothing."""
    before, after, matters = FAULTS[fault]
    made = compiled(ROOT / "specs" / "cem_small.mpt", "tiny", {"depth": "1"})
    module = made.module()
    model, inputs = filled(module), made.inputs(TOKENS, batch=1)
    right = run(model, inputs)
    assert before in made.kernels
    planted = made.kernels.replace(before, after)
    model = filled(type(made)(made.program, made.name, renamed(made.text, planted), planted).module())
    assert (apart(run(model, inputs), right) > 10 * SINGLE) is matters


def renamed(text: str, kernels: str) -> str:
    """A module that looks for other kernels beside it."""
    return re.sub(r"kernels_[0-9a-f]{12}", f"kernels_{hashlib.sha256(kernels.encode()).hexdigest()[:12]}", text)


def test_the_files_of_a_compiled_model_run_as_they_lie(tmp_path: Path) -> None:
    """`mptc compile --emit triton`, and then its two files alone, without this package."""
    spec = ROOT / "specs" / "cem_small.mpt"
    done = CliRunner().invoke(main, ["compile", str(spec), "--variant", "tiny", "--set", "depth=1", "--emit", "triton", "-o", str(tmp_path)])
    assert done.exit_code == 0, done.output
    code = """import torch, importlib.util as u
spec = u.spec_from_file_location("cem", "cem_small/cem_small.py"); cem = u.module_from_spec(spec); spec.loader.exec_module(cem)
model, tokens = cem.Model(), torch.arange(37)[None]
plain = model(tokens)[0]; cem.kernels.MODE = "triton"
print(float((model(tokens)[0] - plain).abs().max().detach()), "mptc" in __import__("sys").modules)"""
    run_ = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run_.returncode == 0, run_.stderr
    apart_, ours = run_.stdout.split()
    assert 0 < float(apart_) < SINGLE
    assert ours == "False"


def test_a_loaded_model_uses_kernels_and_pickles() -> None:
    model = mptc.load(ROOT / "specs" / "cem_small.mpt", variant="tiny", set={"depth": 1}, kernels="triton")
    tokens = torch.arange(20)[None]
    plain = mptc.load(ROOT / "specs" / "cem_small.mpt", variant="tiny", set={"depth": 1}, kernels="torch")
    assert torch.allclose(pickle.loads(pickle.dumps(model))(tokens)[0], plain(tokens)[0], atol=SINGLE)
    assert hasattr(sys.modules[type(model).__module__], "kernels")
    assert not hasattr(sys.modules[type(plain).__module__], "kernels")


def test_what_is_read_between_products_keeps_them_apart() -> None:
    """In `log_cosh` the first product is read by a value of the energy too, and there a gated map would have lost it."""
    made = compiled(ROOT / "tests" / "energies" / "log_cosh.mpt")
    assert "gated" not in made.kernels
    module = as_module(made.name, made.text, made.kernels or None)
    assert all(out.isfinite().all() for out in run(filled(module), made.inputs(TOKENS)).outputs)
