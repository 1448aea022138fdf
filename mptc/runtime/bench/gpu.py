"""`mptc bench --device cuda`: kernels, layers and training steps on a GPU, each beside what else there is, as one table and one CSV.

It has been run on a CPU alone, by Triton's interpreter and at sizes that mean nothing (`tests/kernels/test_gpu_bench.py`): no figure of a GPU exists.
Sides of a case take turns; a ratio is the median over rounds of theirs / ours. The layers by hand are those of `shared/baselines/handwritten.py`,
beside the working directory or above it, and are left out where there is no such file.
"""

from __future__ import annotations

import csv
import io
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
import triton
from torch import Tensor, nn

from mptc.runtime.bench.attention import Attend, rotated, sides
from mptc.runtime.bench.by_hand import found
from mptc.runtime.errors import UserError
from mptc.runtime.files import write_all
from mptc.runtime.module import as_module
from mptc.runtime.spec import compile_spec
from mptc.runtime.tune import seconds

LAYERS = {
    "CEM layer": """use "lib/cem.mpt"
dim d = {d}
dim head = {heads}
dim key = d / head
dim hidden = {hidden}
dim rank = 16
model layer {{
  input x: [d]
  c = past(rmsnorm(x) as context)
  y = x - grad interaction(rmsnorm(x) as query | c)
  h = rmsnorm(y) as pre_gate
  output z = y - grad gated(h | h)
}}
""",
    "Llama layer": """use "lib/std.mpt"
dim d = {d}
dim kv = {heads}
dim group = 1
dim key = d / (kv * group)
dim hidden = {hidden}
model layer {{
  input x: [d]
  y = x + attention(rmsnorm(x) as pre_attention)
  output z = y + swiglu(rmsnorm(y) as pre_mlp)
}}
""",
}
BY_HAND = {"CEM layer": ("CemLayer", "CemAutograd"), "Llama layer": ("LlamaLayer",)}
STEP = """use "lib/{lib}.mpt"
dim vocab = {vocab}
dim d = {d}
dim {head} = {heads}
{more}dim hidden = {hidden}
model step {{
  input tokens: id[vocab]
  param embed: [vocab, d]
  x = lookup(embed, tokens)
  stack {depth} as layers {{
{body}  }}
  output logits = embed @ rmsnorm(x)
  loss cross_entropy[vocab](logits, next(tokens))
}}
"""
BODIES = {
    "CEM layer": """    c = past(rmsnorm(x) as context)
    x <- x - grad interaction(rmsnorm(x) as query | c)
    h = rmsnorm(x) as pre_gate
    x <- x - grad gated(h | h)
""",
    "Llama layer": """    x <- x + attention(rmsnorm(x) as pre_attention)
    x <- x + swiglu(rmsnorm(x) as pre_mlp)
""",
}


@dataclass(frozen=True)
class Size:
    """What is timed: sequences, tokens; (width, heads, hidden) of each layer; copies and vocabulary of the model that is trained."""

    batch: int = 8
    seq: int = 4096
    layers: tuple[tuple[int, int, int], ...] = ((768, 12, 2048), (2048, 16, 5632))
    depth: int = 12
    vocab: int = 50304
    rounds: int = 20


@dataclass(frozen=True)
class Row:
    """One side of one case: milliseconds (the median; None and why where it did not run), ours / theirs, TFLOP/s and GB/s, of the ceiling, MB."""

    case: str
    size: str
    side: str
    milliseconds: float | None
    ratio: float | None = None
    rate: float | None = None
    share: float | None = None
    peak: float | None = None
    remark: str = ""


Side = tuple[str, Callable[[], object]]


