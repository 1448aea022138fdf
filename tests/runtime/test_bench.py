"""`mptc bench`: what it compares, what it refuses, and that its clock and its scales are right."""

from __future__ import annotations

import json
import re
import shlex
import statistics
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from mptc.runtime.bench import Job, interval, ratios, timed
from mptc.runtime.bench import sides as room
from mptc.runtime.bench.by_hand import regroups
from mptc.runtime.bench.child import measure
from mptc.runtime.bench.job import arguments, pairs
from mptc.runtime.bench.launch import PINNED, environment
from mptc.runtime.bench.peak import peak
from mptc.runtime.bench.report import Report, read_report, table
from mptc.runtime.errors import UserError
from tests.conftest import ROOT, Shell
from tests.passes.test_memory import Peak

README = (ROOT / "README.md").read_text(encoding="utf-8")
SPEC = """
use "lib/std.mpt"
dim d      = 8
dim hidden = 12
model small {
  input x: [d]
  output y = x + swiglu(rmsnorm(x) as norm)
}
"""
BY_HAND = """
import torch, torch.nn.functional as F
from torch import nn

class Small(nn.Module):
    def __init__(self, d, hidden):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(d))
        self.gate, self.up, self.down = nn.Linear(d, hidden, False), nn.Linear(d, hidden, False), nn.Linear(hidden, d, False)

    def forward(self, x):
        h = F.rms_norm(x, x.shape[-1:], self.gain, 1e-6)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))

class Other(Small):
    def forward(self, x, y): return x

class Failing(Small):
    def forward(self, x): return x + torch.ones(3)

class Short(Small):
    def forward(self, x): return super().forward(x)[:, 1:]

def failing(theirs, given): return given["nothing"]
def six(): return 6
"""
MAP = {"norm.gain": "gain", "swiglu.W_gate": "gate.weight", "swiglu.W_up": "up.weight", "swiglu.W_down": "down.weight"}


@pytest.fixture(autouse=True)
def precision() -> Iterator[None]:
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.fixture
def job(tmp_path: Path) -> Job:
    (tmp_path / "small.mpt").write_text(SPEC)
    (tmp_path / "hand.py").write_text(BY_HAND)
    return Job(str(tmp_path / "small.mpt"), batch=2, seqs=(3,), rounds=2, against=f"{tmp_path / 'hand.py'}:Small", args="d=8,hidden=12", map=MAP)


def asked(job: Job) -> Report:
    job.check()
    return measure(job)


# -- what is measured --------------------------------------------------------------------------------------


def test_both_are_compared_then_timed(job: Job) -> None:
    report = asked(replace(job, seqs=(3, 5)))
    assert [(row.direction, row.seq) for row in report.rows] == [(name, seq) for seq in (3, 5) for name in ("forward", "forward+backward")]
    assert report.compared is not None
    assert 0 <= max(report.compared.values()) < 1e-6
    for row in report.rows:
        assert row.theirs is not None
        assert row.ratio is not None
        assert row.low is not None
        assert row.high is not None
        assert 0 < row.low <= row.ratio <= row.high
        assert 0 < row.ours.low <= row.ours.seconds <= row.ours.high
        assert min(row.ours.peak, row.theirs.peak) >= 4 * row.batch * row.seq * 8
    assert "NOT compared" not in table(report)
    record = report.as_json()
    assert record["rows"][0]["ours"].pop("tokens_per_second") == pytest.approx(6 / report.rows[0].ours.seconds)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_other_dtypes(job: Job, dtype: str) -> None:
    assert asked(replace(job, dtype=dtype)).compared is not None


def test_alone(tmp_path: Path) -> None:
    report = asked(Job(str(ROOT / "specs/cem_small.mpt"), variant="tiny", batch=1, seqs=(4,), rounds=2, forward_only=True))
    (row,) = report.rows
    assert (row.theirs, row.ratio, report.against, report.compared) == (None, None, None, None)
    assert "theirs" not in table(report)
    assert "[lowest, highest: too few rounds for an interval]" in table(report)
    assert "[their 95 % interval]" in table(replace(report, rounds=6))


def test_without_a_map_it_says_that_answers_were_not_compared(job: Job) -> None:
    report = asked(replace(job, map={}, forward_only=True))
    assert report.compared is None
    assert "NOT compared" in table(report)


def test_a_precision_is_measured(job: Job) -> None:
    report = asked(replace(job, precision="medium", forward_only=True))
    assert report.rounding is not None
    assert 0 <= report.rounding < 0.05
    assert torch.get_float32_matmul_precision() == "medium"


def test_both_are_compiled_for_their_own_length(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, object]] = []
    monkeypatch.setattr(torch, "compile", lambda module, **options: seen.append((type(module).__name__, options)) or module)
    asked(replace(job, compile=True, seqs=(3, 5), forward_only=True))
    assert seen == [(name, {"dynamic": False}) for _ in (3, 5) for name in ("Model", "Small")]


