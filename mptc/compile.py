"""One page is the compiler: every stage, in order.

    text ─syntax▶ AST ─model▶ typed model ─build▶ IR ─derive▶ steps ─backends▶ files

A stage takes what the one before it made and a `Diagnostics`; where that has errors, the stages after it do not run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source

if TYPE_CHECKING:
    from mptc.derive import Derived
    from mptc.ir.program import Program

TARGETS = ("torch",)
FUSED = "a softmax over one context of one bilinear term and a bias"
NOTHING: Mapping[str, str] = {}


@dataclass(frozen=True)
class Compiled:
    """What is written below `DIR/<name>/`: file names and their texts."""

    name: str
    files: Mapping[str, str]


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
    for span in pairs(derive(raw)) if raw is not None else ():
        diagnostics.add("W0601", span, "this score is computed and stored for each pair of tokens", help="fused attention takes " + FUSED)


def compile(
    source: Source, diagnostics: Diagnostics, settings: Mapping[str, str] = NOTHING, variant: str | None = None, emit: Sequence[str] = TARGETS
) -> Compiled | None:
    """The files of the targets asked for; None where `diagnostics` has errors."""
    derived = derived_from(source, diagnostics, settings, variant)
    if derived is None:
        return None
    name = derived.program.name
    texts = {"torch": (f"{name}.py", torch_text)}
    return Compiled(name, {texts[target][0]: texts[target][1](derived) for target in emit})


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


def torch_text(derived: Derived) -> str:
    from mptc.backends.torch import module
    from mptc.derive.explain import layers

    return module(derived.program, *layers(derived), next_tokens(derived))


def next_tokens(derived: Derived) -> Program | str:
    """The program that decoding runs, or why there is none."""
    from mptc.derive.decode import decoding
    from mptc.derive.kept import CannotDecode
    from mptc.ir.verify import verify

    try:
        program = decoding(derived)
    except CannotDecode as reason:
        return str(reason)
    verify(program, "derive")
    return program
