"""A model filled from a checkpoint of another one: what both have under one name, or under names that a map joins; the rest begins as it would."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from mptc.runtime.checkpoint import weights_file
from mptc.runtime.errors import WeightsError
from mptc.runtime.weights import read_tensors

INDEX, WHOLE = "model.safetensors.index.json", "model.safetensors"
PICKLED = (".pt", ".pth", ".bin")
SHOWN = 8  # names listed of each kind


@dataclass(frozen=True)
class Filled:
    """Names: of the model's tensors those that were `filled` and those that were `left` as they began; of the checkpoint's those `unused`."""

    filled: tuple[str, ...]
    left: tuple[str, ...]
    unused: tuple[str, ...]

    def __str__(self) -> str:
        parts = [f"{len(self.filled)} tensors filled"]
        parts += [f"{len(names)} {what}: {shown(names)}" for what, names in (("left as they begin", self.left), ("unused", self.unused)) if names]
        return "; ".join(parts)


def fill(model: nn.Module, path: str | Path, map: Mapping[str, str] | None = None) -> Filled:
    """Copy tensors of a checkpoint into `model`, whatever both have, and say what that was.

    `path`: a safetensors file, a `.pt`, `.pth` or `.bin` file of tensors, a Hugging Face directory (sharded or not), or a run of `mptc train`.
    `map`: their name of a tensor, and ours; a star stands for one part of a name between dots (`model.layers.*.mlp.gate.weight` to
    `layers.*.experts.router`). A tensor may have other dimensions where it has as many numbers in the same order: `[heads * key, d]` fills
    `[heads, key, d]`.

    Raises `WeightsError` where a file cannot be read, an entry of the map names nothing, two tensors would fill one, one has another size, or nothing
    would be filled; nothing has been copied then.
    """
    given, wanted = checkpoint(path), model.state_dict()
    pairs = joined(given, wanted, map or {}, path)
    wrong = [f"{theirs} {list(given[theirs].shape)} does not fill {ours} {list(wanted[ours].shape)}" for ours, theirs in pairs.items()
             if given[theirs].numel() != wanted[ours].numel()]
    if wrong:
        raise WeightsError("\n".join([f"error: {path} is not of this model's sizes", *(f"  {line}" for line in wrong[:SHOWN])]))
    if not pairs:
        raise WeightsError(f"error: {path} has no tensor that this model has: {shown(sorted(given))}\n  --map OLD=NEW joins two names")
    with torch.no_grad():
        for ours, theirs in pairs.items():
            wanted[ours].copy_(given[theirs].reshape(wanted[ours].shape))
    used = set(pairs.values())
    return Filled(tuple(pairs), tuple(name for name in wanted if name not in pairs), tuple(name for name in sorted(given) if name not in used))


def joined(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor], map: Mapping[str, str], path: str | Path) -> dict[str, str]:
    """Their name of each of our tensors that they have. What the map names goes before what is named alike."""
    pairs: dict[str, str] = {}
    for old, new in map.items():
        found = dict(_matches(old, new, given))
        if not found:
            raise WeightsError(f"error: --map {old}={new}: {path} has no tensor {old}; it has {shown(sorted(given))}")
        missing = [ours for ours in found.values() if ours not in wanted]
        if missing:
            raise WeightsError(f"error: --map {old}={new}: the model has no tensor {missing[0]}; it has {shown(sorted(wanted))}")
        for theirs, ours in found.items():
            if ours in pairs:
                raise WeightsError(f"error: {pairs[ours]} and {theirs} would both fill {ours}")
            pairs[ours] = theirs
    taken = set(pairs.values())
    return {name: pairs.get(name, name) for name in wanted if name in pairs or (name in given and name not in taken)}


def _matches(old: str, new: str, given: Mapping[str, Tensor]) -> Iterator[tuple[str, str]]:
    """Their names that a pattern fits, and ours."""
    pattern = re.compile(r"([^.]+)".join(map(re.escape, old.split("*"))))
    for name in given:
        fits = pattern.fullmatch(name)
        if fits:
            parts = iter(fits.groups())
            yield name, re.sub(r"\*", lambda _: next(parts, "*"), new)  # noqa: B023 -- used at once


def checkpoint(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint of any kind, by name. Raises `WeightsError` and `RunError`."""
    path = Path(path)
    if path.is_dir() and (path / INDEX).is_file():
        try:
            files = sorted(set(json.loads((path / INDEX).read_text(encoding="utf-8"))["weight_map"].values()))
            names = [str(name) for name in files]
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise WeightsError(f"error: cannot read {path / INDEX}: {error}") from error
        if any(Path(name).name != name for name in names):
            raise WeightsError(f"error: {path / INDEX} names files outside its directory")
        return {name: tensor for file in names for name, tensor in read_tensors(path / file).items()}
    file = weights_file(path)
    return _pickled(file) if file.suffix in PICKLED else read_tensors(file)


def _pickled(path: Path) -> dict[str, Tensor]:
    """Tensors alone: nothing in the file is run."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, ValueError) as error:
        raise WeightsError(f"error: cannot read weights from {path}: {str(error).splitlines()[0]}") from error
    if not isinstance(found, dict) or not all(isinstance(name, str) and isinstance(value, Tensor) for name, value in found.items()):
        raise WeightsError(f"error: {path} is no mapping of names to tensors; save `model.state_dict()`")
    return found


def shown(names: tuple[str, ...] | list[str]) -> str:
    """Names, the copies of a stack together."""
    short = list(dict.fromkeys(re.sub(r"(?<=\.)\d+(?=\.)", "*", name) for name in names))
    return ", ".join(short[:SHOWN]) + (f" and {len(short) - SHOWN} more" if len(short) > SHOWN else "")


def pairs(entries: tuple[str, ...] | list[str]) -> dict[str, str]:
    """`OLD=NEW` of the command line. Raises `WeightsError`."""
    found: dict[str, str] = {}
    for entry in entries:
        old, equals, new = entry.partition("=")
        if not equals or not old or not new or old.count("*") != new.count("*"):
            raise WeightsError(f"error: --map {entry}: write OLD=NEW, with as many stars on both sides")
        found[old] = new
    return found
