"""What `mptc cost` says is what torch does: products as FlopCounterMode counts them, memory as MemTracker finds it."""

from __future__ import annotations

import json
import math
import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor, nn
from torch.distributed._tools.mem_tracker import MemTracker
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.hooks import RemovableHandle

from mptc.backends.kept import remark
from mptc.cli import main
from mptc.compile import torch_text
from mptc.cost import Cost, cost, largest
from mptc.cost.polynomial import ONE, Polynomial, short, total
from mptc.cost.report import peak
from mptc.cost.rows import home_of
from mptc.derive.decode import next_tokens
from mptc.model.resolve import resolve
from mptc.model.tree import Model
from mptc.runtime.load import instantiate
from mptc.show import derived_from
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source
from tests.gallery.drawn import drawn
from tests.golden import SPECS, VARIANT
from tests.passes.test_sparse import ALL
from tests.programs.models import seeded

ROOT = Path(__file__).parent.parent
SHAPES = ((2, 16, 11), (3, 29, 13))  # batch, tokens, entries of a memory
CLOSE = 0.15

gallery = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.stem)


@dataclass
class Case:
    """A spec's cost, open and for lengths, and its module, on inputs that are drawn."""

    cost: Cost
    costs: Callable[[dict[str, int]], Cost]
    model: nn.Module
    declared: Model
    loss: bool
    remark: str
    result: Any = field(default=None)  # held, as the cost says

    def given(self, batch: int, tokens: int, memory: int) -> dict[str, Tensor]:
        found = drawn(self.declared, tokens, memory, batch)
        return {name: value.float() if value.is_floating_point() else value for name, value in found.items()}

    def at(self, batch: int, tokens: int, memory: int) -> dict[str, int]:
        return {"batch": batch, "seq": tokens, **dict.fromkeys(self.cost.symbols[2:], memory)}

    def scalar(self, given: dict[str, Tensor]) -> Tensor:
        """The loss or, without one, the sum of all outputs."""
        self.result = self.model(**given, loss=self.loss)
        if self.loss:
            return self.result.loss
        return sum((value.sum() for value in self.result if isinstance(value, Tensor)), torch.zeros(()))


def case(source: Source, variant: str | None = VARIANT) -> Case:
    diagnostics = Diagnostics()
    derived, declared = derived_from(source, diagnostics, {}, variant), resolve(source, {}, variant, diagnostics)
    assert derived is not None, diagnostics.found
    assert declared is not None
    following = next_tokens(derived)
    model = instantiate(derived.program.name, torch_text(derived, following))
    costs = partial(cost, derived.program, following)
    return Case(costs(), costs, model, declared, derived.program.loss is not None, remark(following))


@cache
def of(spec: Path) -> Case:
    return case(Source.read(spec))


@cache
def written(text: str) -> Case:
    return case(Source("written.mpt", text), None)


def products(found: Case, *shape: int) -> tuple[int, int]:
    """Forward and backward, as torch's counter sees them with attention by its formula."""
    counted = []
    with sdpa_kernel(SDPBackend.MATH):
        with FlopCounterMode(display=False, custom_mapping=of_experts()) as counter:
            scalar = found.scalar(found.given(*shape))
        counted.append(counter.get_total_flops())
        with FlopCounterMode(display=False, custom_mapping=of_experts()) as counter:
            scalar.backward()
        counted.append(counter.get_total_flops())
    return counted[0], counted[1]


def of_experts() -> dict[Any, Callable[..., int]]:
    """What the products of generated modules count as, which the counter does not know: 2 rows times the size of a matrix."""

    def rows(x: Any, w: Any, *_: Any, **__: Any) -> int:
        return 2 * x[0] * w[1] * w[2]

    def weight(grad: Any, x: Any, *_: Any, **__: Any) -> int:
        return 2 * x[0] * grad[1] * x[1]

    known = {"grouped_rows": rows, "grouped_weight": weight}
    return {getattr(torch.ops.mptc, name): formula for name, formula in known.items() if hasattr(torch.ops.mptc, name)}


def told(found: Case, *shape: int) -> tuple[int | None, int | None]:
    row = found.costs(found.at(*shape)).total
    return row.forward.value, row.backward.value


def memory(found: Case, *shape: int) -> int:
    """The most that is there at once beside parameters and inputs: activations, gradients, and what operators pass on."""
    given = found.given(*shape)
    found.model.zero_grad(set_to_none=True)
    found.result = None
    tracker = MemTracker()
    hooked = RemovableHandle(OrderedDict())  # it would hook the gradients of what is frozen too
    tracker._param_to_grad_hook_handles.update({value: (hooked, hooked) for value in found.model.parameters() if not value.requires_grad})
    tracker.track_external(found.model, *given.values())
    with tracker:
        found.scalar(given).backward()
    [kinds] = [{str(kind): bytes for kind, bytes in each.items()} for each in tracker.get_tracker_snapshot("peak").values()]
    return kinds["Total"] - kinds["_MemRefType.PARAM"] - kinds["_MemRefType.OTH"]


# -- the gallery -----------------------------------------------------------------------------------------