# -- faults are seen ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("F.silu", "F.gelu", "output y by"),
        ("1e-6", "1e-1", "output y by"),
        ("return x + ", "return x.detach() + ", "the gradient of input x by"),
        ("self.up(h)", "F.linear(h, self.up.weight.detach())", "the gradient of swiglu.W_up by"),
    ],
)
def test_a_module_that_does_something_else_is_not_timed(job: Job, monkeypatch: pytest.MonkeyPatch, old: str, new: str, said: str) -> None:
    file = Path(str(job.against).rpartition(":")[0])
    file.write_text(file.read_text().replace(old, new))
    monkeypatch.setattr(room, "timed", None)
    with pytest.raises(UserError, match=f"^error: nothing was timed, as the answers differ: {said} .* at 3 tokens$"):
        asked(job)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_a_device_that_is_not_there(job: Job) -> None:
    with pytest.raises(UserError, match=r"^error: --device cuda: there is no CUDA here \("):
        asked(replace(job, device="cuda"))


HERE = "PATH"
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"dtype": "float33"}, "--dtype is float33; it is one of float32, bfloat16, float16"),
    ({"device": "tpu"}, "--device is tpu"),
    ({"rounds": 1}, "--rounds is 1; it must be at least 2"),
    ({"seqs": (3, 0)}, "--seq is 0"),
    ({"dtype": "bfloat16", "precision": "medium"}, "--precision medium is of float32"),
    ({"against": "hand.py"}, "hand.py is not FILE.py:NAME"),
    ({"against": "none.py:Small"}, "there is no file none.py"),
    ({"against": f"{HERE}:Smal"}, "there is no class or function Smal in .*; did you mean Small?"),
    ({"against": f"{HERE}:six", "args": ""}, "makes a int; it must make a torch.nn.Module"),
    ({"against": None}, "--args is of the module given by --against"),
    ({"args": "d=8,hiden=12"}, r"cannot be made with --args d=8,hiden=12: .*; it takes \(d, hidden\)"),
    ({"args": "d=8"}, "missing a required argument: 'hidden'"),
    ({"args": "d=8,hidden=print(1)"}, "each value a number"),
    ({"args": "8,12"}, "must be like d=256"),
    ({"args": "d=(8"}, "must be like d=256"),
    ({"args": "d=8,hidden=None"}, r"cannot be made: hand.py:9: TypeError"),
    ({"against": f"{HERE}:Other"}, r"forward\(x, y\) of .* cannot be called with x: .*; --inputs FILE.py:FUNCTION makes"),
    ({"against": f"{HERE}:Failing"}, "hand.py:Failing failed: hand.py:19: RuntimeError"),
    ({"against": f"{HERE}:Short"}, r"Short gives \[2, 2, 8\] for output y, which is \[2, 3, 8\]"),
    ({"inputs": f"{HERE}:failing"}, r"failing \(theirs, given\) failed: hand.py:24: KeyError"),
    ({"inputs": f"{HERE}:six"}, r"six \(theirs, given\) failed: TypeError: six\(\) takes 0"),
    ({"map": {**MAP, "norm.gian": "gain"}}, "the spec has no weight norm.gian; did you mean norm.gain?"),
    ({"map": {**MAP, "norm.gain": "gains"}}, "the module by hand has no weight gains; did you mean gain?"),
    ({"map": {"norm.gain": "gain"}}, "--map leaves out weights of the spec: swiglu.W_"),
    ({"map": {**MAP, "norm.gain": "gate.weight", "swiglu.W_gate": "gain"}}, r"\[8\] does not fit \[12, 8\]"),
]


@pytest.mark.parametrize(("change", "said"), REFUSED, ids=[str(said) for _, said in REFUSED])
def test_mistakes_are_one_line(job: Job, change: dict[str, Any], said: str) -> None:
    file = str(job.against).rpartition(":")[0]
    given = {name: value.replace(HERE, file) if isinstance(value, str) else value for name, value in change.items()}
    with pytest.raises(UserError, match=said.replace("?", r"\?")) as raised:
        asked(replace(job, **given))
    assert str(raised.value).startswith("error: ")
    assert "\n" not in str(raised.value)


def test_a_file_that_does_not_run(job: Job) -> None:
    file = Path(str(job.against).rpartition(":")[0])
    texts = {"import nowhere_at_all\n": "hand.py:1: ModuleNotFoundError", "x = (\n": "SyntaxError", "raise SystemExit": "SystemExit"}
    for text, said in texts.items():
        file.write_text(text)
        with pytest.raises(UserError, match=f"cannot be imported: .*{said}"):
            asked(job)


# -- the parts ---------------------------------------------------------------------------------------------


