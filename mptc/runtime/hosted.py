"""`--emit hf`: the directory of a model for `transformers`."""

from __future__ import annotations

from pathlib import Path

from mptc.compile import Facts, Hosted
from mptc.compile import hosted_files as texts
from mptc.model.tree import Input, Model, Output
from mptc.runtime.files import Content
from mptc.runtime.surface import surface
from mptc.runtime.tensors import Values, filled

BYTES = 256


def facts(model: Model, source: str) -> Facts:
    """What transformers has to know of a model. It is one of text where it is causal, its one input is ids and an output has their logits."""
    found = surface(model)
    inputs = tuple(statement.binding.name for statement in model.body if isinstance(statement, Input))
    outputs = tuple(statement.name for statement in model.body if isinstance(statement, Output))
    text = found.causal and found.logits is not None and found.vocab is not None
    target = found.target
    own = target is not None and target.following and target.logits is not None
    return Facts(model.name, source, inputs, outputs, found.vocab, found.logits if text else None, own)


def hosted_files(made: Hosted, model: Model, source: str, values: Values, tokenizer: Path | None = None) -> dict[str, Content]:
    """The files below `hf/`. A model of bytes has a tokenizer of bytes, unless its run has one of its own."""
    known = facts(model, source)
    written, file, of_bytes = texts(made, known)
    files: dict[str, Content] = {**written}
    if tokenizer is not None:
        files |= {**of_bytes, "tokenizer.json": tokenizer.read_bytes()}
    elif known.logits is not None and known.vocab is not None and known.vocab == BYTES:
        files |= of_bytes
    files[file.name] = filled(file, values)
    return {f"hf/{name}": content for name, content in files.items()}