@gallery
def test_products(spec: Path) -> None:
    for shape in SHAPES:
        counted, most = products(of(spec), *shape), told(of(spec), *shape)
        assert most == counted or (of(spec).cost.at_most and all(one >= (other or 0) for one, other in zip(most, counted, strict=True) if one))
        assert min(counted) > 0


@gallery
def test_parameters(spec: Path) -> None:
    found = of(spec)
    sizes = [parameter.numel() for parameter in found.model.parameters()]
    assert found.cost.total.stored == sum(sizes)
    assert found.cost.trained == sum(parameter.numel() for parameter in found.model.parameters() if parameter.requires_grad)
    rows: dict[str, int] = {}
    for name, parameter in found.model.named_parameters():
        row = home_of(re.sub(r"\.\d+\.", "[*].", name))
        rows[row] = rows.get(row, 0) + parameter.numel()
    assert {row.name: row.stored for row in found.cost.rows if row.stored} == rows


@gallery
def test_memory(spec: Path) -> None:
    found = of(spec)
    shape = (3, 96, 80)
    at = found.at(*shape)
    most, measured = peak(found.costs(at), at), memory(found, *shape)
    assert isinstance(most, int)
    assert abs(most - measured) <= CLOSE * measured or (found.cost.at_most and most > measured), (most, measured)


@gallery
def test_cache(spec: Path) -> None:
    """As `mptc compile` says it."""
    found = of(spec)
    if isinstance(found.cost.cache, str):
        assert found.remark == f"it cannot decode token by token: {found.cost.cache}"
    else:
        growing, fixed = found.cost.cache
        assert all(f"{bytes:,} bytes" in found.remark for bytes in (growing, fixed) if bytes)


# -- what is counted where -------------------------------------------------------------------------------

