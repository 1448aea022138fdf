"""What a stage of the page made, as text: `--emit ast|model|ir|derivation`; what the model costs, and its graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mptc.compile import NOTHING, derived_from, torch_text
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source

if TYPE_CHECKING:
    from mptc.cost import Cost
    from mptc.cost.again import Again

NO_LENGTHS: Mapping[str, int] = {}
DRAWN = ("text", "mermaid", "svg")
STAGES = ("ast", "model", "ir", "derivation", "torch")


def show(source: Source, diagnostics: Diagnostics, stage: str, settings: Mapping[str, str] = NOTHING, variant: str | None = None) -> str | None:
    """What a stage made, as text; None where `diagnostics` has errors."""
    if stage == "ast":
        from mptc.syntax.outline import outline
        from mptc.syntax.parse import parse

        file = parse(source, diagnostics)
        return None if file is None else outline(file)
    if stage == "model":
        from mptc.model.listing import listing as model_listing
        from mptc.model.resolve import resolve

        model = resolve(source, settings, variant, diagnostics)
        return None if model is None else model_listing(model)
    derived = derived_from(source, diagnostics, settings, variant)
    if derived is None:
        return None
    if stage == "ir":
        from mptc.ir.listing import listing

        return listing(derived.program)
    if stage == "derivation":
        from mptc.derive.explain import derivation

        return derivation(derived)
    return torch_text(derived)


def costs(
    source: Source,
    diagnostics: Diagnostics,
    settings: Mapping[str, str] = NOTHING,
    variant: str | None = None,
    lengths: Mapping[str, int] = NO_LENGTHS,
    machine: bool = False,
) -> str | None:
    """What a model costs, as text or, for a `machine`, as JSON; None where `diagnostics` has errors.

    `lengths`: numbers in the place of `batch`, `seq` and the lengths of memories. Raises `KeyError` for one that the model does not have.
    """
    from mptc.cost.report import as_json, text

    found = counted(source, diagnostics, settings, variant, lengths)
    if found is None:
        return None
    for name in lengths:
        if name not in found.symbols:
            raise KeyError(name, found.symbols)
    return as_json(found, lengths) + "\n" if machine else text(found, lengths)


def counted(
    source: Source, diagnostics: Diagnostics, settings: Mapping[str, str], variant: str | None, lengths: Mapping[str, int] = NO_LENGTHS
) -> Cost | None:
    """What a model costs; None where `diagnostics` has errors."""
    from mptc.backends.deployment import MOST, TooLarge
    from mptc.cost import cost
    from mptc.derive.decode import next_tokens

    derived = derived_from(source, diagnostics, settings, variant)
    if derived is None:
        return None
    try:
        return cost(derived.program, next_tokens(derived), lengths)
    except TooLarge:
        diagnostics.add("E0902", derived.program.span, f"written out, the stacks and repeats of this model come to more than {MOST:,} steps")
    return None


def computed_again(
    source: Source, diagnostics: Diagnostics, settings: Mapping[str, str], variant: str | None, lengths: Mapping[str, int], room: int
) -> Again | None:
    """Which copies of stacks to compute again, so that activations and gradients are `room` bytes at most; None where `diagnostics` has errors."""
    from mptc.backends.deployment import TooLarge
    from mptc.cost import again

    derived = derived_from(source, diagnostics, settings, variant)
    try:
        return None if derived is None else again(derived.program, lengths, room)
    except TooLarge:
        return None


def drawing(
    source: Source, diagnostics: Diagnostics, settings: Mapping[str, str] = NOTHING, variant: str | None = None, format: str = "text"
) -> str | None:
    """The graph of a model in one of the formats `DRAWN`, of `svg` what graphviz draws it from; None where `diagnostics` has errors."""
    from mptc.graph.build import graph
    from mptc.graph.dot import dot
    from mptc.graph.mermaid import mermaid
    from mptc.graph.text import text
    from mptc.model.resolve import resolve

    model = resolve(source, settings, variant, diagnostics)
    if model is None or diagnostics.failed:
        return None
    return {"text": text, "mermaid": mermaid, "svg": dot}[format](graph(model))
