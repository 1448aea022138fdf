"""The training loop: AdamW on batches.

Every step is a function of the seed, the step and the state before it, so a resumed run ends with the same bits.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.optim import AdamW

from mptc.runtime.checkpoint import Progress, restore, save
from mptc.runtime.data import Batch, Data
from mptc.runtime.errors import DataError, Stopped, UserError
from mptc.runtime.evaluate import counting, evaluate, require_counting, unit
from mptc.runtime.place import Place, place
from mptc.runtime.report import Done, Report
from mptc.runtime.run import Run
from mptc.runtime.settings import Settings, default_rate
from mptc.runtime.stopping import stop_requests

BETAS = (0.9, 0.95)


def train(model: nn.Module, data: Data, run: Run, report: Report, flops: int | None = None) -> float:
    """Train from the run's newest checkpoint, or from step 0, to its last step. Returns the held-out loss.

    `flops`: of the products of one step, forward and backward, if MFU is to be told. Raises `Stopped` after Ctrl-C or SIGTERM, with the last whole
    step saved; `DataError` where a batch does not fit, with the steps before it saved; and `UserError` where a loss is not finite (the last
    checkpoint stands) or a checkpoint cannot be written.
    """
    settings = run.settings
    if settings.threads:
        torch.set_num_threads(settings.threads)
    where = place(settings)
    model.to(where.device)
    optimizer = make_optimizer(model, settings)
    progress = restore(run, model, optimizer)
    if settings.compile:
        model.compile()
    loop = _Loop(model, optimizer, data, run, progress, report, where, flops / where.speed() if flops else None)
    try:
        report.start(progress.step, settings.steps)
        if progress.step >= settings.steps:
            report.fact(progress.evaluations[-1].told(unit(run.surface, data)))
        with stop_requests() as request:
            while progress.step < settings.steps:
                loop.advance()
                if request.number and progress.step < settings.steps:
                    loop.save()
                    raise Stopped(f"stopped after step {progress.step}, which is saved; go on with --resume --out {run.path}", request.number)
    finally:
        report.stop()
    return progress.evaluations[-1].loss


@dataclass(frozen=True)
class _Loop:
    """`ideal`: the seconds that a step's products take at this machine's speed of products."""

    model: nn.Module
    optimizer: AdamW
    data: Data
    run: Run
    progress: Progress
    report: Report
    place: Place
    ideal: float | None

    def advance(self) -> None:
        """One step, and the evaluation and the checkpoint that are due after it."""
        settings, progress, began = self.run.settings, self.progress, time.perf_counter()
        batch = self._batch()
        loss, norm = self._update(batch)
        progress.step += 1
        seconds = time.perf_counter() - began
        rate, mfu = settings.rate(progress.step - 1), self.ideal / seconds if self.ideal else None
        self.report.step(Done(progress.step, loss, rate, norm, _tokens(batch, self.run), seconds, mfu))
        last = progress.step == settings.steps
        if last or progress.step % settings.eval_every == 0:
            self._evaluate()
        if last or progress.step % settings.save_every == 0:
            self.save()

    def save(self) -> None:
        """Raises `UserError` where the last update made a weight that is not finite: the checkpoints before stand."""
        if not all(bool(weight.isfinite().all()) for weight in self.model.state_dict().values()):
            raise self._diverged("a weight is not finite")
        self.report.saved(save(self.run, self.model, self.optimizer, self.progress))

    def _batch(self) -> Batch:
        settings, step = self.run.settings, self.progress.step
        try:
            batch = self.data.training_batch(settings.seed, step)
            require_counting(self.run.surface, [batch], f"the batch of step {step + 1}")
        except DataError as error:
            if not step:
                raise
            raise DataError(f"{error}\nthe steps before are saved in {save(self.run, self.model, self.optimizer, self.progress)}") from error
        return batch

    def _update(self, batch: Batch) -> tuple[float, float]:
        """One update in place. Returns the loss before it, and the norm of its gradient."""
        settings, step = self.run.settings, self.progress.step
        torch.manual_seed(_mix(settings.seed, step))  # what dropout draws
        for group in self.optimizer.param_groups:
            group["lr"] = settings.rate(step)
        total = torch.zeros((), device=self.place.device)
        for part, share in self._parts(batch):
            with self.place.autocast():
                loss = self.model(**self.place.here(part), loss=True).loss
            assert isinstance(loss, Tensor)
            (loss * share).backward()  # type: ignore[no-untyped-call]
            total += loss.detach() * share
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip))
        if not math.isfinite(norm) or not math.isfinite(float(total)):
            raise self._diverged(f"the loss is {float(total):.4g}, its gradient {norm:.4g}", 1)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(total), norm

    def _parts(self, batch: Batch) -> Iterator[tuple[Batch, float]]:
        """The batch in parts, and the share of what the loss counts that each has: the sum of losses is then that of the whole."""
        examples = len(next(iter(batch.values())))
        size = -(-examples // self.run.settings.accumulate)
        whole = counting(self.run.surface, batch)
        for first in range(0, examples, size):
            part = {name: tensor[first : first + size] for name, tensor in batch.items()}
            count = counting(self.run.surface, part)
            if count:
                yield part, count / whole

    def _evaluate(self) -> None:
        with self.place.autocast():
            batches = self.place.all_here(self.data.held_out_batches(self.run.settings.seed))
            found = evaluate(self.model, self.run.surface, batches, self.progress.step)
        if not math.isfinite(found.loss):
            raise self._diverged(f"the held-out loss is {found.loss:.4g}")
        self.progress.evaluations.append(found)
        self.report.evaluated(found, unit(self.run.surface, self.data))

    def _diverged(self, what: str, ahead: int = 0) -> UserError:
        kept = self.run.checkpoints()
        stands = f"; {kept[-1]} stands" if kept else ""
        return UserError(f"error: at step {self.progress.step + ahead} {what}{stands}; try a smaller --lr")


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


def _tokens(batch: Batch, run: Run) -> int:
    """How many there are in a batch; examples, where no input has tokens."""
    name = next((each.name for each in run.surface.inputs if each.per_token), None)
    return len(next(iter(batch.values()))) if name is None else batch[name].shape[0] * batch[name].shape[1]


def _mix(seed: int, step: int) -> int:
    """One 63-bit number of two, so that neighbouring runs share no stream."""
    return (seed * 0x9E3779B97F4A7C15 + step) % 2**63
