"""`mptc verify`: is what a spec compiles to right? Each part is held against another that shares no code with it, in float64 where both can."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import Tensor, nn

from mptc.compile import Compiled, compile
from mptc.judge import Verdict, judge
from mptc.model.tree import Input, Model, Per
from mptc.runtime.behind import Decoder, open_decoder
from mptc.runtime.deploy import contents
from mptc.runtime.deployed import Array, open_graph
from mptc.runtime.files import write
from mptc.runtime.load import instantiate
from mptc.runtime.spec import Overrides, as_settings, through, typed_spec

TARGETS = ("torch", "onnx")
SHAPES = ((2, 7, 3), (1, 1, 1), (3, 12, 5))  # batch, tokens, what a memory holds
CHUNKS = (3, 1, 1, 2)  # of seven tokens
WIDTH = 1e-4  # of differences along a random direction


@dataclass(frozen=True)
class Check:
    """One comparison: how far apart both sides are, and how far they may be; None where it does not apply, which `what` then says."""

    what: str
    figure: float | None
    most: float = 0.0

    @property
    def passed(self) -> bool:
        return self.figure is None or self.figure <= self.most


def verify(path: str | Path, set: Overrides | None = None, variant: str | None = None, targets: tuple[str, ...] = TARGETS) -> Iterator[Check]:
    """Every check of a spec, as it is done. Raises `SpecError` for a mistake in it, and `UserError` where onnxruntime is asked for and not there."""
    settings = as_settings(set or {})
    model = typed_spec(path, set, variant)
    verdict = through(lambda source, diagnostics: judge(source, diagnostics, settings, variant), path)
    compiled = through(lambda source, diagnostics: compile(source, diagnostics, settings, variant, targets), path)
    yield from _energies(verdict)
    text = compiled.files.get(f"{compiled.name}.py")
    if text is not None:
        yield from Torch(model, verdict, instantiate(compiled.name, text)).checks()
    if "onnx" in targets:
        whole = compiled if text is not None else through(lambda source, diagnostics: compile(source, diagnostics, settings, variant, TARGETS), path)
        yield from _onnx(model, whole, instantiate(whole.name, whole.files[f"{whole.name}.py"]))


def _energies(verdict: Verdict) -> Iterator[Check]:
    for one in verdict.energies:
        note = " (a `stop` hides its slope: not compared)" if one.error is None else ""
        yield Check(f"step of {one.label} against differences of its energy{note}", one.error, 1e-5)
    if not verdict.energies:
        yield Check("no energies: its layers are written, not derived", None)


# -- torch -----------------------------------------------------------------------------------------------


class Torch:
    """The checks of a generated module, its parameters of order one where they multiply."""

    def __init__(self, model: Model, verdict: Verdict, module: nn.Module) -> None:
        self.model, self.verdict, self.module = model, verdict, module.double().eval()
        draw(self.module)

    def checks(self) -> Iterator[Check]:
        feed = inputs(self.model, *SHAPES[0])
        yield Check("outputs against the interpreter (float64)", max(self._outputs(inputs(self.model, *shape)) for shape in SHAPES), 1e-9)
        yield Check("outputs that are no numbers (NaN)", float(sum(int(value.isnan().sum()) for value in self.call(feed).values())), 0.0)
        hidden = "training gradient: a `stop` hides slopes from differences"
        name = hidden if self.verdict.stops else "training gradient against differences of the interpreter"
        yield Check(name, None if self.verdict.stops else self._gradient(feed), 1e-5)
        yield self._ties()
        if not self.model.causal:
            yield Check("bidirectional: neither causality nor decoding", None)
            return
        yield Check("what a later token moves in earlier outputs", self._later(feed), 1e-12)
        yield Check(f"decoding in chunks of {', '.join(map(str, CHUNKS))} against all at once", self._chunks(feed), 1e-9)

    def call(self, feed: Mapping[str, Tensor], **options: object) -> dict[str, Tensor]:
        out = self.module(**feed, **options)
        return {name: value for name, value in out._asdict().items() if isinstance(value, Tensor)}

    def _outputs(self, feed: Mapping[str, Tensor]) -> float:
        wanted = self.verdict.meaning(self._values(feed))
        found = self.call(feed, loss=True) if "loss" in wanted else self.call(feed)
        return max(apart(found[name].detach().numpy(), value) for name, value in wanted.items())

    def _values(self, feed: Mapping[str, Tensor], moved: Mapping[str, Array] | None = None) -> dict[str, Array]:
        values = {name: value.detach().numpy() for name, value in (*self.module.named_parameters(), *feed.items())}
        return {name: value + (moved or {}).get(name, 0) for name, value in values.items()}

    def _gradient(self, feed: Mapping[str, Tensor]) -> float:
        """The slope of a scalar along a random direction of all parameters: by autograd, and by differences of the interpreter."""
        parameters = {name: value for name, value in self.module.named_parameters() if value.requires_grad}
        if not parameters:
            return 0.0
        chance = np.random.default_rng(1)
        along = {name: chance.standard_normal(value.shape) for name, value in parameters.items()}
        first = self.verdict.meaning(self._values(feed))
        weights = {name: chance.standard_normal(value.shape) for name, value in first.items()}

        def scalar(width: float) -> float:
            values = self.verdict.meaning(self._values(feed, {name: width * each for name, each in along.items()}))
            return sum(float((value * weights[name]).sum()) for name, value in values.items())

        wide, narrow = ((scalar(width) - scalar(-width)) / (2 * width) for width in (WIDTH, WIDTH / 2))
        found = self.call(feed, loss=True) if "loss" in first else self.call(feed)
        whole = sum(((found[name] * torch.tensor(weights[name])).sum() for name in first), torch.zeros(()))
        slopes = torch.autograd.grad(whole, list(parameters.values()), allow_unused=True)
        given: list[tuple[str, Tensor | None]] = list(zip(parameters, slopes, strict=True))
        flows = [(flow.numpy(), along[name]) for name, flow in given if flow is not None]
        slope = sum(float((flow * each).sum()) for flow, each in flows)
        size = float(np.sqrt(sum((flow**2).sum() for flow, _ in flows)))
        return abs((4 * narrow - wide) / 3 - slope) / max(size, 1e-12)

    def _ties(self) -> Check:
        """Every tensor of `state_dict` is one Parameter, and every Parameter is one tensor of it."""
        state, parameters = self.module.state_dict(), list(self.module.parameters())
        shared = len(state) - len({value.data_ptr() for value in state.values()})
        return Check(f"{len(state)} tensors stored, none of them twice", float(shared + abs(len(parameters) - len(state))), 0.0)

    def _later(self, feed: dict[str, Tensor]) -> float:
        """Tokens of the second half are changed; outputs of the first half stay."""
        half = SHAPES[0][1] // 2
        other = {name: value.clone() for name, value in feed.items()}
        changed = inputs(self.model, *SHAPES[0], seed=9)
        for name in tokens(self.model):
            other[name][:, half:] = changed[name][:, half:]
        with torch.no_grad():
            first, second = self.call(feed), self.call(other)
        return max(float((first[name][:, :half] - second[name][:, :half]).abs().max()) for name in first)

    def _chunks(self, feed: dict[str, Tensor]) -> float:
        cache = self.module.new_cache(batch=SHAPES[0][0], capacity=SHAPES[0][1])  # type: ignore[operator]
        with torch.no_grad():
            wanted = self.call(feed)
        pieces = [self.call(piece, cache=cache) for piece in chunks(self.model, feed)]
        return max(apart(torch.cat([piece[name] for piece in pieces], 1).numpy(), value.numpy()) for name, value in wanted.items())


# -- onnx ------------------------------------------------------------------------------------------------


def _onnx(model: Model, compiled: Compiled, module: nn.Module) -> Iterator[Check]:
    """The graphs against the module in float32, in a folder of their own."""
    draw(module.eval(), 0.3)
    state = module.state_dict()
    assert compiled.deployed is not None
    with TemporaryDirectory() as folder:
        for name, content in contents(compiled.deployed, lambda parameter: np.asarray(state[parameter].numpy())).items():
            write(Path(folder) / name, content)
        path = Path(folder) / next(iter(compiled.deployed.files))
        graph = open_graph(path)
        worst = 0.0
        for shape in SHAPES:
            feed = inputs(model, *shape, dtype=torch.float32)
            worst = max(worst, _difference(graph(**{one.name: feed[one.name].numpy() for one in graph.inputs}), _call(module, feed)))
        yield Check(f"onnxruntime against torch (float32), {len(SHAPES)} shapes", worst, 1e-5)
        if len(compiled.deployed.files) > 1:
            decoder = Decoder(open_decoder(path).graph, SHAPES[0][0])
            yield Check("onnxruntime decoding in chunks against torch", _decoded(model, decoder, module), 1e-5)


def _decoded(model: Model, decoder: Decoder, module: nn.Module) -> float:
    feed = inputs(model, *SHAPES[0], dtype=torch.float32)
    pieces = [decoder(**{one.name: piece[one.name].numpy() for one in decoder.inputs}) for piece in chunks(model, feed)]
    return _difference({name: np.concatenate([piece[name] for piece in pieces], 1) for name in pieces[0]}, _call(module, feed))


def _call(module: nn.Module, feed: Mapping[str, Tensor]) -> dict[str, Array]:
    with torch.no_grad():
        return {name: value.numpy() for name, value in module(**feed)._asdict().items()}


def _difference(found: Mapping[str, Array], wanted: Mapping[str, Array]) -> float:
    return max(apart(found[name], value) for name, value in wanted.items())


# -- what goes in ------------------------------------------------------------------------------------------


def apart(found: Array, wanted: Array) -> float:
    """The largest difference, relative to the largest magnitude; infinite where one has what is not finite and the other has not."""
    if found.shape != wanted.shape or not np.array_equal(np.isfinite(found), np.isfinite(wanted)):
        return float("inf")
    finite = np.isfinite(wanted)
    scale = np.abs(wanted[finite]).max(initial=1e-12)
    return float(np.abs(found[finite] - wanted[finite]).max(initial=0.0) / scale)


def draw(module: nn.Module, noise: float = 1.0) -> None:
    """Parameters of order one where they multiply; what begins as a constant stays near it."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in module.parameters():
            random = torch.randn(value.shape, generator=generator, dtype=torch.float64).to(value.dtype)
            constant = value.numel() > 0 and bool((value == value.flatten()[0]).all())
            value.copy_(value + 0.2 * random if constant else noise * random / max(value.shape[-1:] or [1]) ** 0.5)


