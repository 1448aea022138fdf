"""Decoding with a deployed graph: the next tokens behind those that it has had. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mptc.runtime.deployed import Array, Given, Graph, open_graph
from mptc.runtime.errors import UserError
from mptc.runtime.sampling import Draw, Logits, choose

LENGTH, PAST, PRESENT = "past.length", "past.", "present."
BYTES = 256


class Decoder:
    """A `<model>.decode.onnx`, and what it has kept for `batch` sequences, all of one length."""

    def __init__(self, graph: Graph, batch: int = 1) -> None:
        self.graph, self.length = graph, 0
        self.past = {each.name: _empty(each, batch, each.name in graph.blank) for each in graph.inputs if is_kept(each)}

    @property
    def inputs(self) -> list[Given]:
        """What each call is given: the inputs of the model."""
        return [each for each in self.graph.inputs if not is_kept(each) and each.name != LENGTH]

    @property
    def bytes(self) -> int:
        """How much memory what is kept takes."""
        return sum(each.nbytes for each in self.past.values())

    def __call__(self, **values: Any) -> dict[str, Array]:
        """The outputs for the next tokens, `[batch, tokens]`. Raises `UserError` as `Graph` does."""
        tokens = next((np.asarray(values[each.name]).shape[1] for each in self.inputs if "seq" in each.dims), 0)  # none: no output asks for tokens
        counted = {LENGTH: [self.length]} if any(each.name == LENGTH for each in self.graph.inputs) else {}
        found = self.graph(**values, **counted, **self.past)
        self.past = {name: found.pop(PRESENT + name.removeprefix(PAST)) for name in self.past}
        self.length += tokens
        return found


def is_kept(each: Given) -> bool:
    return each.name.startswith(PAST) and each.name != LENGTH


def _empty(each: Given, batch: int, blank: bool) -> Array:
    sizes = {"batch": batch, "past": 0}
    return np.full([dim if isinstance(dim, int) else sizes[dim] for dim in each.dims], -1 if blank else 0, each.kind)


def open_decoder(path: str | Path, threads: int | None = None) -> Decoder:
    """The decoder of a model: of `model.onnx`, the `model.decode.onnx` beside it. Raises `UserError`, where there is none too."""
    path = Path(path)
    own = path if path.name.endswith(".decode.onnx") else path.with_name(f"{path.name.removesuffix('.onnx')}.decode.onnx")
    if not path.is_file():
        raise UserError(f"error: there is no file {path}")
    if not own.is_file():
        raise UserError(f"error: there is no {own}: only a causal model that was compiled with --emit onnx has one")
    return Decoder(open_graph(own, threads))


def run(decoder: Decoder, prompt: bytes, tokens: int, draw: Draw) -> Iterator[int]:
    """Yield up to `tokens` bytes that continue `prompt`, a function of the seed: the same as `mptc generate` gives, as far as numbers agree.

    Raises `UserError` for a model that does not read and write bytes, an empty prompt or a number out of range.
    """
    name, logits = _surface(decoder)
    draw.check()
    if not prompt:
        raise UserError("error: the prompt is empty; a model continues at least one byte")
    source, following = draw.source(), list(prompt)
    for _ in range(tokens):
        found: Logits = decoder(**{name: [following]})[logits][0, -1, :BYTES].astype(np.float32)
        chosen = choose(found, draw, source)
        if chosen in draw.stop:
            return
        yield chosen
        following = [chosen]


def _surface(decoder: Decoder) -> tuple[str, str]:
    """The one input, ids for each token, and the output with a number for each id."""
    given = decoder.inputs
    outputs = [each for each in decoder.graph.outputs if not each.name.startswith(PRESENT)]
    wide = [each.name for each in outputs if each.dims[:2] == ("batch", "seq") and len(each.dims) == 3 and _is_bytes(each.dims[2])]
    if len(given) != 1 or given[0].kind is not np.int64 or given[0].dims != ("batch", "seq") or not wide:
        have = ", ".join(each.name for each in given)
        raise UserError(f"error: {decoder.graph.path} does not continue bytes: that takes one input of ids, and logits; its inputs are {have}")
    return given[0].name, wide[0]


def _is_bytes(size: int | str) -> bool:
    return isinstance(size, int) and size >= BYTES
