"""A function of the user's own that makes each batch."""

from __future__ import annotations

import hashlib
import importlib
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch

from mptc.runtime.data import EVALUATED, Batch
from mptc.runtime.errors import DataError
from mptc.runtime.fit import fit, ready
from mptc.runtime.surface import Surface
from mptc.source.suggest import closest

NAME = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
FIRST_HELD_OUT = 2**31  # a step that no run comes to: held-out batches are those of this one and the next
FRAMES = 3  # of the user's own traceback


@dataclass(frozen=True, eq=False)
class Function:
    """`make(seed, step, batch, length)` gives a dict of arrays by input, `batch` examples each, the same for the same four numbers."""

    name: str
    make: Callable[[int, int, int, int], object]
    sha256: str  # of the file that it stands in
    surface: Surface
    batch: int
    length: int
    kind: str = "function"

    def training_batch(self, seed: int, step: int) -> Batch:
        try:
            made = self.make(seed, step, self.batch, self.length)
        except (Exception, SystemExit) as error:  # the user's own code may raise whatever it likes
            raise DataError(f"error: {self.name} failed at step {_shown(step)}\n{_told(error)}") from error
        if not isinstance(made, Mapping):
            raise DataError(f"error: {self.name} returned a {type(made).__name__}; it must return a dict of arrays, named after the model's inputs")
        arrays = fit(made, self.surface, f"what {self.name} makes for step {_shown(step)}", self.batch)
        return {name: ready(array) for name, array in arrays.items()}

    def held_out_batches(self, seed: int) -> Iterator[Batch]:
        """Those of steps that no run comes to, with its own seed: a task that is a function of the seed is the same task there."""
        for step in range(-(-EVALUATED // self.batch)):
            yield self.training_batch(seed, FIRST_HELD_OUT + step)

    def fingerprint(self) -> dict[str, str | int]:
        return {"kind": self.kind, "name": self.name, "sha256": self.sha256}

    def description(self) -> str:
        return f"{self.name}: batches of {self.batch}; held out are those of steps from 2^31 on"


def find_function(name: str, surface: Surface, batch: int, length: int) -> Function:
    """Import MODULE:FUNCTION, from the current directory first. Raises `DataError` where it is not there or takes other arguments."""
    module = _module(name.partition(":")[0])
    word = name.partition(":")[2]
    found = getattr(module, word, None)
    if not callable(found):
        near = closest(word, [each for each, value in vars(module).items() if callable(value)])
        what = f"{word} in it is not a function" if found is not None else f"there is no function {word} in it"
        raise DataError(f"error: module {module.__name__} ({_file(module)}): {what}" + (f"; did you mean {near}?" if near else ""))
    try:
        inspect.signature(found).bind(0, 0, 1, 1)
    except TypeError as error:
        raise DataError(f"error: {name} is called with (seed, step, batch, length), which it does not take: {error}") from error
    except ValueError:
        pass  # it does not say what it takes
    return Function(name, found, _digest(found, module), surface, batch, length)


def require_deterministic(function: Function, seed: int) -> None:
    """Raise `DataError` where two calls with the same numbers differ: a resumed run would then not see what it would have seen."""
    first = {name: tensor.clone() for name, tensor in function.training_batch(seed, 0).items()}
    second = function.training_batch(seed, 0)
    differing = [name for name in first if not torch.equal(first[name], second[name])]
    if differing:
        raise DataError(
            f"error: {function.name} made two batches that differ (in {', '.join(differing)}) of the same seed and step; "
            "draw from a generator of your own: np.random.default_rng([seed, step])"
        )


def _module(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            help = f"; write {name.removesuffix('.py')}" if name.endswith(".py") else ""
            raise DataError(f"error: there is no module {error.name}, neither in the current directory nor among those installed{help}") from error
        raise DataError(f"error: module {name} cannot be imported\n{_told(error)}") from error
    except (Exception, SystemExit) as error:
        raise DataError(f"error: module {name} cannot be imported\n{_told(error)}") from error


def _file(module: ModuleType) -> str:
    return getattr(module, "__file__", None) or "built in"


def _digest(function: Callable[..., object], module: ModuleType) -> str:
    try:
        file = inspect.getsourcefile(inspect.unwrap(function))
    except TypeError:  # an instance that can be called
        file = None
    path = Path(file or _file(module))
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


def _shown(step: int) -> str:
    return str(step + 1) if step < FIRST_HELD_OUT else f"2^31 + {step - FIRST_HELD_OUT} (held out)"


def _told(error: BaseException) -> str:
    """The last frames of the user's own traceback, and the error."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__ and "importlib" not in frame.filename]
    lines = traceback.format_list(frames[-FRAMES:]) + traceback.format_exception_only(error)
    return "".join(lines).rstrip()
