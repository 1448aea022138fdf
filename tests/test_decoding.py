"""Decoding with the derived cache: any chunking of the tokens gives what the whole sequence gives at once."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import mptc
from mptc.build import build
from mptc.compile import compile
from mptc.ir.axis import BATCH, SEQ
from mptc.ir.node import Kind
from mptc.ir.program import Program
from mptc.model.resolve import resolve
from mptc.ops.leaf import Input
from mptc.runtime.load import instantiate
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source
from tests.golden import SPECS, VARIANT
from tests.golden import text as compiled

Tensors = dict[str, Tensor]
LENGTH = 13


@cache
def program(spec: Path) -> Program:
    model = resolve(Source.read(spec), {}, VARIANT, Diagnostics())
    assert model is not None
    made = build(model, Diagnostics())
    assert made is not None
    return made


CAUSAL = [spec for spec in SPECS if program(spec).causal]
OTHERS = [spec for spec in SPECS if spec not in CAUSAL]


def each(specs: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("spec", specs, ids=lambda spec: spec.stem)


@cache
def text(spec: Path) -> str:
    return compiled(spec)


def loaded(spec: Path) -> nn.Module:
    """Float64, with parameters of order one where they multiply."""
    model = instantiate(spec.stem, text(spec)).double().eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for value in model.parameters():
            noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
            value.copy_(value + 0.2 * noise if bool((value == value.flatten()[0]).all()) else noise / value.shape[-1] ** 0.5)
    return model


def inputs(spec: Path, batch: int, length: int = LENGTH) -> Tensors:
    """Drawn at random. Documents and the like, whose ids must not fall, are sorted."""
    generator = torch.Generator().manual_seed(2)
    made = {}
    facts = program(spec)
    for node in facts.inputs:
        assert isinstance(node.op, Input)
        sizes = {BATCH: batch, SEQ: length}
        shape = [sizes.get(axis) or facts.sizes.get(axis, 4) for axis in (BATCH, *((SEQ,) if SEQ in node.axes else ()), *node.op.order)]
        if node.op.kind is Kind.ID:
            made[node.op.label] = torch.randint(0, 8, shape, generator=generator)
        else:
            made[node.op.label] = torch.randn(shape, generator=generator, dtype=torch.float64)
    if "doc" in made:
        made["doc"] = made["doc"].sort(1).values
    return made


def part(given: Tensors, spec: Path, start: int, stop: int) -> Tensors:
    tokens = {node.op.label for node in program(spec).inputs if isinstance(node.op, Input) and SEQ in node.axes}
    return {name: value[:, start:stop] if name in tokens else value for name, value in given.items()}


def close(found: Tensor, wanted: Tensor) -> None:
    assert found.shape == wanted.shape
    assert float((found - wanted).abs().max()) <= 1e-10 * max(1.0, float(wanted.abs().max()))


def whole(model: nn.Module, given: Tensors) -> tuple[Tensor, ...]:
    with torch.no_grad():
        return tuple(model(**given))


CHUNKS = {
    "one by one": [1] * LENGTH,
    "a prompt, then one by one": [7, *[1] * 6],
    "chunks": [3, 1, 5, 4],
    "at once": [LENGTH],
    "two by two": [2] * 6 + [1],
}


@each(CAUSAL)
@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS)
def test_any_chunking_gives_the_same(spec: Path, chunks: list[int]) -> None:
    model, given = loaded(spec), inputs(spec, 2)
    kept = model.new_cache(batch=2, capacity=LENGTH)
    found: list[tuple[Tensor, ...]] = []
    start = 0
    for size in chunks:
        found.append(tuple(model(**part(given, spec, start, start + size), cache=kept)))
        start += size
    for pieces, expected in zip(zip(*found, strict=True), whole(model, given), strict=True):
        close(torch.cat(pieces, 1), expected)


@each(CAUSAL)
def test_prompts_of_different_lengths(spec: Path) -> None:
    """Rows end in ids below 0 where their prompts are shorter; each goes on as it would alone."""
    model, given = loaded(spec), inputs(spec, 3)
    ids = next(node.op.label for node in program(spec).inputs if node.op.kind is Kind.ID and SEQ in node.axes)
    lengths = [6, 2, 4]
    prompt = {name: value.clone() for name, value in part(given, spec, 0, 6).items()}
    for row, length in enumerate(lengths):
        prompt[ids][row, length:] = -1
    kept = model.new_cache(batch=3, capacity=LENGTH)
    first = model(**prompt, cache=kept)[0]
    expected = whole(model, given)[0]
    for row, length in enumerate(lengths):
        close(first[row, :length], expected[row, :length])
    tokens = set(part(given, spec, 0, 1)) - {name for name, value in given.items() if part(given, spec, 0, 1)[name] is value}
    for step in range(4):
        places = torch.tensor([length + step for length in lengths])
        rows = torch.arange(3)
        following = {name: value[rows, places][:, None] if name in tokens else value for name, value in given.items()}
        found = model(**following, cache=kept)[0]
        close(found[:, 0], expected[rows, places])


@each(CAUSAL)
def test_rows_are_reordered(spec: Path) -> None:
    """Beams: rows go on behind what other rows have seen."""
    model, given = loaded(spec), inputs(spec, 3)
    rows = torch.tensor([2, 0, 0, 1])
    kept = model.new_cache(batch=3, capacity=LENGTH)
    model(**part(given, spec, 0, 5), cache=kept)
    kept.reorder(rows)
    chosen = {name: value[rows] for name, value in given.items()}
    found = model(**part(chosen, spec, 5, 9), cache=kept)[0]
    close(found, whole(model, chosen)[0][:, 5:9])


@each(OTHERS)
def test_what_cannot_decode_says_why(spec: Path) -> None:
    with pytest.raises(TypeError, match="cannot decode token by token: it is bidirectional"):
        mptc.load(spec, variant=VARIANT).new_cache()


def numbers(spec: str, **sizes: int) -> int:
    """Numbers that the cache takes for each token, counted on a full one."""
    model = mptc.load(Path(__file__).parent.parent / "specs" / f"{spec}.mpt", variant=VARIANT, set=sizes)
    kept = model.new_cache(batch=1, capacity=64)
    model(torch.zeros(1, 64, dtype=torch.int64), cache=kept)
    return kept.bytes // 64 // 4


def test_numbers_per_token() -> None:
    """A tied key and value is one entry; a diagonal term adds the context; a latent is kept as it is, its rotary key beside it."""
    d, depth = 64, 2
    llama = numbers("llama_small", d=d, depth=depth, kv=4, group=1)
    assert llama == 2 * d * depth
    assert numbers("cem_small", d=d, depth=depth) == llama // 2
    assert numbers("cem_small", d=d, depth=depth, steps=5) == llama // 2
    assert numbers("cem_dlr", d=d, depth=depth) == 2 * d * depth
    assert numbers("latent_attention", depth=depth) == (12 + 4) * depth
    assert numbers("gpt2", depth=depth) == 2 * 32 * depth
    assert numbers("looped", depth=depth, loops=3) == 3 * depth * 2 * 2 * 8


def test_a_window_keeps_its_length() -> None:
    spec = next(spec for spec in CAUSAL if spec.stem == "windowed_documents")
    model, given = loaded(spec), inputs(spec, 1, 64)
    kept = model.new_cache(capacity=64)
    sizes = set()
    for start in range(0, 64, 4):
        model(**part(given, spec, start, start + 4), cache=kept)
        sizes.add(kept.bytes)
    assert len(sizes) == 1


def test_mistakes_are_said() -> None:
    spec, other = (next(spec for spec in CAUSAL if spec.stem == name) for name in ("cem_small", "gpt2"))
    model, given = loaded(spec), inputs(spec, 2)
    with pytest.raises(ValueError, match="of another model"):
        model(**given, cache=loaded(other).new_cache(batch=2))
    with pytest.raises(ValueError, match="of another model"):
        model(**given, cache=mptc.load(spec, variant=VARIANT, set={"depth": 1}).double().new_cache(batch=2))
    with pytest.raises(ValueError, match="for 1 sequences, and 2 go on"):
        model(**given, cache=model.new_cache())
    for wrong in ({"batch": 0}, {"capacity": 0}, {"capacity": -1}):
        with pytest.raises(ValueError, match="of one sequence and one token or more"):
            model.new_cache(**wrong)
    kept = model.new_cache(batch=2, capacity=LENGTH + 3)
    model(**given, cache=kept)
    with pytest.raises(ValueError, match="holds 13 tokens of 16 at most; 13 more do not fit"):
        model(**given, cache=kept)
    with pytest.raises(ValueError, match="no token to go on with"):
        model(**part(given, spec, 0, 0), cache=kept)
    with pytest.raises(ValueError, match="holds torch.float64, and the model computes torch.float32"):
        loaded(spec).float()(**part(given, spec, 0, 1), cache=kept)
    padded = {"tokens": torch.tensor([[-1, 3, 4], [1, 2, 3]])}
    with pytest.raises(ValueError, match="below 0 come after all tokens"):
        model(**padded, cache=model.new_cache(batch=2))
    with pytest.raises(ValueError, match="neither loss nor probes"):
        model(**given, loss=True, cache=model.new_cache(batch=2))
    more = part(given, spec, 0, 3)  # what failed has changed nothing
    close(model(**more, cache=kept)[0], whole(model, {"tokens": torch.cat((given["tokens"], more["tokens"]), 1)})[0][:, -3:])


def test_what_a_cache_holds_is_said_when_compiling(root: Path) -> None:
    """As many bytes as there are in a cache, or the reason that there is none."""
    for name in ("cem_small", "latent_attention", "gpt2"):
        assert said(root / f"specs/{name}.mpt") == f"its cache holds {4 * numbers(name):,} bytes for each token in float32, half as many in 16 bits"
    assert said(root / "specs/bert.mpt").startswith("it cannot decode token by token: it is bidirectional")


def said(path: Path) -> str:
    made = compile(Source.read(path), Diagnostics(), variant=VARIANT)
    assert made is not None
    return made.remark
