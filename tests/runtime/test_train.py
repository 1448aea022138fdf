"""The loop, its optimizer, its run directory and what it refuses."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import torch

from mptc.runtime import checkpoint
from mptc.runtime.errors import RunError, UserError
from mptc.runtime.evaluate import evaluate
from mptc.runtime.load import instantiate
from mptc.runtime.report import Lines
from mptc.runtime.run import Run, read_run
from mptc.runtime.session import train_run
from mptc.runtime.settings import Settings
from mptc.runtime.text import Text, read_text
from mptc.runtime.train import make_optimizer, with_rate
from tests.runtime.stand_in import SURFACE, TEXT

SETTINGS = Settings(steps=30, batch=8, length=16, lr=3e-2, eval_every=10, save_every=10)


@pytest.fixture
def text(tmp_path: Path) -> Text:
    """A text in which every byte follows from the one before."""
    (tmp_path / "data").write_bytes(np.tile(np.arange(97, 105, dtype=np.uint8), 500).tobytes())
    return read_text(tmp_path / "data", "tokens", 8, 16)


@pytest.fixture
def run(tmp_path: Path, text: Text) -> Run:
    return Run(tmp_path / "run", "stand_in.mpt", None, {}, SURFACE, SETTINGS, text.path, text.fingerprint(), TEXT)


def train(run: Run, text: Text, old: Run | None = None) -> tuple[float, str]:
    out = io.StringIO()
    return train_run(instantiate("stand_in", TEXT, run.settings.seed), text, run, old, Lines(out)), out.getvalue()


def test_it_learns_and_says_so(run: Run, text: Text) -> None:
    before = evaluate(instantiate("stand_in", TEXT), SURFACE, text.held_out_batches(0)).loss
    loss, said = train(run, text)
    assert before > 5
    assert loss < 2
    assert f"step     30  held-out loss {loss:.4f} nats per byte, accuracy " in said
    assert "\r" not in said
    assert "\x1b" not in said


def test_a_run_records_what_it_was(run: Run, text: Text) -> None:
    train(run, text)
    assert read_run(run.path) == run
    assert [path.name for path in run.checkpoints()] == ["step-00000020", "step-00000030"]
    assert (run.path / "stand_in.py").read_text() == TEXT


def test_only_matrices_decay_and_frozen_parameters_stay_out() -> None:
    model = instantiate("stand_in", TEXT)
    model.query.requires_grad_(False)
    matrices, vectors = make_optimizer(model, SETTINGS).param_groups
    assert [p.shape for p in matrices["params"]] == [model.embed.shape, model.key.shape, model.out.shape]
    assert matrices["weight_decay"] == 0.1
    assert vectors["params"] == [model.gain]
    assert vectors["weight_decay"] == 0.0


def test_the_same_seed_gives_the_same_bits(run: Run, text: Text, tmp_path: Path) -> None:
    other = dataclasses.replace(run, path=tmp_path / "other")
    third = dataclasses.replace(run, path=tmp_path / "third", settings=dataclasses.replace(SETTINGS, seed=1))
    weights = []
    for each in (run, other, third):
        train(each, text)
        weights.append(checkpoint.newest_weights(each).read_bytes())
    assert weights[0] == weights[1] != weights[2]


def test_nothing_to_train() -> None:
    with pytest.raises(UserError, match="no parameter to train"):
        make_optimizer(torch.nn.Linear(2, 2).requires_grad_(False), SETTINGS)


def test_evaluation_is_deterministic_and_leaves_the_model_training(text: Text) -> None:
    model = instantiate("stand_in", TEXT)
    assert evaluate(model, SURFACE, text.held_out_batches(0)) == evaluate(model, SURFACE, text.held_out_batches(0))
    assert model.training


def test_an_occupied_directory_is_left_alone(run: Run, text: Text) -> None:
    train(run, text)
    with pytest.raises(RunError, match="already holds a run"):
        train(run, text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"settings": dataclasses.replace(SETTINGS, batch=4)}, "batch: the run has 8, now 4"),
        ({"variant": "tiny"}, "variant: the run has None, now 'tiny'"),
        ({"data": {"bytes": 1, "sha256": ""}}, "data: "),
        ({"text": TEXT + "#"}, "compiles to another module"),
    ],
)
def test_resuming_something_else_is_refused(change: dict[str, object], message: str, run: Run, text: Text) -> None:
    train(run, text)
    with pytest.raises(RunError, match=message):
        train(dataclasses.replace(run, **change), text, read_run(run.path))  # type: ignore[arg-type]


def test_how_often_to_save_may_change(run: Run, text: Text) -> None:
    train(run, text)
    train(dataclasses.replace(run, settings=dataclasses.replace(SETTINGS, save_every=7)), text, read_run(run.path))


def test_a_loss_that_is_not_finite_stops_the_run(run: Run, text: Text) -> None:
    wild = dataclasses.replace(run, settings=dataclasses.replace(SETTINGS, lr=1e30))
    with pytest.raises(UserError, match=r"at step \d+ the loss is .*; try a smaller --lr"):
        train(wild, text)
    for file in (wild.path).glob("step-*/model.safetensors"):
        assert all(tensor.isfinite().all() for tensor in checkpoint.read_tensors(file).values())


def test_a_checkpoint_that_cannot_be_written_costs_nothing(run: Run, text: Text, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = checkpoint.save_file, []

    def full(*arguments: object, **options: object) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(UserError, match="cannot write checkpoint .*step-00000020: .*No space left"):
        train(run, text)
    assert sorted(path.name for path in run.path.iterdir()) == ["log.jsonl", "run.json", "settings.toml", "stand_in.py", "step-00000010"]


@pytest.mark.parametrize("content", [None, "", "{}", '{"surface": 1}'])
def test_what_is_no_run(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    with pytest.raises(RunError):
        read_run(tmp_path)


def test_the_default_rate_is_settled_once() -> None:
    model = torch.nn.Linear(10, 10)
    assert with_rate(Settings(), model).lr == 1e-2
    assert with_rate(Settings(lr=0.5), model).lr == 0.5
