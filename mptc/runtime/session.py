"""What `mptc train` and `mptc generate` do, from paths to a finished run or an opened model. Everything is checked before anything is written."""

from __future__ import annotations

import signal
from dataclasses import replace
from pathlib import Path

from torch import nn

from mptc.runtime.arrays import SUFFIXES, read_arrays
from mptc.runtime.asked import Asked
from mptc.runtime.checkpoint import newest_weights
from mptc.runtime.codec import Bytes, Codec, read_tokenizer
from mptc.runtime.counted import flops, into_memory, step_lengths
from mptc.runtime.data import Data
from mptc.runtime.errors import RunError, Stopped, UserError
from mptc.runtime.evaluate import require_counting
from mptc.runtime.fill import fill, pairs
from mptc.runtime.function import NAME, find_function, require_deterministic
from mptc.runtime.load import instantiate
from mptc.runtime.log import Board, Log
from mptc.runtime.place import place
from mptc.runtime.report import All, Report
from mptc.runtime.run import Run, is_run, read_run, same_run
from mptc.runtime.settings import Settings, settings
from mptc.runtime.spec import compile_spec, typed_spec
from mptc.runtime.surface import Surface, no_bytes, require_loss, surface
from mptc.runtime.text import IDS, read_ids, read_text
from mptc.runtime.train import train, with_rate

WINDOW = 256  # bytes of context for weights that say nothing of how they were trained


def train_spec(asked: Asked, report: Report) -> float:
    """Start a run in `out` (default `runs/MODEL[-VARIANT]`), or go on with the one there.

    Returns the held-out loss. Raises `UserError`.
    """
    facts = surface(typed_spec(asked.spec, asked.set, asked.variant))
    require_loss(facts)
    compiled = compile_spec(asked.spec, asked.set, asked.variant)
    path = Path(asked.out or f"runs/{'-'.join(filter(None, (facts.name, asked.variant)))}")
    if asked.resume and not is_run(path):
        raise RunError(f"error: {path} holds no run to go on with (no run.json); begin one without --resume, or name another --out")
    old = read_run(path) if asked.resume else None
    asked = replace(asked, data=asked.data or (old.origin if old else None))
    chosen = settings(asked.numbers, old.settings if old else None)
    if old and old.tokenizer.exists() and not asked.numbers.get("tokenizer"):
        chosen = replace(chosen, tokenizer=str(old.tokenizer))
    place(chosen)
    data = open_data(asked, facts, chosen)
    chosen = replace(chosen, length=data.length)
    code = compiled.files[f"{compiled.name}.py"]
    model = instantiate(compiled.name, code, chosen.seed)
    if asked.map and not asked.weights:
        raise UserError("error: --map joins names of --weights, which are not given")
    if asked.weights and not (old and old.checkpoints()):
        report.fact(f"weights of {asked.weights}: {fill(model, asked.weights, pairs(asked.map))}")
    new = Run(path, asked.spec, asked.variant, asked.set, facts, with_rate(chosen, model), str(asked.data), data.fingerprint(), code)
    lengths = step_lengths(facts, data, chosen)
    memory = [into_memory(model, asked, lengths, chosen)] if chosen.memory else []
    for line in [*_facts(model, new, data, resumed=old is not None), *memory]:
        report.fact(line)
    return train_run(model, data, new, old, report, flops(asked, lengths, chosen.accumulate))


def open_data(asked: Asked, facts: Surface, chosen: Settings) -> Data:
    """What `--data` names: an array file by its suffix, another file that is there as a text, a function. Raises `UserError` where it cannot
    train this model."""
    data = _named(asked, facts, chosen)
    require_counting(facts, [data.training_batch(chosen.seed, 0)], "the first batch")
    require_counting(facts, data.held_out_batches(chosen.seed), "the held-out part")
    return data


