"""A random program deployed: onnxruntime, and decoding by chunks with the derived cache, give what the torch module gives at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from mptc.ir.axis import SEQ
from mptc.ops.leaf import Input
from mptc.runtime.behind import Decoder, open_decoder
from tests.deploy.agree import Pair, as_near, as_near_as_torch, derived, run
from tests.programs.judge import Differs, Given, compiled, doubles, firm
from tests.programs.models import Spec
from tests.programs.values import BATCH

Arrays = dict[str, Any]
EXACT = 1e-9
SINGLE = (1e-7, 1e-3)  # how much float32 is off, and what no rounding of it makes but where it decides


def deploy(spec: Spec) -> Iterator[str]:
    """Says what has been compared; raises what is wrong."""
    given = Given(compiled(spec.text), spec.tokens, spec.seed)
    try:
        yield from _compared(spec, given)
    except (AssertionError, Differs) as error:
        firm(given, error, *SINGLE)
        raise


def _compared(spec: Spec, given: Given) -> Iterator[str]:
    with TemporaryDirectory() as folder:
        found = as_near_as_torch(derived(spec.text), Path(folder), given.inputs, given.parameters)
        yield "as a whole"
        if len(found.deployed.files) > 1:
            _decode(found, given, (3, 1, spec.tokens - 4))
            yield "by chunks"


def _decode(found: Pair, given: Given, chunks: tuple[int, ...]) -> None:
    """In torch (float64) and in onnxruntime. Rows of a decoding graph are of one length, so every id is there."""
    inputs = {name: np.maximum(value, 0) if value.dtype == np.int64 else value for name, value in given.inputs.items()}
    with doubles(found.net):
        cache = found.net.double().new_cache(batch=BATCH, capacity=sum(chunks))  # type: ignore[operator]
        double = run(found, inputs, torch.float64, loss=False)
        pieces = _pieces(found, inputs, chunks, lambda part: run(found, part, torch.float64, cache=cache))
    single = run(found, inputs, torch.float32, loss=False)
    for name, wanted in double.items():
        error = float(np.abs(pieces[name] - wanted).max(initial=0.0))
        if not error <= EXACT * max(1.0, float(np.abs(wanted).max(initial=0.0))):
            raise Differs(f"by chunks: {name} differs by {error:.1e}")
    decoder = Decoder(open_decoder(found.path, threads=1).graph, BATCH)
    as_near(_pieces(found, inputs, chunks, lambda part: decoder(**{each.name: part[each.name] for each in decoder.inputs})), single, double)


def _pieces(found: Pair, inputs: Arrays, chunks: tuple[int, ...], call: Callable[[Arrays], Arrays]) -> Arrays:
    """The outputs for all tokens, given some at a time; those of a sequence as they are in the end."""
    tokens = {node.op.label for node in found.program.inputs if isinstance(node.op, Input) and SEQ in node.axes}
    ends = np.cumsum(chunks)
    several = [
        call({name: value[:, end - size : end] if name in tokens else value for name, value in inputs.items()})
        for end, size in zip(ends, chunks, strict=True)
    ]
    whole = {output.name for output in found.program.outputs if not output.per_token}
    return {name: value if name in whole else np.concatenate([each[name] for each in several], 1) for name, value in several[-1].items()}
