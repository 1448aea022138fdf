"""All that a training run is at one step, on the disk. safetensors and JSON only: reading a checkpoint runs no code."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim import AdamW

from mptc.runtime.errors import RunError, UserError
from mptc.runtime.evaluate import Evaluation
from mptc.runtime.files import whole_directory
from mptc.runtime.run import Run, read_run
from mptc.runtime.weights import load_weights, read_tensors, save_weights

MOMENTS = ("exp_avg", "exp_avg_sq", "step")


@dataclass
class Progress:
    """`step` is how many are done; `evaluations` what was found after some of them."""

    step: int = 0
    evaluations: list[Evaluation] = field(default_factory=list)


def save(run: Run, model: nn.Module, optimizer: AdamW, progress: Progress) -> Path:
    """Write `step-N/` whole, then delete what is older than those that are kept. Raises `UserError`; earlier checkpoints are then untouched."""
    path = run.path / f"step-{progress.step:08d}"
    if path.exists():
        return path
    try:
        with whole_directory(path) as directory:
            save_weights(model, directory / "model.safetensors")
            save_file(_moments(model, optimizer), directory / "optimizer.safetensors")
            state = {"step": progress.step, "evaluations": progress.evaluations}
            (directory / "state.json").write_text(json.dumps(state) + "\n", encoding="utf-8")
    except (OSError, SafetensorError) as error:  # a full disk, a folder taken away
        raise UserError(f"error: cannot write checkpoint {path}: {error}") from error
    run.prune()
    return path


def restore(run: Run, model: nn.Module, optimizer: AdamW) -> Progress:
    """Bring model and optimizer to the newest checkpoint; where there is none, leave them at step 0. Raises `UserError`."""
    checkpoints = run.checkpoints()
    if not checkpoints:
        return Progress()
    newest = checkpoints[-1]
    load_weights(model, newest / "model.safetensors")
    _set_moments(model, optimizer, read_tensors(newest / "optimizer.safetensors"))
    state = json.loads((newest / "state.json").read_text(encoding="utf-8"))
    return Progress(state["step"], [Evaluation(*each) for each in state["evaluations"]])


def newest_weights(run: Run) -> Path:
    """The file with the weights of the newest checkpoint. Raises `RunError` before the first one."""
    checkpoints = run.checkpoints()
    if not checkpoints:
        raise RunError(f"error: {run.path} has no checkpoint yet")
    return checkpoints[-1] / "model.safetensors"


def weights_file(path: str | Path) -> Path:
    """A safetensors file: `path` itself or, of a run directory, that of the newest checkpoint. Raises `RunError` for any other directory."""
    path = Path(path)
    if not path.is_dir():
        return path
    whole = path / "model.safetensors"  # of one checkpoint
    return whole if whole.is_file() else newest_weights(read_run(path))


def _moments(model: nn.Module, optimizer: AdamW) -> dict[str, Tensor]:
    """The optimizer's tensors as `PARAMETER/exp_avg` and so on."""
    named = model.named_parameters()
    return {f"{name}/{key}": optimizer.state[parameter][key] for name, parameter in named if parameter in optimizer.state for key in MOMENTS}


def _set_moments(model: nn.Module, optimizer: AdamW, tensors: dict[str, Tensor]) -> None:
    for name, parameter in model.named_parameters():
        if f"{name}/step" in tensors:
            optimizer.state[parameter] = {key: tensors[f"{name}/{key}"].to(parameter.device) for key in MOMENTS}
