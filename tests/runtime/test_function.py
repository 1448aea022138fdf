"""Training on a function of the user's own."""

from __future__ import annotations

import io
import subprocess
import sys
from itertools import count
from pathlib import Path

import pytest

from mptc.runtime.data import EVALUATED
from mptc.runtime.errors import DataError, RunError
from mptc.runtime.function import FIRST_HELD_OUT, find_function
from mptc.runtime.run import read_run
from mptc.runtime.surface import Argument, Surface
from tests.conftest import ROOT
from tests.runtime import mixed

MIXED = """
from tests.runtime.mixed import arrays

def examples(seed, step, batch, length):
    return arrays(batch, length, seed=100 * step + seed)
"""
NUMBERS = Surface("m", True, (Argument("x", True),))
fresh = count()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    return tmp_path


def module(text: str) -> str:
    """A module with this text, of a name that was not imported yet."""
    name = f"own_{next(fresh)}"
    Path(f"{name}.py").write_text(text)
    return name


def failing(body: str) -> str:
    """What is said of a function with this body."""
    name = module(f"import numpy as np\ndef make(seed, step, batch, length):\n    {body}\n")
    with pytest.raises(DataError) as caught:
        find_function(f"{name}:make", NUMBERS, 2, 3).training_batch(0, 4)
    return str(caught.value).replace(name, "own")


def test_a_run_on_a_function(here: Path) -> None:
    name = module(MIXED)
    out = io.StringIO()
    mixed.train(here, f"{name}:examples", out, steps=60, lr=0.1, length=5)
    said = out.getvalue().splitlines()
    assert said[1] == f"data {name}:examples: batches of 8; held out are those of steps from 2^31 on"
    assert "nats per sequence, accuracy 100.0%" in said[-2]
    run = read_run("run")
    assert run.origin == f"{name}:examples"
    assert (run.data["kind"], run.data["name"], len(str(run.data["sha256"]))) == ("function", f"{name}:examples", 64)


def test_it_is_called_with_seed_step_batch_and_length() -> None:
    name = module("import torch\ncalls = []\ndef make(*four):\n    calls.append(four)\n    return {'x': torch.zeros(four[2], four[3])}\n")
    data = find_function(f"{name}:make", NUMBERS, 300, 3)
    data.training_batch(7, 5)
    held_out = list(data.held_out_batches(7))
    assert sys.modules[name].calls == [(7, 5, 300, 3), *((7, FIRST_HELD_OUT + step, 300, 3) for step in range(4))]
    assert EVALUATED <= sum(len(batch["x"]) for batch in held_out) < EVALUATED + 300


def test_resuming_ends_with_the_same_bits_and_another_function_is_refused(here: Path) -> None:
    """It fails once, in the middle: what came before is saved."""
    trip = "    if step == 6 and os.path.exists('trip'):\n        raise OSError('a disk went away')\n    return"
    text = f"import os\n{MIXED}".replace("    return", trip)
    name = module(text)
    mixed.train(here, f"{name}:examples", io.StringIO(), length=5)
    whole = Path("run/step-00000008/model.safetensors").read_bytes()
    Path("run").rename("whole")
    Path("trip").touch()
    said = rf"(?s)^error: {name}:examples failed at step 7\n.*a disk went away\nthe steps before are saved in run/step-00000006$"
    with pytest.raises(DataError, match=said):
        mixed.train(here, f"{name}:examples", io.StringIO(), length=5)
    Path("trip").unlink()
    out = io.StringIO()
    mixed.train(here, f"{name}:examples", out, resume=True)
    assert "from step 6 to 8" in out.getvalue()
    assert Path("run/step-00000008/model.safetensors").read_bytes() == whole
    Path(f"{name}.py").write_text(text + "\n")
    with pytest.raises(RunError, match="data: the run has .*sha256"):
        mixed.train(here, f"{name}:examples", out, resume=True)


def test_as_a_command_it_is_found_in_the_current_directory(here: Path) -> None:
    """Isolated from what pytest and PYTHONPATH put on the path."""
    (here / "number.mpt").write_text("model m {\n  input x: []\n  param w: []\n  output y = x + w\n  loss (y - x)^2\n}\n")
    (here / "own.py").write_text("import torch\ndef make(seed, step, batch, length):\n    return {'x': torch.ones(batch, length)}\n")
    script = f"import sys; sys.path.append({str(ROOT)!r}); from mptc.cli import main; main()"
    command = [sys.executable, "-P", "-c", script, "train", "number.mpt", "--data", "own:make", "--steps", "2", "--lr", "0.1"]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "held-out loss 0." in done.stdout
    assert "nats" not in done.stdout


# -- what is refused ---------------------------------------------------------------------------------------------


def found(name: str) -> str:
    with pytest.raises(DataError) as caught:
        find_function(name, NUMBERS, 2, 3)
    return str(caught.value)


