"""One page is the compiler: every stage, in order.

    text ─syntax▶ AST ─model▶ typed model ─build▶ IR ─derive▶ steps ─passes▶ steps ─backends▶ files

A stage takes what the one before it made and a `Diagnostics`; where that has errors, the stages after it do not run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mptc.backends.deployment import MOST, Deployed, Deployment, Facts, File, Stored, TooLarge
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source

if TYPE_CHECKING:
    from mptc.backends.triton import Kernels
    from mptc.derive import Derived
    from mptc.ir.program import Program
    from mptc.passes import Pass

__all__ = ["NOTHING", "TARGETS", "Compiled", "Deployed", "Deployment", "Facts", "File", "Hosted", "Stored", "check", "compile", "formatted"]

TARGETS = ("torch", "triton", "onnx", "hf")
ADVICE = (
    "for rows at a time, let the sequence's own tokens ask, and do not make its weights an output, a probe or the state of a loop; for fused "
    "attention, make it one product of what both tokens have, plus a bias, under one softmax over one context; `mptc explain SPEC:LINE` says more"
)
NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True)
class Hosted:
    """What a model for `transformers` is made of: the torch module, and the file of its weights under their own names."""

    module: str
    weights: File


@dataclass(frozen=True)
class Compiled:
    """What is written below `DIR/<name>/`: file names and their contents, and what there is of the deployed model beside."""

    name: str
    files: Mapping[str, str]
    remark: str  # of decoding
    deployed: Deployed | None = None
    hosted: Hosted | None = None


def check(source: Source, diagnostics: Diagnostics, settings: Mapping[str, str] = NOTHING, variant: str | None = None) -> None:
    """Names, types, causality; and, of what can be lowered, which scores cost a number for each pair of tokens."""
    from mptc.build import build
    from mptc.derive import derive
    from mptc.derive.pairs import pairs
    from mptc.model.resolve import resolve

    model = resolve(source, settings, variant, diagnostics)
    later = Diagnostics()
    raw = None if model is None else build(model, later)
    for one in later.found:
        diagnostics.add("W0602", one.span, one.message, help="it is well formed, but `mptc compile` will refuse it")
    for span, why in pairs(derive(raw)).items() if raw is not None else ():
        diagnostics.add("W0601", span, f"this score is computed and stored for each pair of tokens: {why}", help=ADVICE)


def compile(
    source: Source,
    diagnostics: Diagnostics,
    settings: Mapping[str, str] = NOTHING,
    variant: str | None = None,
    emit: Sequence[str] = TARGETS[:1],
    deployment: Deployment = Deployment(),
    kernels: str = "auto",
    strict: bool = False,
) -> Compiled | None:
    """The files of the targets asked for; None where `diagnostics` has errors.

    `kernels`: when those of triton are used, "auto" or "triton". `strict`: a score that none takes is an error.
    """
    from mptc.backends.kept import remark
    from mptc.where import where

    derived = derived_from(source, diagnostics, settings, variant)
    if derived is None:
        return None
    name = derived.program.name
    following = decoding(derived)
    texts = {f"{name}.py": torch_text(derived, following)} if "torch" in emit else {}
    texts |= triton_texts(derived, following, kernels) if "triton" in emit else {}
    for placed in where(derived) if strict else ():
        if not placed.kernel:
            diagnostics.add("E0903", placed.score.used, f"no kernel takes this score: {placed.reason}")
    deployed = onnx_graph(derived, following, diagnostics, deployment) if "onnx" in emit else None
    return Compiled(name, texts, remark(following), deployed, hosted(derived, following, diagnostics) if "hf" in emit else None)


def formatted(source: Source, diagnostics: Diagnostics) -> str | None:
    """The text in its one layout; None where it has errors."""
    from mptc.syntax.format import format

    return format(source, diagnostics)


def derived_from(source: Source, diagnostics: Diagnostics, settings: Mapping[str, str], variant: str | None) -> Derived | None:
    from mptc.build import build
    from mptc.derive import derive
    from mptc.ir.verify import verify
    from mptc.model.resolve import resolve

    model = resolve(source, settings, variant, diagnostics)
    raw = None if model is None else build(model, diagnostics)
    if raw is None:
        return None
    verify(raw, "build")
    derived = derive(raw)
    verify(derived.program, "derive")
    return derived


def decoding(derived: Derived) -> Program | str:
    """The program of the next tokens, or why there is none."""
    from mptc.derive.decode import next_tokens
    from mptc.passes import SPARSE, applied

    program = next_tokens(derived)
    return program if isinstance(program, str) else applied(program, SPARSE)[0]


def torch_text(
    derived: Derived, following: Program | str | None = None, passes: Sequence[Pass] | None = None, kernels: Kernels | None = None
) -> str:
    """`following`: what `decoding` finds, where that is known. `passes`: all of `mptc.passes`, unless it is told otherwise."""
    from mptc.backends.torch import module
    from mptc.derive.explain import layers
    from mptc.passes import PASSES, applied

    program, moved = applied(derived.program, PASSES if passes is None else passes)
    equations, steps = layers(derived)
    equations = {moved.get(node, node): lines for node, lines in equations.items()}
    return module(program, equations, {moved.get(node, node) for node in steps}, following or decoding(derived), kernels)


def triton_texts(derived: Derived, following: Program | str | None, mode: str) -> dict[str, str]:
    """The torch module that has kernels beside it, and the kernels; where there are none, the module alone."""
    from mptc.backends.triton import Kernels

    kernels, name = Kernels(derived.program.sizes, mode), derived.program.name
    texts = {f"{name}.py": torch_text(derived, following, kernels=kernels)}
    return texts | ({"kernels.py": kernels.page(name, derived.program.span.source.name)} if kernels.texts else {})


def hosted(derived: Derived, following: Program | str, diagnostics: Diagnostics) -> Hosted | None:
    from mptc.backends.onnx.stored import file

    try:
        return Hosted(torch_text(derived, following), file(derived.program, Deployment()))
    except TooLarge:
        diagnostics.add("E0902", derived.program.span, f"the stacks of this model have more than {MOST:,} tensors")
    return None


def hosted_files(made: Hosted, facts: Facts) -> tuple[dict[str, str], File, dict[str, str]]:
    """The texts of a model for `transformers`, the file of its weights under the names it asks for, and a tokenizer of bytes."""
    from mptc.backends.hf import byte_tokenizer, hosted, weights

    return hosted(made.module, facts), weights(made.weights), byte_tokenizer()


def onnx_graph(derived: Derived, following: Program | str, diagnostics: Diagnostics, deployment: Deployment) -> Deployed | None:
    from mptc.backends.onnx import deployed
    from mptc.derive.explain import layers
    from mptc.passes import SPARSE, applied

    program, moved = applied(derived.program, SPARSE)
    equations = {moved.get(node, node): lines for node, lines in layers(derived)[0].items()}
    try:
        return deployed(program, following, equations, deployment)
    except TooLarge:
        diagnostics.add("E0902", derived.program.span, f"written out, the stacks and repeats of this model come to more than {MOST:,} steps")
    return None
