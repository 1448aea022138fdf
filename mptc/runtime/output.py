"""What `mptc compile` leaves on the disk, and what it says of it. Imports torch only for initial values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mptc.compile import Compiled, Deployment, Hosted
from mptc.runtime.errors import UserError
from mptc.runtime.files import Content, write_all
from mptc.runtime.spec import Overrides, compile_spec, typed_spec
from mptc.runtime.tensors import Values

Say = Callable[[str], object]


@dataclass(frozen=True)
class Origin:
    """Where a compiled model came from, and its weights: a file, or else initial values by a seed."""

    spec: str
    set: Overrides
    variant: str | None
    seed: int = 0
    weights: str | None = None


def written(compiled: Compiled, folder: Path, origin: Origin, say: Say) -> None:
    """Write all files below `folder`, or none, and say what they are. Raises `UserError`."""
    deployed = compiled.deployed
    files: dict[str, Content] = {**compiled.files, **(_hosted(compiled.hosted, origin) if compiled.hosted else {})}
    if deployed is None:
        _write(compiled, folder, files, say)
        say(compiled.remark)
        return
    from mptc.runtime.deploy import contents, given_values, initial_values

    file = deployed.weights
    values = initial_values(file, origin.seed) if origin.weights is None else given_values(file, origin.weights)
    _write(compiled, folder, {**files, **contents(deployed, values)}, say)
    for remark in (compiled.remark, *deployed.remarks):
        say(remark)
    if deployed.deployment.packed:
        say(_error(folder / compiled.name / next(iter(deployed.files)), deployed.deployment, origin, values))


def _hosted(hosted: Hosted, origin: Origin) -> dict[str, Content]:
    from mptc.runtime.checkpoint import weights_file
    from mptc.runtime.deploy import given_values, initial_values
    from mptc.runtime.hosted import hosted_files

    path = None if origin.weights is None else Path(origin.weights)
    values = initial_values(hosted.weights, origin.seed) if path is None else given_values(hosted.weights, weights_file(path))
    tokenizer = path / "tokenizer.json" if path is not None and (path / "tokenizer.json").is_file() else None
    model = typed_spec(origin.spec, origin.set, origin.variant)
    return hosted_files(hosted, model, Path(origin.spec).name, values, tokenizer)


def _write(compiled: Compiled, folder: Path, files: dict[str, Content], say: Say) -> None:
    paths = {name: folder / compiled.name / name for name in files}
    write_all({path: files[name] for name, path in paths.items()})
    for name, path in paths.items():
        note = compiled.deployed.notes.get(name) if compiled.deployed else None
        say(f"wrote {path}" + (f"  {_size(path.stat().st_size)}, {note}" if note else ""))


def _size(count: int) -> str:
    """In bytes, kB or MB."""
    for unit, worth in (("MB", 10**6), ("kB", 10**3)):
        if count >= worth:
            return f"{count / worth:.1f} {unit}"
    return f"{count} bytes"


def _error(packed: Path, deployment: Deployment, origin: Origin, values: Values) -> str:
    """How far bytes are from numbers of float32; measured, where there is something to measure it with."""
    from mptc.runtime.deploy import error_of_bytes

    plain = compile_spec(origin.spec, origin.set, origin.variant, ("onnx",), Deployment(probes=deployment.probes)).deployed
    assert plain is not None
    try:
        errors = error_of_bytes(packed, plain, values, typed_spec(origin.spec, origin.set, origin.variant))
    except UserError as error:
        return f"how far it is from float32 could not be measured: {str(error).removeprefix('error: ')}"
    found = ", ".join(f"{name} {error:.1e}" for name, error in errors.items())
    return f"largest difference from float32 on random inputs, as a part of the largest magnitude: {found}"
