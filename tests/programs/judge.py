"""One spec through the compiler: the module, what the raw IR means, and the module of the formatted spec agree.

Outputs, loss and probes to rounding; and the training gradient, along a random direction in the space of all parameters and inputs of numbers, with
central differences of what the raw IR means. That is interpreted without any derivation: see `mptc/interpret.py`.
"""

from __future__ import annotations

import re
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from types import ModuleType
from typing import Any

import numpy as np
import torch

from mptc.build import build
from mptc.compile import formatted, torch_text
from mptc.derive import derive
from mptc.derive.decode import next_tokens
from mptc.interpret import interpret
from mptc.ir.axis import BATCH as BATCH_AXIS
from mptc.ir.axis import SEQ, Axis
from mptc.ir.node import Node
from mptc.ir.program import Program
from mptc.ir.verify import verify
from mptc.model import tree
from mptc.model.resolve import resolve
from mptc.ops.arrays import full
from mptc.runtime.module import as_module
from mptc.source.diagnostic import Diagnostics
from mptc.source.render import render
from mptc.source.text import Source
from mptc.syntax.parse import parse
from tests.programs.held import ROUNDING, Tape, rounding
from tests.programs.models import Spec
from tests.programs.values import BATCH, Array, Arrays, directions, memories, numbers, parameters

FORWARD, GRADIENT = 1e-9, 1e-6
STEPS = (2e-4, 1e-4, 5e-5)
TRIES = 4  # of other numbers, where a kink or a jump lies too near
ROWS = 2  # of pairs of tokens at a time, so that there are several blocks of them
TAME = 1e4  # beyond, float64 cannot tell


class Refused(Exception):
    """The compiler did not take the spec."""


class Differs(Exception):
    """Two of the three do not agree."""


class Wild(Exception):
    """The numbers are too large, or too near to kinks, to tell."""


@dataclass(frozen=True)
class Compiled:
    model: tree.Model
    program: Program  # raw
    text: str
    module: ModuleType
    plain: ModuleType | None  # without passes, where that is another one


class Given:
    """A compiled spec and the numbers of one seed."""

    def __init__(self, made: Compiled, tokens: int, seed: int) -> None:
        self.made, self.seed = made, seed
        unmasked = made.program.unmasked  # padding is refused there
        self.inputs = {name: np.maximum(each, 0) if name in unmasked else each for name, each in numbers(made.model, tokens, seed).items()}
        shapes = [(name, tuple(value.shape)) for name, value in made.module.Model().named_parameters()]
        self.parameters = parameters(made.program, shapes, seed)
        self.values: Arrays = {**self.parameters, **self.inputs}
        self.sizes: dict[Axis, int] = {**made.program.sizes, **memories(made.model), BATCH_AXIS: BATCH, SEQ: tokens}


@dataclass
class Values:
    """Outputs, probes and the loss, by name: arrays or tensors."""

    outputs: dict[str, Any]
    loss: Any
    probes: dict[str, Any] = field(default_factory=dict)

    @property
    def all(self) -> dict[str, Any]:
        named = [(f"{kind} {name}", each) for kind, of in (("output", self.outputs), ("probe", self.probes)) for name, each in of.items()]
        return dict(named) if self.loss is None else {**dict(named), "loss": np.asarray(self.loss)}


def judge(spec: Spec) -> None:
    """Raises what is wrong."""
    made = compiled(spec.text)
    for seed in range(spec.seed, spec.seed + TRIES):
        given = Given(made, spec.tokens, seed)
        try:
            _agree(given)
            break
        except Wild:
            if seed == spec.seed + TRIES - 1:
                raise
    _same_without_passes(given)
    _same_formatted(spec.text, given)


def compiled(text: str) -> Compiled:
    """The stages of `mptc.compile`, with the raw IR kept. Raises `Refused` with the diagnostics."""
    diagnostics = Diagnostics()
    model = resolve(Source("m.mpt", text), {}, None, diagnostics)
    raw = None if model is None else build(model, diagnostics)
    if raw is None:
        raise Refused("\n".join(render(one) for one in diagnostics.found if one.severity == "error"))
    verify(raw, "build")
    derived = derive(raw)
    verify(derived.program, "derive")
    following = next_tokens(derived)
    plain, made = (torch_text(derived, following, passes) for passes in ((), None))
    made = made.replace("size: int = 128", f"size: int = {ROWS}")
    assert model is not None
    return Compiled(model, raw, made, as_module("m", made), None if _bare(plain) == _bare(made) else as_module("m", plain))


# -- what the raw IR means ----------------------------------------------------------------------------------


