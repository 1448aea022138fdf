"""What one `mptc train` asks for: a settings file, and flags over it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from mptc.runtime.errors import UserError
from mptc.runtime.settings import Settings, Value
from mptc.source.suggest import closest

WORDS = ("data", "out", "variant")  # beside the numbers of `Settings`, and `set`
KINDS = {"int": int, "float": (int, float), "str": str, "bool": bool}
NAMED = {"int": "a whole number", "float": "a number", "str": "a string", "bool": "true or false"}


@dataclass(frozen=True)
class Asked:
    """The words of one `mptc train`: None and absent numbers are defaults. `data` is a file or MODULE:FUNCTION."""

    spec: str
    data: str | None = None
    set: dict[str, str] = field(default_factory=dict)
    variant: str | None = None
    out: str | None = None
    resume: bool = False
    weights: str | None = None
    map: tuple[str, ...] = ()
    numbers: Mapping[str, Value] = field(default_factory=dict)


def over_file(asked: Asked, path: str | None) -> Asked:
    """What is asked for, over what a settings file says. Raises `UserError`, naming the line or the key that is wrong."""
    if path is None:
        return asked
    found = _read(path)
    overrides: object = found.pop("set", {})
    if not isinstance(overrides, dict) or any(isinstance(value, bool) or not isinstance(value, str | int | float) for value in overrides.values()):
        raise UserError(f"error: {path}: set is a table of dims and consts: [set], then d = 64")
    words = {name: str(found.pop(name)) for name in WORDS if name in found}
    chosen = {name: value for name, value in asked.numbers.items() if value is not None}
    return Asked(
        asked.spec,
        asked.data or words.get("data"),
        {name: str(value) for name, value in overrides.items()} | asked.set,
        asked.variant or words.get("variant"),
        asked.out or words.get("out"),
        asked.resume,
        asked.weights,
        asked.map,
        {name.replace("-", "_"): value for name, value in found.items()} | chosen,
    )


def _read(path: str) -> dict[str, Value]:
    try:
        found = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"error: cannot read settings from {path}: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UserError(f"error: {path} is not TOML: {error}") from error
    kinds = {each.name: str(each.type).partition(" ")[0] for each in fields(Settings)} | dict.fromkeys(WORDS, "str")
    for key, value in found.items():
        name = key.replace("-", "_")
        if name != "set" and name not in kinds:
            near = closest(name, [*kinds, "set"])
            raise UserError(f"error: {path}: there is no setting {key}" + (f"; did you mean {near}?" if near else ""))
        if name != "set" and (not isinstance(value, KINDS[kinds[name]]) or (isinstance(value, bool) and kinds[name] != "bool")):  # type: ignore[arg-type]
            raise UserError(f"error: {path}: {key} is {value!r}; it must be {NAMED[kinds[name]]}")
    return found


def as_toml(spec: str, variant: str | None, set: Mapping[str, str], data: str, settings: Settings) -> str:
    """The settings of a run, resolved, as a file that `--settings` takes. What is None has no line."""
    words: dict[str, object] = {"variant": variant, "data": data, **asdict(settings)}
    lines = [f"# of {_quoted(spec)}"]
    lines += [f"{name} = {_quoted(value)}" for name, value in words.items() if value is not None]
    lines += ["", "[set]", *(f"{_quoted(name)} = {_quoted(value)}" for name, value in set.items())] if set else []
    return "\n".join(lines) + "\n"


def _quoted(value: object) -> str:
    """As TOML has it: strings, numbers and booleans are written as in JSON."""
    return json.dumps(value, ensure_ascii=False)
