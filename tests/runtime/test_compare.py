"""`mptc compare`: what has run is not run again, what was cut off goes on; the table is what the runs found; the page is whole in itself."""

from __future__ import annotations

import json
import re
import statistics
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.conftest import ROOT, Shell

SPEC = """use "lib/std.mpt"
dim vocab = 256
dim d = 16
dim kv = 2
dim group = 1
dim key = d / 2
dim hidden = {hidden}
variant wide {{ hidden = 40 }}

model {name} {{
  input tokens: id[vocab]
  param embed: [vocab, d] ~ normal(0.02)
  x = lookup(embed, tokens)
  stack 2 as layers {{
    x <- x + attention(rmsnorm(x) as before)
    h = swiglu(rmsnorm(x) as pre_mlp)
    probe size = sum[d](h^2)
    x <- x + h
  }}
  output logits = embed @ rmsnorm(x)
  loss cross_entropy[vocab](logits, next(tokens))
}}
"""
ASKED = ("--data", "text.txt", "-o", "out", "--batch", 2, "--length", 16, "--threads", 1)


@pytest.fixture
def specs(tmp_path: Path) -> list[str]:
    (tmp_path / "text.txt").write_text("To be, or not to be, that is the question. " * 200)
    for name, hidden in (("narrow", 8), ("other", 24)):
        (tmp_path / f"{name}.mpt").write_text(SPEC.format(name=name, hidden=hidden))
    return ["narrow.mpt", "other.mpt"]


def ran(said: str) -> list[str]:
    return re.findall(r"^out/(\S+): [\d,]+ steps", said, re.MULTILINE)


def rows(table: str) -> dict[str, list[str]]:
    lines = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")][1:]
    return {first: rest for first, *rest in lines}


def test_it_compares_and_goes_on(mptc: Shell, specs: list[str], tmp_path: Path) -> None:
    first = mptc("compare", *specs, *ASKED, "--steps", 4, "--seeds", 1)
    assert first.returncode == 0, first.stderr
    assert ran(first.stdout) == ["narrow-0", "other-0"]
    more = mptc("compare", *specs, "narrow.mpt:wide", *ASKED, "--steps", 4, "--seeds", 2)
    assert ran(more.stdout) == ["narrow-1", "other-1", "narrow-wide-0", "narrow-wide-1"]
    table = (tmp_path / "out/table.md").read_text()
    assert more.stdout.endswith(table)
    found = rows(table)
    assert list(found) == ["narrow", "other", "narrow-wide"]
    last = []
    for seed in range(2):
        state = json.loads((tmp_path / f"out/other-{seed}/step-00000004/state.json").read_text())
        last.append(state["evaluations"][-1][1])
    assert found["other"][-1].rstrip(" |") == f"{statistics.mean(last):.4f} ± {(max(last) - min(last)) / 2:.4f}"
    assert found["other"][1:3] == ["4", str(4 * 2 * 16)]
    cost = json.loads(mptc("cost", "other.mpt", "--batch", 2, "--seq", 16, "--json").stdout)
    assert found["other"][0] == f"{cost['parameters']['stored']:,}"
    assert found["other"][3] == f"{(cost['total']['flops_forward'] + cost['total']['flops_backward']) / 32:,.0f}"


def test_a_run_that_was_cut_off_goes_on(mptc: Shell, specs: list[str], tmp_path: Path) -> None:
    """As if killed: a run with a checkpoint before its end, and one without any. Both end as the undisturbed one does."""
    command = ["compare", specs[0], *ASKED, "--steps", 6, "--save-every", 2, "--seeds", 1]
    assert mptc(*command).returncode == 0
    whole = (tmp_path / "out/narrow-0/step-00000006/model.safetensors").read_bytes()
    for kept in (["step-00000004"], []):
        for path in (tmp_path / "out/narrow-0").glob("step-*"):
            if path.name not in kept:
                for each in path.iterdir():
                    each.unlink()
                path.rmdir()
        again = mptc(*command)
        assert again.returncode == 0, again.stderr
        assert (tmp_path / "out/narrow-0/step-00000006/model.safetensors").read_bytes() == whole


def test_equal_parameters_and_budgets(mptc: Shell, specs: list[str], tmp_path: Path) -> None:
    (tmp_path / "other.mpt").write_text(SPEC.format(name="other", hidden=64))
    found = rows(mptc("compare", *specs, *ASKED, "--tokens", 100, "--seeds", 1, "--equal", "parameters").stdout)
    (narrow, other) = (int(row[0].replace(",", "")) for row in found.values())
    assert abs(other - narrow) <= 0.01 * narrow
    assert list(found)[1] == "other (hidden = 8)"
    assert found["narrow"][1] == "3"  # 100 tokens, of 32 a step
    cost = json.loads(mptc("cost", "narrow.mpt", "--batch", 2, "--seq", 16, "--json").stdout)["total"]
    flops = cost["flops_forward"] + cost["flops_backward"]
    asked = [*ASKED[:3], "flops", *ASKED[4:]]
    assert rows(mptc("compare", specs[0], *asked, "--flops", 2.5 * flops, "--seeds", 1).stdout)["narrow"][1] == "2"