def meaning(program: Program, values: Arrays, sizes: Mapping[Axis, int]) -> Values:
    """The interpreter's. `values`: parameters by path, inputs by name."""
    with np.errstate(all="ignore"):
        found = dict(zip(program.roots, interpret(program.roots, values, sizes), strict=True))

    def spread(node: Node, axes: tuple[Axis, ...]) -> Array:
        return full(found[node], node.axes, axes, sizes)

    outputs = {output.name: spread(output.node, output.order) for output in program.outputs}
    probes: Arrays = {}
    for probe in program.probes:
        probes.update(_copies(probe.name, spread(probe.node, probe.order)))
    return Values(outputs, None if program.loss is None else float(found[program.loss]), probes)


def _copies(name: str, value: Array) -> Arrays:
    """A probe in stacks is one for each copy: the first axes of its value."""
    stars = name.count("[*]")
    whole = {}
    for index in np.ndindex(value.shape[:stars]):
        path = name
        for copy in index:
            path = path.replace("[*]", f".{copy}", 1)
        whole[path] = value[index]
    return whole


# -- what the module computes -------------------------------------------------------------------------------


def computed(made: Compiled, given: Given) -> tuple[Values, dict[str, torch.Tensor]]:
    """The module's, as tensors, and those that a gradient may be asked of."""
    model = made.module.Model().double()
    model.load_state_dict({name: torch.from_numpy(value) for name, value in given.parameters.items()}, strict=True)
    tensors = {name: torch.from_numpy(value) for name, value in given.inputs.items()}
    for tensor in tensors.values():
        tensor.requires_grad_(tensor.is_floating_point())
    leaves = {name: value for name, value in (*model.named_parameters(), *tensors.items()) if value.requires_grad}
    with doubles(model):
        result = model(**tensors, loss=made.program.loss is not None, probe=True)
    outputs = {output.name: getattr(result, output.name) for output in made.program.outputs}
    return Values(outputs, result.loss, dict(result.probes)), leaves


@contextmanager
def doubles(model: torch.nn.Module) -> Iterator[None]:
    """Without parameters, numbers that a module makes of none that it is given are of torch's default dtype, and so is its cache."""
    usual = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64 if next(model.parameters(), None) is None else usual)
    try:
        yield
    finally:
        torch.set_default_dtype(usual)


def numpy_of(values: Values) -> Values:
    outputs, probes = ({name: each.detach().numpy() for name, each in of.items()} for of in (values.outputs, values.probes))
    return Values(outputs, None if values.loss is None else float(values.loss.detach()), probes)


# -- the comparison -----------------------------------------------------------------------------------------


def _agree(given: Given) -> None:
    program = given.made.program
    expected = meaning(program, given.values, given.sizes)
    _tame(expected)
    values, leaves = computed(given.made, given)
    try:
        _near(numpy_of(values), expected, "the module")
    except Differs as differs:
        firm(given, differs)
        raise
    weights = directions(expected.outputs, given.seed + 17)
    gradients = _gradients(values, weights, leaves)

    tape = Tape()

    def projected(at: Arrays) -> float:
        with tape.running():
            found = meaning(program, at, given.sizes)
        return float(sum((found.outputs[name] * weight).sum() for name, weight in weights.items()) + (found.loss or 0.0))

    ways = {name: way for name, way in directions(given.values, given.seed).items() if name in gradients}
    scale = max(1e-6, 1e-3 * abs(projected(given.values)), *(float(np.abs(gradient).sum()) for gradient in gradients.values()))
    found = sum(float((gradients[name] * way).sum()) for name, way in ways.items())
    wanted = _derivative(projected, given.values, ways, scale)
    if abs(found - wanted) <= GRADIENT * scale:
        return
    for name, way in ways.items():  # which of them is it
        wanted = _derivative(projected, given.values, {name: way}, scale)
        found = float((gradients[name] * way).sum())
        if not abs(found - wanted) <= GRADIENT * scale:
            raise Differs(f"gradient: by {name} {found!r} is computed, and {wanted!r} is meant")
    raise Differs("gradient: of all together")


def _same_without_passes(given: Given) -> None:
    """Outputs and gradients, to rounding."""
    if given.made.plain is None:
        return
    plain = replace(given.made, module=given.made.plain)
    (ours, leaves), (theirs, others) = computed(given.made, given), computed(plain, given)
    _near(numpy_of(ours), numpy_of(theirs), "passes: the module")
    weights = directions(numpy_of(ours).outputs, given.seed + 17)
    found, wanted = _gradients(ours, weights, leaves), _gradients(theirs, weights, others)
    scale = sum(float(np.abs(each).sum()) for each in wanted.values())
    for name, value in wanted.items():  # where rounding makes two maxima equal, or no longer, they share otherwise
        if not float(np.abs(found[name] - value).max(initial=0.0)) <= GRADIENT * max(1.0, scale):
            raise Differs(f"passes: gradient by {name}")


