"""What a step is made of: parts, precision, logs, and what ends a run."""

import builtins
import dataclasses
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import mptc
from mptc.runtime.checkpoint import newest_weights, read_tensors
from mptc.runtime.errors import UserError
from mptc.runtime.load import instantiate
from mptc.runtime.report import Lines
from mptc.runtime.run import Run, read_run
from mptc.runtime.session import train_run
from mptc.runtime.settings import Settings
from mptc.runtime.text import Text, read_text
from tests.runtime.stand_in import SURFACE, TEXT

SETTINGS = Settings(steps=30, batch=8, length=16, lr=3e-2, eval_every=10, save_every=10)
EXACT = TEXT.replace("0.1, self.training", "0.0, self.training")  # without dropout, whose draws depend on the shape


@pytest.fixture
def text(tmp_path: Path) -> Text:
    (tmp_path / "data").write_bytes(np.random.default_rng(0).integers(97, 105, 4_000).astype(np.uint8).tobytes())
    return read_text(tmp_path / "data", "tokens", 8, 16)


def trained(path: Path, text: Text, resume: bool = False, **changes: object) -> Run:
    run = Run(path, "stand_in.mpt", None, {}, SURFACE, dataclasses.replace(SETTINGS, **changes), text.path, text.fingerprint(), EXACT)  # type: ignore[arg-type]
    train_run(instantiate("stand_in", EXACT, run.settings.seed), text, run, read_run(path) if resume else None, Lines(io.StringIO()))
    return run


def records(run: Run) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run.path / "log.jsonl").read_text().splitlines()]


def losses(run: Run) -> list[float]:
    return [each["loss"] for each in records(run) if "loss" in each]


@pytest.mark.parametrize("parts", [3, 8])
def test_parts_add_up_to_the_whole_batch(parts: int, text: Text, tmp_path: Path) -> None:
    """3 of 8 are unequal: 3, 3 and 2."""
    whole, split = trained(tmp_path / "whole", text, clip=1e9), trained(tmp_path / "split", text, accumulate=parts, clip=1e9)
    assert losses(split) == pytest.approx(losses(whole), rel=1e-5)
    assert losses(split) != losses(whole)


def test_parts_count_by_what_the_loss_counts() -> None:
    """Half of one row is not counted: the mean of two means would be another number."""
    from mptc.runtime.run import Run
    from mptc.runtime.train import _Loop

    tokens = torch.arange(64).view(2, 32) % 50
    tokens[1, 4:] = -1
    run = Run(Path(), "", None, {}, SURFACE, dataclasses.replace(SETTINGS, accumulate=2), "", {}, "")
    shares = [share for _, share in _Loop(None, None, None, run, None, None, None, None)._parts({"tokens": tokens})]  # type: ignore[arg-type]
    assert shares == [31 / 34, 3 / 34]


def test_bfloat16_learns_as_float32_does_and_keeps_its_weights_wide(text: Text, tmp_path: Path) -> None:
    wide, narrow = trained(tmp_path / "wide", text), trained(tmp_path / "narrow", text, dtype="bfloat16")
    assert losses(narrow) == pytest.approx(losses(wide), rel=2e-2)
    assert losses(narrow) != losses(wide)
    assert all(tensor.dtype is torch.float32 for tensor in read_tensors(newest_weights(narrow)).values())


