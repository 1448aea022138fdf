"""The training loop: AdamW on batches.

Every step is a function of the seed, the step and the state before it, so a resumed run ends with the same bits.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from mptc.runtime.checkpoint import Progress, restore, save
from mptc.runtime.data import Batch, Data
from mptc.runtime.errors import DataError, Stopped, UserError
from mptc.runtime.evaluate import evaluate, require_counting, unit
from mptc.runtime.report import Report
from mptc.runtime.run import Run
from mptc.runtime.settings import Settings, default_rate
from mptc.runtime.stopping import stop_requests

BETAS = (0.9, 0.95)


def train(model: nn.Module, data: Data, run: Run, report: Report) -> float:
    """Train from the run's newest checkpoint, or from step 0, to its last step. Returns the held-out loss.

    Raises `Stopped` after Ctrl-C or SIGTERM, with the last whole step saved; `DataError` where a batch does not fit, with the steps before it
    saved; and `UserError` where a loss is not finite (the last checkpoint stands) or a checkpoint cannot be written.
    """
    settings = run.settings
    if settings.threads:
        torch.set_num_threads(settings.threads)
    optimizer = make_optimizer(model, settings)
    progress = restore(run, model, optimizer)
    report.start(progress.step, settings.steps)
    try:
        if progress.step >= settings.steps:
            report.fact(progress.evaluations[-1].told(unit(run.surface, data)))
        with stop_requests() as request:
            while progress.step < settings.steps:
                _advance(model, optimizer, data, run, progress, report)
                if request.number and progress.step < settings.steps:
                    save(run, model, optimizer, progress)
                    raise Stopped(f"stopped after step {progress.step}, which is saved; go on with --resume --out {run.path}", request.number)
    finally:
        report.stop()
    return progress.evaluations[-1].loss


def _advance(model: nn.Module, optimizer: AdamW, data: Data, run: Run, progress: Progress, report: Report) -> None:
    """One step, and the evaluation and the checkpoint that are due after it."""
    settings = run.settings
    try:
        batch = data.training_batch(settings.seed, progress.step)
        require_counting(run.surface, [batch], f"the batch of step {progress.step + 1}")
    except DataError as error:
        if not progress.step:
            raise
        raise DataError(f"{error}\nthe steps before are saved in {save(run, model, optimizer, progress)}") from error
    loss = _update(model, optimizer, batch, settings, progress.step)
    progress.step += 1
    report.step(progress.step, loss, settings.rate(progress.step - 1))
    last = progress.step == settings.steps
    if last or progress.step % settings.eval_every == 0:
        progress.evaluations.append(evaluate(model, run.surface, data.held_out_batches(settings.seed), progress.step))
        report.fact(progress.evaluations[-1].told(unit(run.surface, data)))
    if last or progress.step % settings.save_every == 0:
        report.saved(save(run, model, optimizer, progress))


def make_optimizer(model: nn.Module, settings: Settings) -> AdamW:
    """AdamW that decays matrices only: gains, biases and other vectors are left alone, and so is what is frozen.

    Raises `UserError` where nothing is left to train.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise UserError("error: the model has no parameter to train")
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim >= 2], "weight_decay": settings.decay},
        {"params": [parameter for parameter in trained if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    return AdamW([group for group in groups if group["params"]], lr=settings.lr, betas=BETAS, fused=True)


def with_rate(settings: Settings, model: nn.Module) -> Settings:
    """The settings with a peak rate: the one given, or the default for the model's size."""
    return settings if settings.lr else replace(settings, lr=default_rate(sum(parameter.numel() for parameter in model.parameters())))


def _update(model: nn.Module, optimizer: AdamW, batch: Batch, settings: Settings, step: int) -> float:
    """One update in place. Returns the loss before it."""
    torch.manual_seed(_mix(settings.seed, step))  # what dropout draws
    for group in optimizer.param_groups:
        group["lr"] = settings.rate(step)
    loss = model(**batch, loss=True).loss
    assert isinstance(loss, Tensor)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
    if not math.isfinite(float(norm)):
        raise UserError(f"error: at step {step + 1} the loss is {float(loss.detach()):.4g}, its gradient {float(norm):.4g}; try a smaller --lr")
    optimizer.step()
    optimizer.zero_grad()
    return float(loss.detach())


def _mix(seed: int, step: int) -> int:
    """One 63-bit number of two, so that neighbouring runs share no stream."""
    return (seed * 0x9E3779B97F4A7C15 + step) % 2**63