class Whole(HTMLParser):
    """Raises where a page takes something from elsewhere, or a tag is none of ours."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = "html head meta title style body h1 h2 p table tr td th svg line text polyline rect"
        assert tag in known.split(), tag
        assert not any(name in ("src", "href") for name, _ in attrs)


def test_the_page(mptc: Shell, specs: list[str], tmp_path: Path) -> None:
    assert mptc("compare", *specs, *ASKED, "--steps", 3, "--seeds", 2).returncode == 0
    page = (tmp_path / "out/page.html").read_text()
    Whole().feed(page)
    assert page.count("<polyline") == 3 * 2 * 2 + 2  # three plots of two models with two seeds, and what each probes
    assert "narrow: layers.*.size" in page
    assert "http" not in page


def test_what_a_name_holds_is_text() -> None:
    from mptc.runtime.compare.page import PAGE, plot

    drawn = plot([("<script>alert(1)</script>", [(0, 1), (1, 2)]), ("b", [(0, float("nan")), (1, 1)])], "<b>step")
    Whole().feed(PAGE.format(title="t", body=drawn))
    assert "<script" not in drawn


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "the budget is one of --steps, --tokens and --flops"),
        (["--steps", 2, "--tokens", 9], "the budget is one of --steps, --tokens and --flops"),
        (["--tokens", 9], "less than one step of narrow, which takes 32"),
        (["--steps", 2, "--seeds", 0], "--seeds is 0"),
        (["--steps", 2, "--equal", "parameters", "--scale", "nothing"], "has no dim nothing to scale"),
        (["--steps", 2, "--equal", "parameters", "--scale", "kv"], "--scale another dim"),
        (["--steps", 2, "narrow.mpt"], "two of the models are called narrow"),
        (["--steps", 2, "absent.mpt"], "cannot read this file"),
    ],
)
def test_mistakes_run_nothing(more: list[object], message: str, mptc: Shell, specs: list[str], tmp_path: Path) -> None:
    said = mptc("compare", *specs, *ASKED, *more)
    assert said.returncode == 1
    assert message in said.stderr
    assert "Traceback" not in said.stderr
    assert not (tmp_path / "out").exists()


def test_another_length_is_another_comparison(mptc: Shell, specs: list[str]) -> None:
    assert mptc("compare", specs[0], *ASKED, "--steps", 2, "--seeds", 1).returncode == 0
    said = mptc("compare", specs[0], *ASKED, "--steps", 3, "--seeds", 1)
    assert said.returncode == 1
    assert "is a run of 2 steps, and this comparison is of 3" in said.stderr


@pytest.mark.parametrize("change", ["spec", "data", "rate"])
def test_a_whole_run_of_something_else_is_not_taken(change: str, mptc: Shell, specs: list[str], tmp_path: Path) -> None:
    command: list[object] = ["compare", specs[0], *ASKED, "--steps", 2, "--seeds", 1]
    assert mptc(*command).returncode == 0
    before = (tmp_path / "out/table.md").read_bytes()
    if change == "spec":
        (tmp_path / "narrow.mpt").write_text(SPEC.format(name="narrow", hidden=16))
    elif change == "data":
        (tmp_path / "text.txt").write_text("Whether it is nobler in the mind to suffer. " * 200)
    said = mptc(*command, *(["--lr", 0.0001] if change == "rate" else []))
    assert said.returncode == 1
    assert "cannot be resumed with these settings" in said.stderr
    assert (tmp_path / "out/table.md").read_bytes() == before


def test_what_stacks_probe_is_written_where_a_run_was_cut_off_before(mptc: Shell, specs: list[str], tmp_path: Path) -> None:
    command = ["compare", specs[0], *ASKED, "--steps", 2, "--seeds", 1]
    assert mptc(*command).returncode == 0
    page, log = (tmp_path / "out/page.html").read_bytes(), (tmp_path / "out/narrow-0/log.jsonl").read_bytes()
    (tmp_path / "out/narrow-0/probes.json").unlink()
    assert mptc(*command).returncode == 0
    assert (tmp_path / "out/page.html").read_bytes() == page
    assert (tmp_path / "out/narrow-0/log.jsonl").read_bytes() == log


def test_the_experiments_are_sound(mptc: Shell) -> None:
    for path in sorted((ROOT / "experiments").glob("*.mpt")):
        assert mptc("check", path).returncode == 0, path