def test_compiled_it_trains_as_it_does_without(text: Text, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the compiler that needs no C++, which is quick; its weights are named as ever, so the run goes on without."""
    real, calls = torch.nn.Module.compile, []

    def compile(model: torch.nn.Module) -> None:
        calls.append(model)
        real(model, backend="aot_eager")

    monkeypatch.setattr(torch.nn.Module, "compile", compile)
    plain, compiled = trained(tmp_path / "plain", text, steps=12), trained(tmp_path / "compiled", text, steps=12, compile=True)
    assert len(calls) == 1
    assert losses(compiled) == pytest.approx(losses(plain), rel=1e-5)
    assert read_tensors(newest_weights(compiled)).keys() == read_tensors(newest_weights(plain)).keys()


@pytest.mark.parametrize("path", ["cem_small", "llama_small", "windowed_documents", "nrgpt"])
def test_specs_compute_in_bfloat16_by_autocast(path: str, root: Path) -> None:
    """Gradients of every parameter, as near as 8 bits of mantissa allow."""
    model = mptc.load(root / f"specs/{path}.mpt", variant="tiny")
    inputs = {"tokens": torch.randint(0, 100, (2, 24), generator=torch.Generator().manual_seed(0))}
    if path == "windowed_documents":
        inputs["doc"] = torch.zeros(2, 24, dtype=torch.int64)
    grads = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            model(**inputs, loss=True).loss.backward()
        grads.append(torch.cat([each.grad.flatten() for each in model.parameters()]))
        model.zero_grad()
    assert float(torch.nn.functional.cosine_similarity(*grads, dim=0)) > 0.99


def test_the_log_goes_on_where_the_run_does(text: Text, tmp_path: Path) -> None:
    run = trained(tmp_path / "run", text)
    log = run.path / "log.jsonl"
    whole = losses(run)
    lines = log.read_text().splitlines()
    for later in run.checkpoints()[-1:]:
        later.rename(tmp_path / "taken away")
    log.write_text("\n".join(lines[:28]) + '\n{"step": 2')  # beyond the checkpoint of step 20, the last line torn
    trained(run.path, text, resume=True)
    assert losses(run) == whole
    assert [each["step"] for each in records(run) if "held_out_loss" in each] == [10, 20, 30]


def test_tensorboard(text: Text, tmp_path: Path) -> None:
    event_accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="tensorboard is not installed")
    run = trained(tmp_path / "run", text, tensorboard=True)
    events = event_accumulator.EventAccumulator(str(run.path / "tensorboard")).Reload()
    assert [each.value for each in events.Scalars("training/loss")] == pytest.approx(losses(run))
    assert [each.step for each in events.Scalars("held_out/loss")] == [10, 20, 30]


def test_tensorboard_that_is_not_there_is_one_line(text: Text, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: object, **options: object) -> object:
        if name.startswith("torch.utils.tensorboard"):
            raise ModuleNotFoundError("No module named 'tensorboard'")
        return real(name, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"^error: --tensorboard needs the package tensorboard, .* pip install 'mptc\[tensorboard\]'$"):
        trained(tmp_path / "run", text, tensorboard=True)
    assert not (tmp_path / "run").exists()


def test_as_many_checkpoints_stay_as_are_kept(text: Text, tmp_path: Path) -> None:
    run = trained(tmp_path / "run", text, save_every=5, keep=4)
    assert [path.name[-2:] for path in run.checkpoints()] == ["15", "20", "25", "30"]


def test_a_weight_that_is_not_finite_is_never_saved(text: Text, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loss of the step was still finite, its update was not: saved, it would have pushed out a checkpoint that is good."""
    real = torch.optim.AdamW.step
    count = []

    def step(self: torch.optim.AdamW, *rest: object) -> None:
        real(self)
        count.append(1)
        if len(count) == 20:
            self.param_groups[0]["params"][0].data[0, 0] = float("inf")

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    monkeypatch.setattr("mptc.runtime.train._Loop._evaluate", lambda self: None)
    with pytest.raises(UserError, match=r"at step 20 a weight is not finite; .*step-00000010 stands; try a smaller --lr"):
        trained(tmp_path / "run", text, keep=1)
    assert [path.name for path in (tmp_path / "run").glob("step-*")] == ["step-00000010"]


@pytest.mark.parametrize(("name", "value"), [("dtype", "float16"), ("device", "tpu"), ("ids", "float32")])
def test_words_that_are_not_known(name: str, value: str) -> None:
    from mptc.runtime.settings import settings

    with pytest.raises(UserError, match=f"--{name} is {value}; it must be one of"):
        settings({name: value})