def test_no_such_module_or_function() -> None:
    name = module("def example(): ...\nnumber = 3\n")
    assert found("nowhere_at_all:make") == "error: there is no module nowhere_at_all, neither in the current directory nor among those installed"
    assert found(f"{name}.py:make").endswith(f"; write {name}")
    assert found(f"{name}.deep:make").startswith(f"error: there is no module {name}.deep,")
    assert found(f"{name}:examples").endswith(f"/{name}.py): there is no function examples in it; did you mean example?")
    assert found(f"{name}:number").endswith("number in it is not a function")
    assert found(f"{name}:example").startswith(f"error: {name}:example is called with (seed, step, batch, length), which it does not take: ")


def test_a_module_that_cannot_be_imported() -> None:
    texts = ("import nowhere_at_all\n", "def (\n", "x = 1\nx / 0\n", "import sys\nsys.exit(3)\n")
    missing, broken, raising, leaving = map(module, texts)
    assert found(f"{missing}:make").splitlines() == [
        f"error: module {missing} cannot be imported",
        f'  File "{Path.cwd()}/{missing}.py", line 1, in <module>',
        "    import nowhere_at_all",
        "ModuleNotFoundError: No module named 'nowhere_at_all'",
    ]
    assert "SyntaxError" in found(f"{broken}:make")
    assert f'{broken}.py", line 1' in found(f"{broken}:make")
    assert found(f"{raising}:make").endswith("ZeroDivisionError: division by zero")
    assert found(f"{leaving}:make").endswith("SystemExit: 3")


def test_a_function_that_raises_shows_its_own_traceback() -> None:
    said = failing("raise ValueError('no more\\nrows')").splitlines()
    assert said == [
        "error: own:make failed at step 5",
        f'  File "{Path.cwd()}/own.py", line 3, in make',
        "    raise ValueError('no more\\nrows')",
        "ValueError: no more",
        "rows",
    ]
    deep = failing("f = lambda n: f(n - 1) if n else 1 / 0\n    f(200)")
    assert deep.count("\n") < 12
    assert deep.endswith("ZeroDivisionError: division by zero")


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return None", "own:make returned a NoneType; it must return a dict of arrays, named after the model's inputs"),
        ("return np.zeros((2, 3))", "own:make returned a ndarray; "),
        ("return {'y': np.zeros((2, 3))}", "what own:make makes for step 5 does not fit model m\n  x: missing\n  y: the model has no such input\n"),
        ("return {'x': [[0.0] * 3] * 2}", "x: wanted floats, found a list in place of an array"),
        ("return {'x': np.zeros((3, 3))}", "x: wanted [examples = 2, seq], found [3, 3]"),
        ("return {'x': np.zeros((2, 3, 1))}", "x: wanted [examples = 2, seq], found [2, 3, 1]"),
        ("return {'x': np.full((2, 3), np.nan)}", "x[0, 0] is nan, one of 6 such: wanted finite numbers"),
    ],
)
def test_what_it_makes_does_not_fit(body: str, said: str) -> None:
    assert said in failing(body)


def test_arrays_of_any_layout() -> None:
    name = module("import numpy as np\ndef make(seed, step, batch, length):\n    return {'x': np.broadcast_to(np.arange(3.0)[::-1], (batch, 3))}\n")
    assert find_function(f"{name}:make", NUMBERS, 2, 3).training_batch(0, 0)["x"].tolist() == [[2, 1, 0]] * 2


@pytest.mark.parametrize("draw", ["np.random.rand(2, 3)", "np.full((2, 3), float(next(calls)))", "buffer.__iadd__(1)"])
def test_batches_that_are_not_the_same_twice(draw: str, here: Path) -> None:
    lines = ["import numpy as np", "import itertools", "calls, buffer = itertools.count(), np.zeros((2, 3), np.float32)", "def make(*four):"]
    name = module("\n".join([*lines, f"    return {{'x': {draw}}}"]))
    spec = "model m {\n  input x: []\n  param w: []\n  output y = x + w\n  loss y^2\n}\n"
    with pytest.raises(DataError, match=rf"{name}:make made two batches that differ \(in x\) of the same seed and step"):
        mixed.train(here, f"{name}:make", io.StringIO(), spec=spec, batch=2)
    assert not Path("run").exists()


def test_a_batch_in_which_nothing_counts(here: Path) -> None:
    name = module(MIXED.replace("    return arrays(", "    made = arrays(") + "    made['label'] -= 3 * (step == 5)\n    return made\n")
    said = r"the loss counts no id of label in the batch of step 6: .*\nthe steps before are saved in run/step-00000005"
    with pytest.raises(DataError, match=said):
        mixed.train(here, f"{name}:examples", io.StringIO(), length=5)
    assert read_run("run").checkpoints()[-1].name == "step-00000005"
