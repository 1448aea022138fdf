"""A module by hand: from the user's own file, at their word. Its weights are given ours."""

from __future__ import annotations

import importlib.util
import inspect
import math
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from operator import mul
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mptc.runtime.bench.job import Job, arguments, split
from mptc.runtime.errors import UserError
from mptc.source.suggest import closest

Made = TypeVar("Made")


def theirs(job: Job) -> nn.Module:
    """The module of `--against`, made with `--args`. Raises `UserError`."""
    assert job.against is not None
    maker, given = found(job.against), arguments(job.args)
    try:
        signature = inspect.signature(maker)
        signature.bind(**given)
    except TypeError as error:
        raise UserError(f"error: {job.against} cannot be made with --args {job.args or '(none)'}: {error}; it takes {_taken(maker)}") from error
    torch.manual_seed(job.seed)
    made = guarded(f"{job.against} cannot be made", lambda: maker(**given))
    if not isinstance(made, nn.Module):
        raise UserError(f"error: {job.against} makes a {type(made).__name__}; it must make a torch.nn.Module")
    return made


def _taken(maker: Callable[..., object]) -> str:
    return f"({', '.join(str(each.replace(annotation=each.empty)) for each in inspect.signature(maker).parameters.values())})"


def found(reference: str) -> Callable[..., Any]:
    """What FILE.py:NAME names. Raises `UserError`."""
    file, name = split(reference)
    module = _loaded(file.resolve(), str(file))
    value: Any = getattr(module, name, None)
    if not callable(value):
        near = closest(name, [each for each, other in vars(module).items() if callable(other)])
        raise UserError(f"error: there is no class or function {name} in {file}" + (f"; did you mean {near}?" if near else ""))
    made: Callable[..., Any] = value
    return made


def _loaded(file: Path, shown: str) -> ModuleType:
    """Once for each file, under a name that hides no other module; what stands beside it can be imported."""
    unique = f"mptc_by_hand:{file}"
    if unique in sys.modules:
        return sys.modules[unique]
    spec = importlib.util.spec_from_file_location(unique, file)
    if spec is None or spec.loader is None:
        raise UserError(f"error: {shown} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[unique] = module  # before it runs: a dataclass looks its module up
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))
    loader = spec.loader
    try:
        guarded(f"{shown} cannot be imported", lambda: loader.exec_module(module))
    except UserError:
        del sys.modules[unique]
        raise
    return module


def guarded(what: str, run: Callable[[], Made]) -> Made:
    """What the user's own code gives. Raises `UserError`, one line, for whatever it raises: the innermost line of it in a file, and what was said."""
    try:
        return run()
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # the user's own code may raise whatever it likes
        own = [frame for frame in traceback.extract_tb(error.__traceback__) if any(frame.filename == str(file) for file in _files())]
        place = f"{Path(own[-1].filename).name}:{own[-1].lineno}: " if own else ""
        said = (str(error).strip().splitlines() or [""])[0]
        raise UserError(f"error: {what}: {place}{type(error).__name__}{f': {said}' if said else ''}") from error


def _files() -> list[str]:
    return [name.partition(":")[2] for name in sys.modules if name.startswith("mptc_by_hand:")]


# -- what it is called with --------------------------------------------------------------------------------


def fed(module: nn.Module, job: Job, given: Mapping[str, Tensor]) -> dict[str, Any]:
    """What their forward is called with: the spec's inputs by name, or what `--inputs` makes of them. Raises `UserError`."""
    made: Any = given
    if job.inputs is not None:
        function = found(job.inputs)
        made = guarded(f"{job.inputs} (theirs, given) failed", lambda: function(module, dict(given)))
        if not isinstance(made, Mapping):
            raise UserError(f"error: {job.inputs} returned a {type(made).__name__}; it must return a dict of what their forward takes")
    try:
        inspect.signature(module.forward).bind(**made)
    except TypeError as error:
        advice = "" if job.inputs else "; --inputs FILE.py:FUNCTION makes what it takes of them"
        names = ", ".join(made)
        raise UserError(f"error: forward{_taken(module.forward)} of {job.against} cannot be called with {names}: {error}{advice}") from error
    return dict(made)


# -- its weights -------------------------------------------------------------------------------------------


def copy(ours: nn.Module, other: nn.Module, map: Mapping[str, str]) -> None:
    """Our weights into theirs. Raises `UserError` where a name is not there or left over, or a shape is another."""
    own, its = dict(ours.named_parameters()), dict(other.named_parameters())
    _named("the spec", own, map)
    _named("the module by hand", its, map.values())
    for name, value in own.items():
        target = its[map[name]]
        if not regroups(value.shape, target.shape):
            here, there = list(value.shape), list(target.shape)
            raise UserError(f"error: --map {name}={map[name]}: {here} does not fit {there}; axes may be merged or split, not exchanged")
    with torch.no_grad():
        for name, value in own.items():
            its[map[name]].copy_(value.reshape(its[map[name]].shape))


def _named(whose: str, there: Mapping[str, Tensor], wanted: Mapping[str, str] | Any) -> None:
    for name in wanted:
        if name not in there:
            near = closest(name, there)
            raise UserError(f"error: --map: {whose} has no weight {name}; " + (f"did you mean {near}?" if near else f"it has {', '.join(there)}"))
    left = [name for name in there if name not in set(wanted)]
    if left:
        raise UserError(f"error: --map leaves out weights of {whose}: {', '.join(left)}; map all, or none")


def regroups(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether one shape is the other with neighbouring axes merged: the same numbers in the same order, and each axis still what it was."""
    if math.prod(one) != math.prod(other):
        return False
    ends, others = ({*accumulate((size for size in shape if size != 1), mul)} for shape in (one, other))
    return ends <= others or others <= ends