FRAME = """
dim d = 6
dim h = 10
block f(x: [d]) {{
  param W: [h, d]
  param U: [d, h]
  return U @ tanh(W @ x)
}}
model m {{
  input x: [d]
  {body}
}}
"""
BODIES = {
    "one": "output y = f(x) as f",
    "twice the same": "share g: f\n  output y = g(g(x))",
    "repeated": "repeat 3 { x <- x + f(x) as f }\n  output y = x",
    "stacked": "stack 3 as layers { x <- x + f(x) as f }\n  output y = x",
    "stopped": "output y = f(stop(f(x) as first)) as second",
    "frozen": "stack 3 as layers { x <- x + f(x) as f }\n  freeze layers[*].f.W\n  output y = x",
    "frozen once": "stack 3 as layers { x <- x + f(x) as f }\n  freeze layers[0]\n  freeze layers[2].f.U\n  output y = x",
    "tied copies": "stack 3 as layers { x <- x + f(x) as f }\n  tie layers[*].f = layers[0].f\n  output y = x",
    "tied and frozen": "stack 2 as layers { x <- x + f(x) as f }\n  g = f(x) as g\n  tie layers[*].f.W = g.W\n  freeze g.W\n  output y = x + g",
    "not asked for": "z = f(x) as other\n  probe z = z\n  output y = f(x) as f",
    "by a vector": "param v: [d]\n  output y = x * sum[d](v * x)",
    "by a frozen vector": "param W: [h, d]\n  param b: [h]\n  freeze b\n  output y = sum[h](W * sum[h](b * (W @ x)) * b)",
    "penalties": "stack 3 as layers {\n    penalty sum[d]((f(x) as f)^2)\n    x <- x / 2\n  }\n  output y = x",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_products_of(body: str) -> None:
    found = written(FRAME.format(body=body))
    assert told(found, 2, 5, 0) == products(found, 2, 5, 0)
    assert found.cost.total.stored == sum(parameter.numel() for parameter in found.model.parameters())
    assert found.cost.trained == sum(parameter.numel() for parameter in found.model.parameters() if parameter.requires_grad)


@pytest.mark.parametrize("number", [22, 42, 155, 196])
def test_products_of_random_programs(number: int) -> None:
    """Specs drawn at random, of those that once were counted wrong: where torch batches a product with a vector depends on how its rows lie."""
    found = case(Source(str(ROOT / "specs/random.mpt"), seeded(number).text), None)
    assert told(found, 2, 5, 4) == products(found, 2, 5, 4)


ROUTED = ("experts: softmax of the best", "experts: in a stack", "tokens: softly", "tokens: in a stack")
ROUTED += ("tokens: k to k, both ways", "tokens: k to all, both ways")


@pytest.mark.parametrize("name", ROUTED)
def test_of_the_chosen(name: str) -> None:
    """Products are those for the chosen, and memory is near what is found."""
    found = written(ALL[name])
    for shape in SHAPES:
        assert products(found, *shape) == told(found, *shape)
    at = found.at(3, 96, 80)
    most, measured = peak(found.costs(at), at), memory(found, 3, 96, 80)
    assert isinstance(most, int)
    assert abs(most - measured) <= CLOSE * measured, (most, measured)
    assert not found.cost.at_most


def test_effective() -> None:
    """Two matrices of 60, wherever an operator reads them."""
    effective = {name: written(FRAME.format(body=BODIES[name])).cost.total for name in ("one", "twice the same", "repeated", "stacked")}
    assert {name: (row.stored, row.effective) for name, row in effective.items()} == {
        "one": (120, 120),
        "twice the same": (120, 240),
        "repeated": (120, 360),
        "stacked": (360, 360),
    }


def test_rows() -> None:
    """Copies of a stack are one row; two products of 2·6·10 for each token, and the gradients of two operands, of which the input needs none."""
    [row] = written(FRAME.format(body=BODIES["stacked"])).cost.rows
    assert (row.name, row.copies) == ("layers[*].f", 3)
    assert str(row.forward) == "720·batch·seq"
    assert str(row.backward) == "1,320·batch·seq"
    assert [row.name for row in written(FRAME.format(body=BODIES["by a vector"])).cost.rows] == ["v"]


# -- polynomials -----------------------------------------------------------------------------------------


def test_polynomials() -> None:
    batch, seq = Polynomial.symbol("batch"), Polynomial.symbol("seq")
    found = total([(batch * seq * seq).times(512), (batch * seq).times(2_100_000)])
    assert str(found) == "512·batch·seq² + 2.1e6·batch·seq"
    assert found.at({"seq": 2}) == batch.times(512 * 4 + 4_200_000)
    assert found.at({"batch": 3, "seq": 2}).value == 3 * (512 * 4 + 4_200_000)
    assert found.value is None
    assert (batch + ONE) * (batch + ONE.times(-1)) == batch * batch + ONE.times(-1)
    assert largest([seq, seq * batch, batch, seq.times(3), ONE.times(5)]) == (seq * batch, seq.times(3), ONE.times(5))
    assert short(999_999) == "999,999"
    assert short(12_345_678) == "1.23e7"


# -- the command -----------------------------------------------------------------------------------------

Run = Callable[..., Any]


@pytest.fixture
def run() -> Run:
    return lambda *arguments: CliRunner().invoke(main, ["cost", *map(str, arguments)])


def test_text(run: Run) -> None:
    plain = run(ROOT / "specs/llama_small.mpt", "--variant", VARIANT)
    assert plain.exit_code == 0, plain.output
    assert "·batch·seq² + " in plain.stdout
    assert "layers[*].attention × 2" in plain.stdout
    numbers = run(ROOT / "specs/llama_small.mpt", "--variant", VARIANT, "--batch", 2, "--seq", 16)
    assert "batch·" not in numbers.stdout
    assert f"{peak(of(ROOT / 'specs/llama_small.mpt').cost, {'batch': 2, 'seq': 16}):,} bytes of activations" in numbers.stdout


def test_json(run: Run) -> None:
    """Exact, and the same evaluated now as later."""
    spec = ROOT / "specs/perceiver.mpt"
    at = {"batch": 2, "seq": 16, "src": 11}
    lengths = ("--batch", 2, "--seq", 16, "--length", "src=11")
    open_, known = (json.loads(run(spec, "--variant", VARIANT, "--json", *more).stdout) for more in ((), lengths))
    assert open_["symbols"] == list(at)
    for name in ("flops_forward", "flops_backward", "elementwise_forward", "bytes_forward", "bytes_backward", "kept_bytes"):
        terms = open_["total"][name]
        assert known["total"][name] == sum(factor * math.prod(at[each] ** power for each, power in powers.items()) for factor, powers in terms) > 0
    assert known["peak_bytes"] == peak(of(spec).cost, at)
    assert known["parameters"]["stored"] == sum(row["stored"] for row in known["rows"])
    assert "reason" in known["cache_bytes"]


def test_partly_known(run: Run) -> None:
    shown = run(ROOT / "specs/perceiver.mpt", "--variant", VARIANT, "--seq", 16)
    assert "·src" in shown.stdout
    assert "·seq" not in shown.stdout


MISTAKES = {
    "no file": (("nowhere.mpt",), "nowhere.mpt:1:1: error[E0205]"),
    "a name": ((ROOT / "specs/gpt2.mpt", "--set", "width=3"), "error[E"),
    "a variant": ((ROOT / "specs/gpt2.mpt", "--variant", "huge"), "error[E"),
    "no model": ((ROOT / "specs/lib/std.mpt",), "there is no model in this file"),
    "no length": ((ROOT / "specs/gpt2.mpt", "--length", "src=3"), "this model has no length src; it has batch, seq"),
    "no number": ((ROOT / "specs/gpt2.mpt", "--length", "src=many"), "is not NAME=NUMBER"),
    "nothing": ((ROOT / "specs/gpt2.mpt", "--batch", "0"), "--batch"),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(arguments: tuple[object, ...], message: str, run: Run) -> None:
    failed = run(*arguments)
    assert failed.exit_code in (1, 2)
    assert message in failed.stderr
    assert isinstance(failed.exception, SystemExit)


def test_too_large(run: Run, tmp_path: Path) -> None:
    spec = tmp_path / "long.mpt"
    spec.write_text(FRAME.format(body="repeat 100_000 { x <- x + f(x) as f }\n  output y = x"))
    failed = run(spec)
    assert failed.exit_code == 1
    assert "long.mpt:9:7: error[E0902]" in failed.stderr