def _named(asked: Asked, facts: Surface, chosen: Settings) -> Data:
    if asked.data is None:
        raise UserError('error: there is nothing to train on; give --data FILE or MODULE:FUNCTION, or data = "..." in the settings')
    if asked.data.endswith(SUFFIXES):
        return read_arrays(asked.data, facts, chosen.batch, chosen.length if asked.numbers.get("length") else None)
    if NAME.fullmatch(asked.data) and not Path(asked.data).exists():
        function = find_function(asked.data, facts, chosen.batch, chosen.length)
        require_deterministic(function, chosen.seed)
        return function
    given, words, ids = facts.inputs[0], (asked.data, facts.inputs[0].name, chosen.batch, chosen.length), asked.data.endswith(IDS)
    codec = read_tokenizer(chosen.tokenizer) if chosen.tokenizer else Bytes()
    reason = no_bytes(facts, 0, "") if ids else no_bytes(facts, codec.size, codec.told)
    if reason:
        arrays = f"give --data a {' or '.join(SUFFIXES)} file with one array for each input, or MODULE:FUNCTION"
        raise UserError(f"error: {reason}" + (f"\n  {arrays}" if facts.vocab is None or not chosen.tokenizer else ""))
    if ids and given.vocabulary:
        return read_ids(*words, given.vocabulary, chosen.ids)
    return read_text(*words, codec, chosen.field)


def _facts(model: nn.Module, run: Run, data: Data, *, resumed: bool) -> list[str]:
    """What is trained, on what and where, before the first step says so."""
    parameters = list(model.parameters())
    numbers = sum(each.numel() for each in parameters)
    frozen = sum(each.numel() for each in parameters if not each.requires_grad)
    lines = [
        f"model {run.surface.name}: {numbers:,} parameters" + (f", {frozen:,} of them frozen" if frozen else "") + f", on {parameters[0].device}",
        f"data {data.description()}",
    ]
    return lines + ["this run has no checkpoint yet: it begins again"] * (resumed and not run.checkpoints())


def train_run(model: nn.Module, data: Data, new: Run, old: Run | None, report: Report, flops: int | None = None) -> float:
    """Train `new`, which is `old` resumed where there is one; `flops` as in `train`. Raises `UserError`."""
    boards = [Board(new.path / "tensorboard")] if new.settings.tensorboard else []
    if old:
        same_run(old, new)
    else:
        new.create()
    try:
        return train(model, data, new, All([report, Log(new.path / "log.jsonl"), *boards]), flops)
    except KeyboardInterrupt:  # the second one: the first waits for the end of a step
        raise Stopped(f"stopped at once; go on from the newest checkpoint with --resume --out {new.path}", signal.SIGINT) from None


def open_model(spec_or_run: str, set: dict[str, str], variant: str | None, weights: str | None, run: str | None) -> tuple[nn.Module, Surface, int]:
    """A trained model, what is known of it, and how many tokens it was trained to see. Raises `UserError`."""
    if Path(spec_or_run).is_dir():
        given = [name for name, value in (("--set", set), ("--variant", variant), ("--run", run)) if value]
        if given:
            raise UserError(f"error: {spec_or_run} is a run, which keeps its own settings; leave out {' and '.join(given)}")
        return _open_run(spec_or_run, weights)
    if not Path(spec_or_run).exists():
        raise UserError(f"error: there is no spec and no run directory {spec_or_run}")
    if weights is None and run is None:
        raise UserError(f"error: {spec_or_run} alone is untrained; give --weights FILE or --run DIR, or name a run directory in its place")
    compiled = compile_spec(spec_or_run, set, variant)
    trained = read_run(run) if run else None
    file = weights or (newest_weights(trained) if trained else None)
    model = instantiate(compiled.name, compiled.files[f"{compiled.name}.py"], 0, file)
    return model, surface(typed_spec(spec_or_run, set, variant)), _window(trained.settings if trained else None)


def open_codec(spec_or_run: str, run: str | None, tokenizer: str | None) -> Codec:
    """What turns texts into a model's ids: the tokenizer given, or that of a run; bytes without one. Raises `UserError`."""
    path = next((each for each in (spec_or_run, run) if each and is_run(each)), None)
    own = read_run(path).tokenizer if path else None
    file = tokenizer or (own if own and own.exists() else None)
    return read_tokenizer(file) if file else Bytes()


def _open_run(path: str, weights: str | None) -> tuple[nn.Module, Surface, int]:
    """From the run's own module: neither its spec nor the compiler is needed."""
    run = read_run(path)
    return instantiate(run.surface.name, run.text, 0, weights or newest_weights(run)), run.surface, _window(run.settings)


def _window(settings: Settings | None) -> int:
    return settings.length if settings else WINDOW