def test_rounds_are_interleaved() -> None:
    seen, ticks = "", iter(range(1000))

    def called(name: str) -> None:
        nonlocal seen
        seen += name

    calls = {name: (lambda name=name: called(name)) for name in "ab"}  # type: ignore[misc]
    seconds = timed(calls, 3, lambda: float(next(ticks)), repeats=2)
    assert seen == "bbaa" + "aabb" + "bbaa" + "aabb" + "bbaa"
    assert seconds == {"a": [0.5] * 3, "b": [0.5] * 3}
    assert ratios({"ours": [1.0, 2.0], "theirs": [3.0, 1.0]}) == [3.0, 0.5]


def test_the_interval_is_that_of_a_median() -> None:
    """95 of 100 intervals of 25 normal numbers hold the true median, give or take what chance allows."""
    chance = torch.Generator().manual_seed(0)
    samples = [torch.randn(25, generator=chance).tolist() for _ in range(100)]
    found = [interval(sample, 400) for sample in samples]
    assert 88 <= sum(low <= 0 <= high for low, high in found) <= 100
    assert all(low <= statistics.median(sample) <= high for sample, (low, high) in zip(samples, found, strict=True))
    assert interval([2.0] * 6) == (2.0, 2.0)
    assert interval([1.0, 2.0, 2.0, 2.0, 2.0, 9.0])[1] < 9.0


def test_few_rounds_are_no_interval() -> None:
    assert interval([3.0, 1.0, 2.0]) == (1.0, 3.0)


def test_peak_memory_is_what_lives_at_once() -> None:
    x, w = torch.ones(1000, 100), torch.ones(100, 100, requires_grad=True)

    def chain() -> torch.Tensor:
        a = x + 1
        b = a * 2
        del a
        return b - 1

    assert peak(chain, "cpu") == pytest.approx(2 * 400_000, abs=100)  # and what a scalar is

    def step() -> object:
        return torch.autograd.grad(((x @ w).tanh() ** 2).sum(), [w])

    with Peak() as counted:
        step()
    assert peak(step, "cpu") == pytest.approx(counted.most, rel=0.1)


def test_shapes_that_hold_the_same_in_the_same_order() -> None:
    assert regroups([4, 16, 64], [64, 64])
    assert regroups([64, 64], [4, 16, 64])
    assert regroups([8, 1], [8])
    assert not regroups([8, 12], [12, 8])
    assert not regroups([4, 6], [6, 4])
    assert not regroups([8], [9])


def test_maps_and_arguments(tmp_path: Path) -> None:
    (tmp_path / "names").write_text("# ours = theirs\na.b = c\n\nd = e  # one\n")
    assert pairs([str(tmp_path / "names"), "f=g"]) == {"a.b": "c", "d": "e", "f": "g"}
    for given, said in {"a=b a=c": "a is mapped twice", "a=c b=c": "c is mapped twice", "a=": "not OURS=THEIRS", "none": "neither"}.items():
        with pytest.raises(UserError, match=said):
            pairs(given.split())
    assert arguments('a=1, b="x,y", c=(1, -2.5), d=None') == {"a": 1, "b": "x,y", "c": (1, -2.5), "d": None}
    assert arguments("") == {}


def test_threads_are_pinned_before_torch_is_loaded() -> None:
    assert environment(Job("x", threads=3)).items() >= {**PINNED, "OMP_NUM_THREADS": "3"}.items()


# -- whole processes ---------------------------------------------------------------------------------------


def block(mark: str) -> str:
    return README.partition(f"<!-- {mark} -->")[2].split("```")[1].partition("\n")[2]


def test_what_the_readme_shows(mptc: Shell, tmp_path: Path) -> None:
    (tmp_path / "layer.mpt").write_text(block("bench spec"))
    (tmp_path / "by_hand.py").write_text(block("bench by_hand.py") + "\nprint('said by the way')\n")
    words = shlex.split(block("bench command").replace("\\\n", "").replace("--rounds 20", "--rounds 3"))
    done = mptc(*words[1:])
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"difference.*outputs \d\.\de[+-]\d\d, gradients \d\.\de[+-]\d\d", done.stdout)
    assert len(re.findall(r"(?m)^forward(?:\+backward)? +4 × 128 ", done.stdout)) == 2
    record = json.loads(mptc(*words[1:], "--json", "--forward", "--threads", "1").stdout)
    assert record["threads"] == 1
    assert read_report({**record, "rows": []}).model == "layer"


def test_a_child_that_dies(mptc: Shell, tmp_path: Path) -> None:
    (tmp_path / "small.mpt").write_text(SPEC)
    (tmp_path / "hand.py").write_text("import os\nos._exit(3)\n")
    done = mptc("bench", "small.mpt", "--against", "hand.py:Small")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: the process that measures ended with 3")
    assert "error[E0205]" in mptc("bench", "none.mpt").stderr
