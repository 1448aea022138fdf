"""What may go wrong with a run that is there: one clear error each, and not a byte of it lost."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mptc.cli import main
from mptc.runtime.tokenize import make_tokenizer
from tests.runtime.test_cli import BIGRAM

TRAIN = ["train", "bigram.mpt", "--steps", "6", "--batch", "4", "--length", "16", "--save-every", "3"]


def mptc(*words: str) -> Result:
    return CliRunner().invoke(main, words)


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run, and mistakes to make."""
    monkeypatch.chdir(tmp_path)
    Path("bigram.mpt").write_text(BIGRAM)
    Path("other.mpt").write_text(BIGRAM.replace("read @ lookup", "read @ rmsnorm0").replace("rmsnorm0(embed, tokens)", "(2 * lookup(embed, tokens))"))
    Path("larger.mpt").write_text(BIGRAM.replace("dim d = 16", "dim d = 24"))
    Path("data.txt").write_bytes(b"abcdefgh" * 200)
    Path("short.txt").write_bytes(b"abcdefgh" * 15)
    make_tokenizer("data.txt", 300, "tokenizer.json")
    done = mptc(*TRAIN, "--data", "data.txt")
    assert done.exit_code == 0, done.output
    return tmp_path / "runs/bigram"


def content(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


MISTAKES = {
    "a missing file": (["--data", "none.txt"], "error: cannot read data from none.txt: No such file or directory"),
    "data shorter than a window": (["--data", "short.txt"], "error: short.txt is too short: 120 bytes, of which 108 to train on and 12 held out; "),
    "a tokenizer that does not fit": (
        ["--data", "data.txt", "--tokenizer", "tokenizer.json"],
        "error: model bigram has a vocabulary of 256; the tokens of tokenizer.json need at least 273",
    ),
    "settings that are not there": (["--data", "data.txt", "--settings", "none.toml"], "error: cannot read settings from none.toml: No such file"),
    "a device that is not there": (["--data", "data.txt", "--device", "tpu"], "error: --device is tpu; it must be one of cpu, cuda"),
}


ANOTHER = """\
error: runs/bigram cannot be resumed with these settings
  the spec (or what it uses) compiles to another module than it did
"""


@pytest.mark.parametrize("mistake", MISTAKES)
@pytest.mark.parametrize("resume", [True, False])
def test_what_is_wrong_is_said_in_one_line(mistake: str, resume: bool, begun: Path) -> None:
    options, message = MISTAKES[mistake]
    before = content(begun)
    done = mptc(*TRAIN, *options, *(["--resume"] if resume else []))
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(message)
    assert done.stderr.count("\n") == 1
    assert content(begun) == before


@pytest.mark.parametrize("spec", ["other.mpt", "larger.mpt"])
def test_a_checkpoint_of_another_spec(spec: str, begun: Path) -> None:
    before = content(begun)
    done = mptc("train", spec, "--out", "runs/bigram", "--resume")
    assert (done.exit_code, done.stderr) == (1, ANOTHER)
    assert content(begun) == before
    weights = str(begun / "step-00000006/model.safetensors")
    generated = mptc("generate", "larger.mpt", "--weights", weights, "--prompt", "a")
    assert generated.exit_code == 1
    assert generated.stdout == ""
    assert generated.stderr.startswith(f"error: {weights}")
    assert mptc("train", "bigram.mpt", "--resume").exit_code == 0
    assert content(begun) == before
