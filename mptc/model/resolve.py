"""A spec's text to its typed model."""

from __future__ import annotations

from collections.abc import Mapping

from mptc.model.bearable import model_objection
from mptc.model.callables import Declarations
from mptc.model.causality import check_causality
from mptc.model.extent import check_model
from mptc.model.joins import check_joins
from mptc.model.load import Loader, Unit
from mptc.model.numbers import Numbers
from mptc.model.outside import apply_settings, apply_variant
from mptc.model.paths import Branch
from mptc.model.scope import World
from mptc.model.slips import unread
from mptc.model.tree import Model
from mptc.source.diagnostic import Diagnostics, Note
from mptc.source.text import Source
from mptc.syntax import tree as syntax


def resolve(source: Source, settings: Mapping[str, str], variant: str | None, diagnostics: Diagnostics) -> Model | None:
    """The typed model of a spec, or None: then the diagnostics say why, or the file has no model and is a sound library."""
    loader = Loader(diagnostics)
    root = loader.load(source)
    if root is None:
        return None
    units = _nearest_first(root)
    models = root.models()
    node = _the_model(models, diagnostics)
    numbers = Numbers(diagnostics, closed=node is not None)
    numbers.gather(units)
    apply_variant(root, variant, numbers, diagnostics)
    apply_settings(root, settings, numbers, diagnostics)
    numbers.settle()
    checker = Declarations(World(root, node is not None, numbers, diagnostics))
    checker.check_all(units)
    if node is None:
        return None
    body = checker.model(node, root)
    _check_inputs(node, diagnostics)
    check_model(node.name.text, body, numbers.sizes, node.name.span, diagnostics)
    if not diagnostics.failed:
        check_joins(Branch(body), diagnostics)
    if not node.bidirectional:
        check_causality(node.name.text, body, root.source, diagnostics)
    if diagnostics.failed:
        return None
    unread(root, diagnostics)
    return Model(node.name.text, not node.bidirectional, body, dict(numbers.sizes), node.name.span, dict(numbers.partitions))


def _check_inputs(node: syntax.Model, diagnostics: Diagnostics) -> None:
    """Reports a model that no token goes into."""
    if not any(isinstance(each, syntax.Input) and not each.per_sequence for each in node.body):
        message = f"no input of the model `{node.name.text}` has a value for each token"
        diagnostics.add("E0224", node.name.span, message, "give it one, as `input tokens: id[vocab]` or `input x: [d]`")


def _nearest_first(root: Unit) -> list[Unit]:
    """The file itself, then those that it uses, then those that they use."""
    order = [root]
    for unit in order:
        order.extend(used for used in unit.uses if used not in order)
    return order


def _the_model(models: list[syntax.Model], diagnostics: Diagnostics) -> syntax.Model | None:
    for other in models[1:]:
        note = Note(models[0].name.span, "this is the first")
        diagnostics.add(
            "E0208", other.name.span, "a second model in one file", "write one file for each model; what they have in common goes to a third", (note,)
        )
    for node in models[:1]:
        reason = model_objection(node.name.text)
        if reason is not None:
            diagnostics.add(
                "E0204", node.name.span, f"`{node.name.text}` cannot be a model's name: {reason}", f"choose another name, as `{node.name.text}_`"
            )
        return node
    return None
