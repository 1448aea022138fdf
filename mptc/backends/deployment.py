"""How a model is deployed, and where each of its tensors then lies: known before any weight is, so that a graph can point into the file."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from math import prod

ALIGNED = 64  # bytes: what the tensors begin at, and a cache line
WIDTHS = {"F32": 4, "F16": 2, "BF16": 2, "I8": 1}
DTYPES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
SCALES = ":scale"  # after the name of a matrix of bytes; no parameter has a colon in its name


MOST = 50_000  # steps, and tensors, all copies and passes counted: a hundred layers gone through ten times are below


class TooLarge(Exception):
    """Stacks and repeats, written out, come to more than `MOST`."""


@dataclass(frozen=True)
class Deployment:
    """The element type of numbers, whether matrices are bytes with a scale for each row, whether probes are outputs."""

    dtype: str = "float32"
    packed: bool = False
    probes: bool = False


@dataclass(frozen=True)
class Facts:
    """What `transformers` has to know of a model: its inputs and outputs by name; where it is one of text, how many ids there are, and the output
    that has their logits. `loss`: whether it is the mean cross-entropy of the ids that follow, with or without penalties.
    """

    name: str
    source: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    vocab: int | None = None
    logits: str | None = None
    loss: bool = False


@dataclass(frozen=True)
class Stored:
    """One tensor of a file: `size` bytes at `start`. `rows`: of a matrix of bytes, and of its scales, how many rows it has; 0 of any other.

    `begins`: the initial values of its parameter (`normal`, `uniform` or `fill`, and of what).
    """

    name: str
    parameter: str
    dtype: str
    shape: tuple[int, ...]
    rows: int = 0
    begins: tuple[str, float] = ("fill", 0.0)
    start: int = 0

    @property
    def size(self) -> int:
        return WIDTHS[self.dtype] * prod(self.shape)


@dataclass(frozen=True)
class File:
    """A safetensors file that is yet to be filled: `header`, then every tensor in order."""

    name: str
    header: bytes
    tensors: tuple[Stored, ...]

    @property
    def size(self) -> int:
        return len(self.header) + sum(tensor.size for tensor in self.tensors)


@dataclass(frozen=True)
class Deployed:
    """What a target writes: files by name, the file of weights they point into, and what there is to say of each, and of all."""

    files: dict[str, bytes]
    weights: File
    notes: dict[str, str]
    remarks: tuple[str, ...]
    deployment: Deployment


def placed(name: str, tensors: Iterable[Stored]) -> File:
    """The file of some tensors. The header is padded and what has whole 16 bytes comes first, so that each of those begins at a multiple of 16."""
    record: dict[str, object] = {"__metadata__": {"format": "pt"}}
    found: list[Stored] = []
    end = 0
    for tensor in sorted(tensors, key=lambda tensor: (tensor.size % 16 > 0, -WIDTHS[tensor.dtype])):
        found.append(replace(tensor, start=end))
        end += tensor.size
        record[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": [end - tensor.size, end]}
    text = json.dumps(record, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNED)
    header = len(text).to_bytes(8, "little") + text
    return File(name, header, tuple(replace(tensor, start=len(header) + tensor.start) for tensor in found))
