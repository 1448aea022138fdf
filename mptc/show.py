"""What a stage of the page made, as text: `--emit ast|model|ir|derivation`."""

from __future__ import annotations

from collections.abc import Mapping

from mptc.compile import NOTHING, derived_from, torch_text
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source

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