@dataclass
class Suite:
    """All cases on one device. `compiles`: whether baselines stand under torch.compile."""

    device: torch.device
    size: Size
    compiles: bool
    say: Callable[[str], object]
    rows: list[Row] = field(default_factory=list)
    ceilings: dict[str, float] = field(default_factory=dict)

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.device.type == "cuda" else torch.float32

    def run(self) -> None:
        self._ceilings()
        for d, heads, hidden in self.size.layers:
            self._attention(d, heads)
            for name in LAYERS:
                self._layer(name, d, heads, hidden)
        for name in LAYERS:
            self._step(name, *self.size.layers[0])

    # -- one case ----------------------------------------------------------------------------------------

    def case(self, case: str, size: str, own: list[Side], work: float, unit: str) -> None:
        """Times sides in turns. `work`: FLOPs or bytes, whose ceiling `unit` names."""
        times: dict[str, list[float]] = {}
        remarks: dict[str, str] = {}
        peaks: dict[str, float] = {}
        for name, call in own:
            try:
                peaks[name] = self._peak(call)
                times[name] = []
            except Exception as reason:  # noqa: BLE001 -- a side that this machine or version does not have is left out, and the table says so
                remarks[name] = f"{type(reason).__name__}: {(str(reason).splitlines() or [''])[0][:100]}"
        for _ in range(self.size.rounds):
            for name, call in own:
                if name in times:
                    times[name].append(seconds(call, torch.empty(0, device=self.device), 1))
        ours = times.get(own[0][0])
        for name, _ in own:
            if name not in times:
                self._add(Row(case, size, name, None, remark=remarks[name]))
                continue
            median = statistics.median(times[name])
            ratio = statistics.median([theirs / mine for mine, theirs in zip(ours, times[name], strict=True)]) if ours else None
            share = work / median / self.ceilings[unit] if self.ceilings.get(unit) else None
            self._add(Row(case, size, name, 1e3 * median, ratio, work / median / (1e12 if unit == "TFLOP/s" else 1e9), share, peaks[name], unit))

    def _add(self, row: Row) -> None:
        self.rows.append(row)
        self.say(line(row))

    def _peak(self, call: Callable[[], object]) -> float:
        """What a call holds at most, in MB. It is the one that compiles."""
        if self.device.type == "cuda":
            call()
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        call()
        return torch.cuda.max_memory_allocated() / 1e6 if self.device.type == "cuda" else 0.0

    def _ceilings(self) -> None:
        """Copying and multiplying, as fast as this machine does."""
        many, side = (2**28, 8192) if self.device.type == "cuda" else (2**16, 64)
        source = torch.empty(many, dtype=torch.uint8, device=self.device).random_()
        into = torch.empty_like(source)
        a, b = (torch.randn(side, side, dtype=self.dtype, device=self.device) for _ in range(2))
        self.case("ceiling", f"{many:,} bytes", [("copy", lambda: into.copy_(source))], 2.0 * many, "GB/s")
        self.ceilings["GB/s"] = 2.0 * many / (self.rows[-1].milliseconds or 1) * 1e3
        self.case("ceiling", f"{side} x {side} x {side}", [("product", lambda: a @ b)], 2.0 * side**3, "TFLOP/s")
        self.ceilings["TFLOP/s"] = 2.0 * side**3 / (self.rows[-1].milliseconds or 1) * 1e3

    # -- the cases -----------------------------------------------------------------------------------------

    def _attention(self, d: int, heads: int) -> None:
        """The tied kernel beside torch's attentions: its core alone, and with the rotations of queries, keys and outputs."""
        size = self.size
        kernel = self._module(LAYERS["CEM layer"].format(d=d, heads=heads, hidden=2 * d)).kernels.attention
        shape = (size.batch, heads, size.seq, d // heads)
        q, k, flow = (torch.randn(shape, device=self.device, dtype=self.dtype) for _ in range(3))
        leaves = [each.requires_grad_() for each in (q, k)]
        work = 2.0 * size.batch * heads * size.seq**2 * (d // heads)
        for whole in ("core", "with rotations"):
            forward: list[Side] = []
            both: list[Side] = []
            for name, attend in sides(kernel, self.compiles):
                call = attend if whole == "core" else rotated(attend, size.seq, d // heads, q)
                call = torch.compile(call) if self.compiles and whole != "core" else call
                forward.append((name, _without_gradients(call, q, k)))
                both.append((name, _with_gradients(call, leaves, flow)))
            self.case(f"attention {whole}, forward", f"{shape}", forward, work, "TFLOP/s")
            self.case(f"attention {whole}, forward and backward", f"{shape}", both, 3.5 * work, "TFLOP/s")

    def _layer(self, name: str, d: int, heads: int, hidden: int) -> None:
        size = self.size
        x = torch.randn(size.batch, size.seq, d, device=self.device, dtype=self.dtype)
        flow = torch.randn_like(x)
        own = self._placed(self._module(LAYERS[name].format(d=d, heads=heads, hidden=hidden)).Model())
        made: list[tuple[str, nn.Module, tuple[Any, ...]]] = [("kernels", own, ())]
        hand = handwritten()
        for kind in BY_HAND[name] if hand else ():
            tables = found(f"{hand}:tables")(size.seq, d // heads, dtype=self.dtype, device=self.device)
            made.append((kind, self._placed(found(f"{hand}:{kind}")(d, heads, hidden)), tables))
        calls: list[Side] = []
        for side, module, more in made:
            # what differentiates inside forward is not for torch.compile
            fast = torch.compile(module) if self.compiles and side != "CemAutograd" else module
            calls.append((side, _step_of(fast, module, x, flow, more)))
        products = {"CEM layer": 3 * d * d + 3 * d * hidden, "Llama layer": 4 * d * d + 3 * d * hidden}[name]
        work = 3 * size.batch * size.seq * (2.0 * products) + 3.5 * 2.0 * size.batch * size.seq**2 * d
        self.case(f"{name}, forward and backward", f"{size.batch} x {size.seq}, {d}/{heads}", calls, work, "TFLOP/s")

    def _step(self, name: str, d: int, heads: int, hidden: int) -> None:
        """A training step of a whole model: forward, backward and AdamW."""
        size = self.size
        cem = name == "CEM layer"
        more = "dim key = d / head\ndim rank = 16\n" if cem else "dim group = 1\ndim key = d / kv\n"
        lib, head = ("cem", "head") if cem else ("std", "kv")
        text = STEP.format(
            lib=lib, head=head, more=more, vocab=size.vocab, d=d, heads=heads, hidden=hidden, depth=size.depth, body=BODIES[name]
        )
        tokens = torch.randint(0, size.vocab, (size.batch, size.seq), device=self.device)
        made: list[tuple[str, nn.Module]] = [("kernels", self._module(text).Model())]
        hand = handwritten()
        if hand:
            layer = found(f"{hand}:{BY_HAND[name][0]}")
            tables = found(f"{hand}:tables")(size.seq, d // heads, dtype=self.dtype, device=self.device)
            made.append(("by hand", ByHand([layer(d, heads, hidden) for _ in range(size.depth)], size.vocab, d, tables)))
        calls: list[Side] = [(side, _training(self._placed(module), tokens, self.compiles)) for side, module in made]
        weights = sum(each.numel() for each in made[0][1].parameters())
        work = 6.0 * weights * size.batch * size.seq + size.depth * 3.5 * 2.0 * size.batch * size.seq**2 * d
        self.case(f"training step of {weights / 1e6:.0f}M, {name}s", f"{size.batch} x {size.seq}", calls, work, "TFLOP/s")

    def _placed(self, module: nn.Module) -> nn.Module:
        return module.to(self.device, self.dtype)

    def _module(self, text: str) -> Any:
        with TemporaryDirectory() as folder:
            spec = Path(folder) / "timed.mpt"
            spec.write_text(text, encoding="utf-8")
            made = compile_spec(spec, emit=("triton",), kernels="triton")
        return as_module(made.name, made.files[f"{made.name}.py"], made.files["kernels.py"])


class ByHand(nn.Module):
    """A language model of layers by hand."""

    def __init__(self, layers: list[nn.Module], vocab: int, d: int, tables: tuple[Tensor, Tensor]) -> None:
        super().__init__()
        self.embed, self.gain = nn.Parameter(torch.randn(vocab, d) * 0.02), nn.Parameter(torch.ones(d))
        self.layers, self.tables = nn.ModuleList(layers), tables

    def forward(self, tokens: Tensor) -> Tensor:
        x = F.embedding(tokens, self.embed)
        for layer in self.layers:
            x = layer(x, *self.tables)
        logits = F.linear(F.rms_norm(x, x.shape[-1:], self.gain, 1e-6), self.embed)
        return F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


def _without_gradients(call: Attend, q: Tensor, k: Tensor) -> Callable[[], object]:
    def run() -> Tensor:
        with torch.no_grad():
            return call(q, k)

    return run


def _with_gradients(call: Attend, leaves: list[Tensor], flow: Tensor) -> Callable[[], object]:
    return lambda: torch.autograd.grad(call(*leaves), leaves, flow)


def _step_of(fast: Any, module: nn.Module, x: Tensor, flow: Tensor, more: tuple[Any, ...]) -> Callable[[], object]:
    given, weights = x.detach().requires_grad_(), list(module.parameters())

    def run() -> object:
        out = fast(given, *more)
        return torch.autograd.grad(out if isinstance(out, Tensor) else out[0], [given, *weights], flow)

    return run


def _training(module: nn.Module, tokens: Tensor, compiles: bool) -> Callable[[], object]:
    fast: Any = torch.compile(module) if compiles else module
    optimizer = torch.optim.AdamW(module.parameters(), fused=tokens.is_cuda)

    def run() -> None:
        loss = fast(tokens) if isinstance(module, ByHand) else fast(tokens, loss=True).loss
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()

    return run


def handwritten() -> Path | None:
    """The file of layers by hand, where there is one."""
    here = Path.cwd()
    places = [parent / "shared" / "baselines" / "handwritten.py" for parent in (here, *here.parents)]
    return next((place for place in places if place.is_file()), None)


# -- what is written ----------------------------------------------------------------------------------------


def line(row: Row) -> str:
    if row.milliseconds is None:
        return f"{row.case}, {row.size}: {row.side}: not run: {row.remark}"
    said = f"{row.case}, {row.size}: {row.side} {row.milliseconds:.3f} ms"
    said += f", {row.ratio:.2f} times ours" if row.ratio is not None else ""
    return said + f", {row.rate:.1f} {row.remark}" + (f" ({row.share:.0%} of the ceiling)" if row.share else "")


def table(rows: list[Row], machine: str) -> str:
    """CSV: one line a side."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    figures_ = ["ms", "theirs/ours", "rate", "unit or reason", "share of ceiling", "peak MB"]
    writer.writerow(["machine", "torch", "triton", "case", "size", "side", *figures_])
    for row in rows:
        figures = [row.milliseconds, row.ratio, row.rate]
        shown = ["" if each is None else f"{each:.4g}" for each in [*figures, row.share, row.peak]]
        writer.writerow([machine, torch.__version__, triton.__version__, row.case, row.size, row.side, *shown[:3], row.remark, *shown[3:]])
    return out.getvalue()


def suite(folder: Path, say: Callable[[str], object], size: Size = Size()) -> Path:
    """Runs all cases on the GPU and writes `gpu-<machine>.csv` into a folder. Raises `UserError` where there is none."""
    if not torch.cuda.is_available():
        raise UserError("error: there is no GPU: `mptc bench --device cuda` times kernels, layers and training steps on the one that is there")
    run = Suite(torch.device("cuda"), size, compiles=True, say=say)
    run.run()
    machine = torch.cuda.get_device_name()
    path = folder / f"gpu-{'-'.join(machine.lower().split())}.csv"
    write_all({path: table(run.rows, machine)})
    return path