def tokens(model: Model) -> list[str]:
    """The inputs that have a value for each token."""
    return [each.binding.name for each in model.body if isinstance(each, Input) and each.binding.shape.per is Per.TOKEN]


def chunks(model: Model, feed: Mapping[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    own, start = tokens(model), 0
    for size in CHUNKS:
        yield {name: value[:, start : start + size] if name in own else value for name, value in feed.items()}
        start += size


def inputs(model: Model, batch: int, seq: int, memory: int, seed: int = 2, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Ids of their vocabularies, numbers normal. Numbers without axes, which may be masks, are 0 or of one sign."""
    generator = torch.Generator().manual_seed(seed)
    found: dict[str, Tensor] = {}
    for statement in model.body:
        if not isinstance(statement, Input):
            continue
        shape = statement.binding.shape
        sizes = [batch, *([seq] if shape.per is Per.TOKEN else []), *(model.sizes.get(axis, memory) for axis in shape.axes)]
        if shape.vocabulary is not None:
            found[statement.binding.name] = torch.randint(0, model.sizes[shape.vocabulary], sizes, generator=generator)
        else:
            numbers = torch.randn(sizes, generator=generator, dtype=torch.float64).to(dtype)
            found[statement.binding.name] = numbers if any(axis in model.sizes for axis in shape.axes) else (numbers > -0.8) * numbers.abs()
    return found
