"""The graph of the next tokens: any chunking gives what torch gives at once; what it keeps is what the torch cache keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from mptc.compile import Deployment
from mptc.ir.axis import SEQ
from mptc.ops.leaf import Input
from mptc.runtime.behind import PRESENT, Decoder, open_decoder
from mptc.runtime.errors import UserError
from tests.deploy.agree import Pair, close, drawn, outputs, pair
from tests.golden import VARIANT
from tests.test_decoding import CAUSAL, OTHERS, each

CHUNKS = ((1,) * 9, (5, 1, 1, 1, 1), (3, 4, 2), (9,))


def decoder(found: Pair, batch: int) -> Decoder:
    made = open_decoder(found.path, threads=1)
    return Decoder(made.graph, batch)


def part(found: Pair, feed: dict[str, torch.Tensor], start: int, stop: int) -> dict[str, np.ndarray]:
    tokens = {node.op.label for node in found.program.inputs if isinstance(node.op, Input) and SEQ in node.axes}
    return {name: (value[:, start:stop] if name in tokens else value).numpy() for name, value in feed.items()}


def positive(feed: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Ids that are all there, documents in order: a graph has no rows that are shorter than others."""
    found = {name: value if value.is_floating_point() else value.clamp(min=0) for name, value in feed.items()}
    return {name: value.sort(1).values if name == "doc" else value for name, value in found.items()}


@each(CAUSAL)
def test_any_chunking_agrees_with_torch(spec: Path, tmp_path: Path) -> None:
    found = pair(spec, tmp_path, variant=VARIANT)
    feed = positive(drawn(found.program, (2, 9, 4), 3))
    wanted = outputs(found, feed)
    for chunks in CHUNKS:
        run, start, pieces = decoder(found, 2), 0, []
        for size in chunks:
            given = part(found, feed, start, start + size)
            pieces.append(run(**{one.name: given[one.name] for one in run.inputs}))
            start += size
        for name, array in wanted.items():
            close(np.concatenate([piece[name] for piece in pieces], 1), array, 1e-5, f"{name} by {chunks}")


@each(CAUSAL)
def test_it_keeps_what_the_torch_cache_keeps(spec: Path, tmp_path: Path) -> None:
    found = pair(spec, tmp_path, variant=VARIANT)
    feed = positive(drawn(found.program, (1, 64, 4), 3))
    run = decoder(found, 1)
    given = part(found, feed, 0, 64)
    run(**{one.name: given[one.name] for one in run.inputs})
    kept = found.net.new_cache(batch=1, capacity=64)
    found.net(**feed, cache=kept)
    assert run.bytes == kept.bytes
    assert {name.removeprefix("past.") for name in run.past} == set(kept.kept)


def test_both_graphs_share_one_file_of_weights(tmp_path: Path) -> None:
    found = pair(CAUSAL[0], tmp_path, variant=VARIANT)
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert sorted(sizes) == sorted([*found.deployed.files, "model.safetensors"])
    for name in found.deployed.files:
        model = onnx.load(tmp_path / name, load_external_data=False)
        assert {entry.value for each in model.graph.initializer for entry in each.external_data if entry.key == "location"} == {"model.safetensors"}


@pytest.mark.parametrize("deployment", [Deployment(dtype="float16"), Deployment(packed=True)], ids=["float16", "int8"])
def test_smaller_elements_decode_too(deployment: Deployment, tmp_path: Path) -> None:
    """One by one as all at once, in the same elements."""
    spec = next(spec for spec in CAUSAL if spec.stem == "cem_small")
    found = pair(spec, tmp_path, deployment, variant=VARIANT)
    feed = positive(drawn(found.program, (1, 6, 4), 3))
    whole = found.open()(tokens=feed["tokens"].numpy())["logits"]
    run = decoder(found, 1)
    pieces = [run(tokens=feed["tokens"][:, place : place + 1].numpy())["logits"] for place in range(6)]
    close(np.concatenate(pieces, 1), whole, 1e-2 if deployment.dtype == "float16" else 1e-5, "logits")


@each(OTHERS)
def test_there_is_none_where_torch_has_none(spec: Path, tmp_path: Path) -> None:
    found = pair(spec, tmp_path, variant=VARIANT)
    assert len(found.deployed.files) == 1
    with pytest.raises(UserError, match="there is no"):
        open_decoder(found.path)


def test_a_fault_is_seen(tmp_path: Path) -> None:
    """A key that is kept wrong changes what follows."""
    found = pair(next(spec for spec in CAUSAL if spec.stem == "cem_small"), tmp_path, variant=VARIANT)
    feed = positive(drawn(found.program, (1, 6, 4), 3))
    run = decoder(found, 1)
    run(tokens=feed["tokens"][:, :5].numpy())
    name = next(iter(run.past))
    run.past[name] = run.past[name] * 1.5
    last = run(tokens=feed["tokens"][:, 5:].numpy())["logits"]
    assert PRESENT not in name
    assert np.abs(last[:, 0] - outputs(found, feed)["logits"][:, 5]).max() > 1e-4
