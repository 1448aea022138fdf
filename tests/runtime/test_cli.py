"""The command line, as whole processes."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from mptc.cli import main
from mptc.runtime.errors import UserError
from tests.conftest import Shell

BIGRAM = """
dim vocab = 256
dim d = 16
variant wide { d = 32 }
model bigram {
  input tokens: id[vocab]
  param embed: [vocab, d]
  param read: [vocab, d]
  output logits = read @ lookup(embed, tokens)
  loss cross_entropy[vocab](logits, next(tokens))
}
"""
WRONG = "dim d = 4\nmodel m {\n  input x: [d]\n  output y = x + nowhere\n}\n"


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    (tmp_path / "bigram.mpt").write_text(BIGRAM)
    (tmp_path / "wrong.mpt").write_text(WRONG)
    (tmp_path / "data.txt").write_bytes(b"abcdefgh" * 200)
    return tmp_path / "bigram.mpt"


def test_check(mptc: Shell, spec: Path) -> None:
    good, bad = mptc("check", "bigram.mpt"), mptc("check", "wrong.mpt")
    assert (good.returncode, good.stdout, good.stderr) == (0, "", "")
    assert (bad.returncode, bad.stdout) == (1, "")
    assert bad.stderr.startswith("wrong.mpt:4:18: error[E")
    assert "nowhere" in bad.stderr


def test_check_as_json(mptc: Shell, spec: Path) -> None:
    done = mptc("check", "--json", "wrong.mpt")
    (record,) = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (1, "")
    assert (record["path"], record["line"], record["severity"]) == ("wrong.mpt", 4, "error")
    assert json.loads(mptc("check", "--json", "bigram.mpt").stdout) == []


@pytest.mark.parametrize("command", ["check", "compile"])
@pytest.mark.parametrize(("name", "content"), [("none.mpt", None), ("latin.mpt", b"# caf\xe9\n"), ("folder", "")])
def test_a_file_that_cannot_be_read(command: str, name: str, content: bytes | str | None, mptc: Shell, tmp_path: Path) -> None:
    if content == "":
        (tmp_path / name).mkdir()
    elif isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    done = mptc(command, name)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{name}:1:1: error[E0205]: cannot read this file: ")


def test_compile_writes_and_says_what(mptc: Shell, spec: Path, tmp_path: Path) -> None:
    done = mptc("compile", "bigram.mpt", "-o", "out")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "wrote out/bigram/bigram.py\nits cache holds 0 bytes for each token in float32, half as many in 16 bits\n"
    assert [path.name for path in (tmp_path / "out").rglob("*") if path.is_file()] == ["bigram.py"]
    assert "class Model(" in (tmp_path / "out/bigram/bigram.py").read_text()


def test_overrides(mptc: Shell, spec: Path, tmp_path: Path) -> None:
    texts = []
    for options in ([], ["--set", "d=32"], ["--variant", "wide"], ["--variant", "wide", "--set", "d=16"]):
        assert mptc("compile", "bigram.mpt", *options).returncode == 0
        texts.append((tmp_path / "build/bigram/bigram.py").read_text())
    assert texts[0] == texts[3] != texts[1] == texts[2]


@pytest.mark.parametrize("options", [["--set", "nowhere=3"], ["--variant", "nowhere"], ["--set", "d=x y"], ["--set", "d=-1"]])
def test_a_wrong_override_writes_nothing(options: list[str], mptc: Shell, spec: Path, tmp_path: Path) -> None:
    done = mptc("compile", "bigram.mpt", *options)
    assert done.returncode == 1
    assert ": error[E" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "build").exists()


def test_an_error_leaves_the_last_good_output(mptc: Shell, spec: Path, tmp_path: Path) -> None:
    mptc("compile", "bigram.mpt")
    before = (tmp_path / "build/bigram/bigram.py").read_text()
    spec.write_text(BIGRAM.replace("read @", "embd @"))
    assert mptc("compile", "bigram.mpt").returncode == 1
    assert (tmp_path / "build/bigram/bigram.py").read_text() == before
    assert len(list((tmp_path / "build/bigram").iterdir())) == 1


@pytest.mark.parametrize("stage", ["ast", "model", "ir", "derivation"])
def test_stages_are_printed(stage: str, mptc: Shell, spec: Path, tmp_path: Path) -> None:
    done = mptc("compile", "bigram.mpt", "--emit", stage)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip()
    assert not (tmp_path / "build").exists()


@pytest.mark.parametrize("options", [[], ["--emit", "model"]])
def test_a_library_checks_and_has_nothing_to_compile(options: list[str], mptc: Shell, tmp_path: Path) -> None:
    (tmp_path / "library.mpt").write_text("block twice(x: []) { \n return 2 * x\n}\n")
    assert mptc("check", "library.mpt").returncode == 0
    done = mptc("compile", "library.mpt", *options)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "library.mpt: error: there is no model in this file\n"


def test_a_place_that_cannot_be_written(mptc: Shell, spec: Path) -> None:
    done = mptc("compile", "bigram.mpt", "-o", "data.txt")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: cannot write data.txt/bigram")


@pytest.mark.parametrize(
    "arguments",
    [["compile"], ["compile", "x", "--emit", "jax"], ["compile", "x", "--emit", "ast,torch"], ["check", "x", "--set", "d"], ["no"], ["train"]],
)
def test_usage_errors(arguments: list[str], mptc: Shell) -> None:
    done = mptc(*arguments)
    assert done.returncode == 2
    assert "Usage:" in done.stderr


def test_explain(mptc: Shell) -> None:
    done = mptc("explain", "e0205")
    assert done.returncode == 0
    assert done.stdout.startswith("E0205: ")
    assert mptc("explain", "E9999").stderr.startswith("error: there is no diagnostic E9999")


def test_train_resume_and_generate(mptc: Shell, spec: Path, tmp_path: Path) -> None:
    words = ["train", "bigram.mpt", "--data", "data.txt", "--steps", "30", "--batch", "4", "--length", "16", "--lr", "0.1", "--save-every", "10"]
    done = mptc(*words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:2] == ["model bigram: 8,192 parameters, on cpu", "data data.txt: 1,440 bytes to train on, the last 160 held out"]
    assert done.stdout.count("held-out loss") == 1
    assert (tmp_path / "runs/bigram/step-00000030/model.safetensors").exists()
    assert "already holds a run" in mptc(*words).stderr
    again = mptc(*words, "--resume").stdout
    assert "from step 30 to 30" in again
    assert again.count("held-out loss") == 1
    assert mptc("train", "bigram.mpt", "--data", "data.txt", "--resume").returncode == 0
    assert "steps: the run has 30, now 31" in mptc(*words[:5], "31", "--resume").stderr
    sources = (["runs/bigram"], ["bigram.mpt", "--run", "runs/bigram"], ["bigram.mpt", "--weights", "runs/bigram/step-00000030/model.safetensors"])
    for source in sources:
        said = mptc("generate", *source, "--prompt", "ab", "--tokens", "10", "--temperature", "0")
        assert (said.returncode, said.stdout) == (0, "abcdefghabcd\n"), said.stderr
    refused = mptc("generate", "runs/bigram", "--set", "d=32", "--variant", "wide", "--prompt", "a")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "runs/bigram is a run, which keeps its own settings; leave out --set and --variant" in refused.stderr


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (("256", "255"), [], "vocabulary of 255; bytes need at least 256"),
        (("  loss", "  # "), [], "declares no loss"),
        (("", ""), ["--data", "none.txt"], "cannot read data from none.txt: No such file"),
        (("", ""), ["--length", "500"], "each part needs at least one window of 500"),
        (("read @", "embd @"), [], "error[E"),
        (("", ""), ["--resume"], "runs/bigram holds no run to go on with"),
        (("", ""), ["--lr", "nan"], "--lr is nan; it must be a number above 0"),
    ],
)
def test_training_refuses_before_it_writes(
    change: tuple[str, str], options: list[str], message: str, mptc: Shell, spec: Path, tmp_path: Path
) -> None:
    spec.write_text(BIGRAM.replace(*change))
    done = mptc("train", "bigram.mpt", "--data", "data.txt", *options)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists()


def test_generating_refuses(mptc: Shell, spec: Path, tmp_path: Path) -> None:
    assert "alone is untrained" in mptc("generate", "bigram.mpt", "--prompt", "a").stderr
    assert mptc("generate", "nope", "--prompt", "a").stderr == "error: there is no spec and no run directory nope\n"
    assert "not a run directory" in mptc("generate", str(tmp_path), "--prompt", "a").stderr
    assert "cannot read weights" in mptc("generate", "bigram.mpt", "--weights", "none", "--prompt", "a").stderr


@pytest.mark.parametrize("command", ["run", "generate"])
def test_nothing_is_printed_before_an_error(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refusing(*_: object, **__: object) -> Iterator[int]:
        raise UserError("error: a first byte cannot be made")
        yield 0

    monkeypatch.setattr("mptc.runtime.behind.open_decoder", lambda *_: None)
    monkeypatch.setattr("mptc.runtime.behind.run", refusing)
    monkeypatch.setattr("mptc.runtime.session.open_model", lambda *_, **__: (None, None, 8))
    monkeypatch.setattr("mptc.runtime.generate.generate", refusing)
    done = CliRunner().invoke(main, [command, "some", "--prompt", "ROMEO:"])
    assert (done.exit_code, done.stdout) == (1, "")
    assert "a first byte cannot be made" in done.stderr