def _tame(values: Values) -> None:
    top = float(np.max([np.abs(each).max(initial=0.0) for each in values.all.values()]))  # no number, where one of them is none
    if not top < TAME:
        raise Wild(f"numbers up to {top:g}")


def firm(given: Given, differs: Exception, off: float = ROUNDING, jump: float = FORWARD) -> None:
    """Raises `Wild` where a rounding decides what is meant: a comparison of what is equal but for it."""
    generator, expected = np.random.default_rng(given.seed), meaning(given.made.program, given.values, given.sizes)
    for _ in range(TRIES):
        with rounding(generator, off):
            found = meaning(given.made.program, given.values, given.sizes)
        try:
            _near(found, expected, "what is meant", jump)
        except Differs:
            raise Wild(f"a rounding decides: {differs}") from None


def _near(found: Values, expected: Values, what: str, tolerance: float = FORWARD) -> None:
    if found.all.keys() != expected.all.keys():
        raise Differs(f"{what} gives {sorted(found.all)}, not {sorted(expected.all)}")
    for name, value in expected.all.items():
        other = found.all[name]
        if other.shape != value.shape:
            raise Differs(f"{what}: {name} is of shape {other.shape}, not {value.shape}")
        error = float(np.abs(other - value).max(initial=0.0)) / max(1.0, float(np.abs(value).max(initial=0.0)))
        if not error <= tolerance:
            raise Differs(f"forward: {what}: {name} differs by {error:g}")


def _gradients(values: Values, weights: dict[str, np.ndarray], leaves: dict[str, torch.Tensor]) -> Arrays:
    total = sum((values.outputs[name] * torch.from_numpy(weight)).sum() for name, weight in weights.items())  # type: ignore[operator]
    total = total if values.loss is None else total + values.loss  # type: ignore[operator]
    if not isinstance(total, torch.Tensor) or not total.requires_grad:
        return {name: np.zeros(tuple(leaf.shape)) for name, leaf in leaves.items()}
    found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    return {name: np.zeros(tuple(leaf.shape)) if each is None else each.numpy() for (name, leaf), each in zip(leaves.items(), found, strict=True)}


def _derivative(function: Callable[[Arrays], float], at: Arrays, ways: Arrays, scale: float) -> float:
    """Along all these directions at once, by central differences and Richardson's extrapolation; `Wild` where halving the step tells of a kink."""
    slopes = []
    for step in STEPS:
        up, down = ({**at, **{name: at[name] + sign * step * way for name, way in ways.items()}} for sign in (1, -1))
        slopes.append((function(up) - function(down)) / (2 * step))
    first, second = ((4 * fine - rough) / 3 for rough, fine in pairwise(slopes))
    if not abs(first - second) <= 0.3 * GRADIENT * scale:
        raise Wild(f"not smooth along {', '.join(ways)}: {slopes}")
    return float((16 * second - first) / 15)


# -- the formatted spec -------------------------------------------------------------------------------------


def _same_formatted(written: str, given: Given) -> None:
    """The formatted text is the same tree, and so the same program; one in eight is compiled all the same."""
    diagnostics = Diagnostics()
    source = Source("m.mpt", written)
    text = formatted(source, diagnostics)
    if text is None or diagnostics.found:
        raise Differs("format: the spec cannot be formatted")
    if formatted(Source("m.mpt", text), diagnostics) != text:
        raise Differs("format: what is formatted is laid out in another way when it is formatted again")
    if parse(Source("m.mpt", text), diagnostics) != parse(source, diagnostics):
        raise Differs("format: what is formatted says something else")
    if given.seed % 8:
        return
    again = compiled(text)
    if _bare(again.text) != _bare(given.made.text):
        _near(numpy_of(computed(again, given)[0]), numpy_of(computed(given.made, given)[0]), "the module of the formatted spec")


def _bare(text: str) -> str:
    """Without comments: these name lines of the spec."""
    return re.sub(r"[ ]*#.*", "", text)


def fault(spec: Spec, judged: Callable[[Spec], object] = judge) -> str | None:
    """What is wrong with a spec, in words that are the same for the same fault; None where nothing is."""
    try:
        judged(spec)
    except Refused as refused:
        return "refused: " + " ".join(sorted(set(re.findall(r"error\[(E\d+)\]", str(refused)))))
    except (Wild, Differs) as differs:
        return f"{type(differs).__name__}: {str(differs).partition(':')[0]}"
    except Exception as error:  # noqa: BLE001 -- of the compiler, or of the module that it made
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "/mptc/" in frame.filename or "<mptc" in frame.filename] or list(frames)
        place = "the module" if "<mptc" in ours[-1].filename else ours[-1].filename.rpartition("/")[2]
        return f"{type(error).__name__}: {place}:{ours[-1].name}: {re.sub(r'[0-9]+', '0', str(error))[:50]}"
    return None
