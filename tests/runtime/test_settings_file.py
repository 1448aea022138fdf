"""A settings file, flags over it, and the file that a run leaves."""

import json
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from mptc.cli import main
from mptc.runtime.asked import Asked, over_file
from mptc.runtime.errors import UserError
from mptc.runtime.settings import amount, settings
from tests.conftest import Shell
from tests.runtime.test_cli import BIGRAM


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    (tmp_path / "bigram.mpt").write_text(BIGRAM)
    (tmp_path / "data.txt").write_bytes(b"abcdefgh" * 200)
    return tmp_path / "bigram.mpt"


def test_flags_go_over_the_file_and_the_run_keeps_what_came_of_it(mptc: Shell, spec: Path, tmp_path: Path) -> None:
    text = 'data = "data.txt"\nvariant = "wide"\nsteps = 12\nbatch = 4\nlength = 16\nsave-every = 3\nkeep = 3\n[set]\nd = 24\n'
    (tmp_path / "small.toml").write_text(text)
    done = mptc("train", "bigram.mpt", "--settings", "small.toml", "--steps", "9", "--out", "first")
    assert done.returncode == 0, done.stderr
    assert [path.name for path in sorted((tmp_path / "first").glob("step-*"))] == ["step-00000003", "step-00000006", "step-00000009"]
    resolved = tomllib.loads((tmp_path / "first/settings.toml").read_text())
    assert resolved["set"] == {"d": "24"}
    assert {name: resolved[name] for name in ("data", "variant", "steps", "batch", "keep", "seed")} == {
        "data": "data.txt", "variant": "wide", "steps": 9, "batch": 4, "keep": 3, "seed": 0,
    }  # fmt: skip
    again = mptc("train", "bigram.mpt", "--settings", "first/settings.toml", "--out", "second")
    assert again.returncode == 0, again.stderr
    weights = [(tmp_path / out / "step-00000009/model.safetensors").read_bytes() for out in ("first", "second")]
    assert weights[0] == weights[1]
    resumed = mptc("train", "bigram.mpt", "--settings", "first/settings.toml", "--out", "first", "--resume")
    assert "from step 9 to 9" in resumed.stdout
    records = [json.loads(line) for line in (tmp_path / "first/log.jsonl").read_text().splitlines()]
    assert [each["step"] for each in records if "loss" in each] == list(range(1, 10))
    assert all(0 < each["mfu"] < 1 and each["tokens"] == 64 for each in records if "loss" in each)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepz = 3", "there is no setting stepz; did you mean steps?"),
        ('steps = "3"', "steps is '3'; it must be a whole number"),
        ("steps = 1.5", "steps is 1.5; it must be a whole number"),
        ("lr = true", "lr is True; it must be a number"),
        ("compile = 1", "compile is 1; it must be true or false"),
        ("data = 3", "data is 3; it must be a string"),
        ("set = 3", "set is a table"),
        ("steps = ", "is not TOML"),
        (None, "cannot read settings"),
    ],
)
def test_what_a_file_may_not_say(text: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match="error: ") as raised:
        over_file(Asked("some.mpt"), str(path))
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_there_must_be_data(mptc: Shell, spec: Path) -> None:
    done = mptc("train", "bigram.mpt")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: there is nothing to train on; give --data")


def test_a_step_fits_into_the_memory_that_is_given(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same weights, bit for bit, with no copy, some and all of them computed again; refused, with nothing written, where that is not enough."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.txt").write_bytes(b"abcdefgh" * 500)
    words = ["train", str(root / "specs/llama_small.mpt"), "--variant", "tiny", "--data", "data.txt", "--steps", "3", "--length", "64"]
    said, weights = [], []
    for memory in (None, "1GB", "22MB", "16MB", "1 MiB"):
        done = CliRunner().invoke(main, [*words, "--out", f"{memory}", *(["--memory", memory] if memory else [])])
        said.append(next((line for line in done.output.splitlines() if "memory" in line), done.output))
        weights.append((tmp_path / f"{memory}/step-00000003/model.safetensors").read_bytes() if done.exit_code == 0 else b"")
    assert weights[0] == weights[1] == weights[2] == weights[3] != b""
    assert [line.partition("; ")[2] for line in said[1:4]] == ["", *(f"computed again on the way back: {n} of 2 copies of layers" for n in (1, 2))]
    assert "error: --memory is 1 MiB, and a step takes 14.9 MiB, with every copy of its stacks computed again; try a smaller --batch" in said[4]
    assert not (tmp_path / "1 MiB").exists()


@pytest.mark.parametrize("memory", ["8", "much", "-1GB", "8PB"])
def test_what_is_no_amount(memory: str) -> None:
    with pytest.raises(UserError, match=f"--memory is {memory}; it must be an amount such as 8GB or 512MiB"):
        settings({"memory": memory})


def test_amounts() -> None:
    assert [amount(each) for each in ("8GB", "512 MiB", "1.5kb", "7B")] == [8 * 10**9, 512 * 2**20, 1500, 7]
