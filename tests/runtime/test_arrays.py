"""Training on an array file: what is read, in which order, and what is refused."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mptc.runtime.arrays import Arrays, read_arrays
from mptc.runtime.data import EVALUATED, Batch
from mptc.runtime.errors import DataError, RunError, UserError
from mptc.runtime.generate import Draw, generate
from mptc.runtime.run import read_run
from mptc.runtime.session import open_model
from mptc.runtime.spec import typed_spec
from mptc.runtime.surface import Argument, Surface, surface
from tests.runtime import mixed

IDS = Surface("m", True, (Argument("n", True, (), ("many", 10_000)),))
NUMBERED = Surface("m", True, (Argument("n", True, (), ("many", 100_000)),))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def numbered(count: int, batch: int) -> Arrays:
    """Example i is the number i, twice."""
    np.savez("n.npz", n=np.arange(count)[:, None].repeat(2, 1))
    return read_arrays("n.npz", NUMBERED, batch)


def rows(batch: Batch) -> list[int]:
    return batch["n"][:, 0].tolist()


# -- order -----------------------------------------------------------------------------------------------------


def test_the_last_tenth_is_held_out_and_an_epoch_has_every_other_example_once() -> None:
    data = numbered(100, 8)
    held_out = [rows(batch) for batch in data.held_out_batches(0)]
    assert held_out == [list(range(90, 98)), [98, 99]]
    drawn = [row for step in range(45) for row in rows(data.training_batch(3, step))]  # four epochs
    epochs = [drawn[start : start + 90] for start in range(0, 360, 90)]
    assert all(sorted(epoch) == list(range(90)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    data = numbered(100, 8)
    first = rows(data.training_batch(3, 11))
    data.training_batch(3, 40)
    assert rows(numbered(100, 8).training_batch(3, 11)) == first
    assert rows(data.training_batch(4, 11)) != first


def test_evaluation_is_bounded() -> None:
    data = numbered(EVALUATED * 10 + 1000, 64)
    held_out = [row for batch in data.held_out_batches(0) for row in rows(batch)]
    assert len(held_out) == len(set(held_out)) == EVALUATED
    assert min(held_out) == data.first
    assert max(held_out) == data.count - 1


# -- what is read ----------------------------------------------------------------------------------------------


def facts() -> Surface:
    Path("mixed.mpt").write_text(mixed.SPEC)
    return surface(typed_spec("mixed.mpt"))


def test_safetensors_and_npz_give_the_same_batches() -> None:
    given = mixed.arrays()
    np.savez("data.npz", **given)
    save_file({name: torch.from_numpy(array) for name, array in given.items()}, "data.safetensors")
    first, second = (read_arrays(name, facts(), 8) for name in ("data.npz", "data.safetensors"))
    for one, other in zip(first.held_out_batches(0), second.held_out_batches(0), strict=True):
        assert list(one) == list(mixed.NAMES)
        assert all(torch.equal(one[name], other[name]) for name in one)
        assert {name: tensor.dtype for name, tensor in one.items()} == {
            **dict.fromkeys(("tokens", "source", "label"), torch.int64),
            **dict.fromkeys(("speed", "mood", "seen"), torch.float32),
        }
        assert torch.equal(one["mood"], torch.from_numpy(given["mood"][36:]))


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "i1", "i2", "i4", ">i4"])
def test_ids_of_any_integer_dtype(dtype: str) -> None:
    np.savez("n.npz", n=np.arange(40, dtype=dtype)[:, None].repeat(2, 1))
    assert rows(next(read_arrays("n.npz", IDS, 8).held_out_batches(0))) == [36, 37, 38, 39]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.bool])
def test_numbers_of_any_float_dtype_and_conditions(dtype: torch.dtype) -> None:
    numbers = (torch.arange(80).reshape(40, 2) % 2).to(dtype)
    save_file({"x": numbers}, "x.safetensors")
    batch = next(read_arrays("x.safetensors", Surface("m", True, (Argument("x", True),)), 8).held_out_batches(0))
    assert torch.equal(batch["x"], numbers[36:].float())


def test_a_run_on_arrays(here: Path) -> None:
    np.savez("data.npz", **mixed.arrays(200))
    out = io.StringIO()
    loss = mixed.train(here, "data.npz", out, steps=60, lr=0.1)
    said = out.getvalue().splitlines()
    assert said[1] == (
        "data data.npz: 180 examples to train on, the last 20 held out; tokens [5], speed [5, 4], mood [4], source [3], seen [3], label []"
    )
    assert f"step     60  held-out loss {loss:.4f} nats per sequence, accuracy 100.0%" in said
    run = read_run("run")
    assert (run.origin, run.data["kind"], run.settings.length) == ("data.npz", "arrays", 5)
    model, model_facts, _ = open_model("run", {}, None, None, None)
    with pytest.raises(UserError, match="model mixed must have one input, .* to read text; .*, so there is no text that it could continue"):
        generate(model, model_facts, b"a", 1, Draw())


def test_resuming_ends_with_the_same_bits_and_other_arrays_are_refused(here: Path) -> None:
    np.savez("data.npz", **mixed.arrays())
    mixed.train(here, "data.npz", io.StringIO())
    whole = Path("run/step-00000008/model.safetensors").read_bytes()
    Path("run").rename("whole")
    out = io.StringIO()

    class Killed(Exception):
        pass

    def dies(self: Arrays, seed: int, step: int, drawn: Callable[..., Batch] = Arrays.training_batch) -> Batch:
        if step == 6:
            raise Killed
        return drawn(self, seed, step)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Arrays, "training_batch", dies)
        mixed.train(here, "data.npz", io.StringIO())
    mixed.train(here, "data.npz", out, resume=True)
    assert "from step 4 to 8" in out.getvalue()
    assert Path("run/step-00000008/model.safetensors").read_bytes() == whole
    np.savez("other.npz", **mixed.arrays(seed=1))
    with pytest.raises(RunError, match="data: the run has .*sha256"):
        mixed.train(here, "other.npz", out, resume=True)


# -- what is refused ---------------------------------------------------------------------------------------------


INPUTS = f"its inputs are: {', '.join(mixed.NAMES)}"
Spoilt = Callable[[mixed.Arrays], mixed.Arrays]


def with_value(name: str, at: tuple[int, ...], value: float) -> Spoilt:
    def spoil(given: mixed.Arrays) -> mixed.Arrays:
        given[name][at] = value
        return given

    return spoil


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda a: {name: a[name] for name in a if name not in ("mood", "seen")}, ["mood: missing", "seen: missing", INPUTS]),
        (lambda a: {**a, "labels": a["label"]}, ["labels: the model has no such input", INPUTS]),
        (
            lambda a: {("tokns" if name == "tokens" else name): a[name] for name in a},
            ["tokens: missing", "tokns: the model has no such input; did you mean tokens?", INPUTS],
        ),
        (lambda a: {**a, "tokens": a["tokens"] * 1.0}, ["tokens: wanted integers, the ids of vocab, found float64"]),
        (lambda a: {**a, "tokens": a["tokens"] > 3}, ["tokens: wanted integers, the ids of vocab, found bool"]),
        (lambda a: {**a, "mood": a["mood"].astype(int)}, ["mood: wanted floats, found int64"]),
        (lambda a: {**a, "mood": a["mood"].astype("c8")}, ["mood: wanted floats, found complex64"]),
        (lambda a: {**a, "label": a["label"].astype(str)}, ["label: wanted integers, the ids of kind, found <U21"]),
        (lambda a: {**a, "speed": a["speed"][:, 0]}, ["speed: wanted [examples, seq, d = 4], found [40, 4]"]),
        (lambda a: {**a, "mood": a["mood"][:, :3]}, ["mood: wanted [examples, d = 4], found [40, 3]"]),
        (lambda a: {**a, "source": a["source"][:, :, None]}, ["source: wanted [examples, src], found [40, 3, 1]"]),
        (lambda a: {**a, "source": a["source"][:, :0]}, ["source: wanted [examples, src], found [40, 0]"]),
        (lambda a: {**a, "speed": a["speed"][:, :4]}, ["speed: seq is 4, and 5 in tokens"]),
        (lambda a: {**a, "seen": a["seen"][:, :2]}, ["seen: src is 2, and 3 in source"]),
        (lambda a: {**a, "label": a["label"][:39]}, ["label: examples is 39, and 40 in tokens"]),
        (with_value("tokens", (7, 2), 8), ["tokens[7, 2] is 8: the ids of vocab are 0 to 7"]),
        (with_value("tokens", (7, 2), -1), ["tokens[7, 2] is -1: the ids of vocab are 0 to 7"]),
        (with_value("source", (slice(3, 5), 1), 9), ["source[3, 1] is 9, one of 2 such: the ids of vocab are 0 to 7"]),
        (with_value("label", (5,), 3), ["label[5] is 3: the ids of kind are 0 to 2, or below 0 where none counts"]),
        (with_value("speed", (39, 4, 3), np.nan), ["speed[39, 4, 3] is nan: wanted finite numbers"]),
        (with_value("mood", (0, 1), -np.inf), ["mood[0, 1] is -inf: wanted finite numbers"]),
    ],
)
def test_arrays_that_do_not_fit(spoil: Spoilt, said: list[str], here: Path) -> None:
    np.savez("data.npz", **spoil(mixed.arrays()))
    with pytest.raises(DataError) as caught:
        mixed.train(here, "data.npz", io.StringIO())
    assert str(caught.value).splitlines() == ["error: data.npz does not fit model mixed", *(f"  {line}" for line in said)]
    assert not Path("run").exists()


def test_a_mistake_far_into_a_large_array_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mptc.runtime.fit.SCANNED", 16)
    data = np.zeros((100, 3), int)
    data[97, 1] = 10_000
    np.savez("n.npz", n=data)
    with pytest.raises(DataError, match=r"n\[97, 1\] is 10000: the ids of many are 0 to 9999"):
        read_arrays("n.npz", IDS, 8)


@pytest.mark.parametrize(
    ("examples", "numbers", "said"),
    [
        (0, {}, "error: data.npz has too few examples: 0, of which 0 to train on and 0 held out; there must be a batch of 8"),
        (9, {}, "too few examples: 9, of which 9 to train on and 0 held out"),
        (40, {"batch": 37}, "too few examples: 40, of which 36 to train on and 4 held out; there must be a batch of 37 (--batch)"),
        (40, {"length": 6}, "--length is 6, and the examples in data.npz have 5 tokens each"),
    ],
)
def test_too_few(examples: int, numbers: dict[str, int], said: str, here: Path) -> None:
    np.savez("data.npz", **mixed.arrays(examples))
    with pytest.raises(DataError) as caught:
        mixed.train(here, "data.npz", io.StringIO(), **numbers)
    assert said in str(caught.value)
    assert not Path("run").exists()


def test_nothing_that_counts(here: Path) -> None:
    given = mixed.arrays()
    given["label"][36:] = -1
    np.savez("data.npz", **given)
    with pytest.raises(DataError, match="the loss counts no id of label in the held-out part: all that it looks at are below 0"):
        mixed.train(here, "data.npz", io.StringIO())
    given["label"][:36] = -1
    given["label"][36:] = 1
    np.savez("data.npz", **given)
    with pytest.raises(DataError, match="the loss counts no id of label in the first batch"):
        mixed.train(here, "data.npz", io.StringIO())
    assert not Path("run").exists()


def written(name: str, content: bytes) -> None:
    Path(name).write_bytes(content)


@pytest.mark.parametrize("name", ["data.npz", "data.safetensors"])
@pytest.mark.parametrize(
    "made",
    [
        lambda name: None,
        lambda name: Path(name).mkdir(),
        lambda name: written(name, b""),
        lambda name: written(name, b"PK\x03\x04 neither of them"),
        lambda name: written(name, b"\x93NUMPY\x01\x00\xff"),
        lambda name: written(name, b"\xff" * 40),
    ],
    ids=["missing", "a directory", "empty", "a broken zip", "a broken array", "noise"],
)
def test_a_file_that_cannot_be_read(name: str, made: Callable[[str], None], here: Path) -> None:
    made(name)
    with pytest.raises(DataError, match=f"^error: cannot read data from {name}: "):
        mixed.train(here, name, io.StringIO())
    assert not Path("run").exists()


def test_files_cut_short_anywhere(here: Path) -> None:
    """Each is refused in one line, whatever is left of it."""
    np.savez_compressed("whole.npz", **mixed.arrays())
    save_file({name: torch.from_numpy(array) for name, array in mixed.arrays().items()}, "whole.safetensors")
    model = facts()
    for suffix in ("npz", "safetensors"):
        whole = Path(f"whole.{suffix}").read_bytes()
        for cut in range(0, len(whole), 97):
            Path(f"cut.{suffix}").write_bytes(whole[:cut])
            with pytest.raises(DataError, match="cannot read data from cut"):
                read_arrays(f"cut.{suffix}", model, 8)


def test_bits_flipped_anywhere(here: Path) -> None:
    """Read, refused or misfitting, never anything else."""
    np.savez_compressed("whole.npz", **mixed.arrays())
    save_file({name: torch.from_numpy(array) for name, array in mixed.arrays().items()}, "whole.safetensors")
    model, draw, refused = facts(), np.random.default_rng(0), 0
    for suffix in ("npz", "safetensors"):
        whole = np.frombuffer(Path(f"whole.{suffix}").read_bytes(), np.uint8)
        for _ in range(100):
            changed = whole.copy()
            changed[draw.integers(0, min(len(whole), 600), 3)] ^= np.uint8(1 << draw.integers(0, 8))
            Path(f"flipped.{suffix}").write_bytes(changed.tobytes())
            try:
                read_arrays(f"flipped.{suffix}", model, 8)
            except DataError:
                refused += 1
    assert refused > 100


@pytest.mark.parametrize(("content", "said"), [(np.zeros(3), "it is one array; np.savez writes named ones"), (np.array([None]), "allow_pickle")])
def test_numpy_files_of_another_sort(content: np.ndarray, said: str, here: Path) -> None:
    with Path("data.npz").open("wb") as file:
        np.save(file, content) if content.dtype != object else np.savez(file, tokens=content)
    with pytest.raises(DataError, match=f"cannot read data from data.npz: .*{said}"):
        mixed.train(here, "data.npz", io.StringIO())


def test_a_model_without_a_loss(here: Path) -> None:
    np.savez("data.npz", **mixed.arrays())
    with pytest.raises(UserError, match="model mixed declares no loss"):
        mixed.train(here, "data.npz", io.StringIO(), spec=mixed.SPEC.replace("  loss ", "  # "))


def test_a_text_for_a_model_of_several_inputs(here: Path) -> None:
    Path("data.txt").write_bytes(b"abc" * 1000)
    with pytest.raises(UserError) as caught:
        mixed.train(here, "data.txt", io.StringIO())
    first, second = str(caught.value).splitlines()
    assert first.endswith("to read text; its inputs are: tokens, speed, mood, source, seen, label")
    assert second == "  give --data a .safetensors or .npz file with one array for each input, or MODULE:FUNCTION"
