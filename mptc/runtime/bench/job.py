"""What is asked of `mptc bench`, checked as far as it can be without torch."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mptc.runtime.errors import UserError
from mptc.runtime.settings import at_least

CHOICES = {
    "device": ("cpu", "cuda"),
    "dtype": ("float32", "bfloat16", "float16"),
    "precision": ("highest", "high", "medium"),
}
LEAST = {"batch": 1, "rounds": 2, "threads": 1, "seed": 0}


@dataclass(frozen=True)
class Job:
    """One comparison, or one module alone where `against` is None.

    `set` and `variant` are those of the spec. `seqs` are tokens, `batch` sequences; `threads` None leaves torch's choice. `args` are the arguments of
    `against`, FILE.py:CLASS, as Python writes them in a call; `inputs` is FILE.py:FUNCTION; `map` has their name of each of our weights.
    """

    spec: str
    set: Mapping[str, str] = field(default_factory=dict)
    variant: str | None = None
    device: str = "cpu"
    dtype: str = "float32"
    precision: str = "highest"
    batch: int = 4
    seqs: tuple[int, ...] = (256,)
    rounds: int = 20
    threads: int | None = None
    seed: int = 0
    compile: bool = False
    forward_only: bool = False
    against: str | None = None
    args: str = ""
    inputs: str | None = None
    map: Mapping[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Raises `UserError` for a choice that there is not, a number out of range, a file that is not there and what cannot be read."""
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise UserError(f"error: --{name} is {getattr(self, name)}; it is one of {', '.join(choices)}")
        for name, least in LEAST.items():
            at_least(name, getattr(self, name), least)
        for seq in self.seqs:
            at_least("seq", seq, 1)
        if self.precision != "highest" and self.dtype != "float32":
            raise UserError(f"error: --precision {self.precision} is of float32; --dtype is {self.dtype}")
        lone = [name for name in ("args", "inputs", "map") if getattr(self, name)]
        if self.against is None and lone:
            raise UserError(f"error: --{lone[0]} is of the module given by --against FILE.py:CLASS, which is not given")
        for reference in (self.against, self.inputs):
            if reference is not None:
                split(reference)
        arguments(self.args)


def split(reference: str) -> tuple[Path, str]:
    """FILE.py:NAME in two. Raises `UserError` where it is not that, or the file is not there."""
    file, colon, name = reference.rpartition(":")
    if not colon or not file or not name.isidentifier():
        raise UserError(f"error: {reference} is not FILE.py:NAME")
    if not Path(file).is_file():
        raise UserError(f"error: there is no file {file}")
    return Path(file), name


def arguments(text: str) -> dict[str, object]:
    """`d=256,name="a"` as a dict: literals only, nothing is evaluated. Raises `UserError`."""
    problem = f'error: --args {text}: must be like d=256,name="text", each value a number, a string, True, False, None or a list of such'
    try:
        call = ast.parse(f"_({text})", mode="eval").body
    except (SyntaxError, ValueError) as error:
        raise UserError(problem) from error
    if not isinstance(call, ast.Call) or call.args or any(each.arg is None for each in call.keywords):
        raise UserError(problem)
    try:
        return {str(each.arg): ast.literal_eval(each.value) for each in call.keywords}
    except ValueError as error:
        raise UserError(problem) from error


def pairs(given: Iterable[str]) -> dict[str, str]:
    """OURS=THEIRS, or files of such lines, where `#` begins a comment. Raises `UserError`, also for a weight that is named twice."""
    found: dict[str, str] = {}
    for text in given:
        lines = [text] if "=" in text else _lines(text)
        for line in lines:
            ours, equals, theirs = (part.strip() for part in line.partition("="))
            if not (ours and equals and theirs):
                raise UserError(f"error: --map: {line!r} is not OURS=THEIRS")
            if ours in found or theirs in found.values():
                raise UserError(f"error: --map: {ours if ours in found else theirs} is mapped twice")
            found[ours] = theirs
    return found


def _lines(file: str) -> list[str]:
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"error: --map {file}: neither OURS=THEIRS nor a file that can be read") from error
    return [line for line in (each.partition("#")[0].strip() for each in text.splitlines()) if line]
