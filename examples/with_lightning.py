"""A spec's model in a LightningModule: `python examples/with_lightning.py [STEPS]`, in the checkout."""

import sys
import tempfile
from pathlib import Path

import lightning
import torch
from torch.utils.data import DataLoader

import mptc


class Counting(lightning.LightningModule):
    """Its checkpoints hold the model's weights as `model.…`."""

    def __init__(self) -> None:
        super().__init__()
        self.model = mptc.load("specs/cem_small.mpt", variant="tiny")
        self.losses: list[float] = []

    def training_step(self, tokens: torch.Tensor) -> torch.Tensor:
        loss = self.model(tokens, loss=True).loss
        self.losses.append(loss.item())
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=1e-2)


def main(steps: int = 60) -> list[float]:
    """The loss of each step."""
    begin = torch.randint(0, 200, (16 * steps, 1), generator=torch.Generator().manual_seed(0))
    rows = list(begin + torch.arange(32))
    model = Counting()
    with tempfile.TemporaryDirectory() as folder:
        trainer = lightning.Trainer(
            max_steps=steps, gradient_clip_val=1.0, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
            default_root_dir=folder, enable_checkpointing=False,
        )  # fmt: skip
        trainer.fit(model, DataLoader(rows, batch_size=16))
        trainer.save_checkpoint(Path(folder) / "last.ckpt")
        again = Counting.load_from_checkpoint(Path(folder) / "last.ckpt")
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(model.parameters(), again.parameters(), strict=True))
    return model.losses


if __name__ == "__main__":
    found = main(*map(int, sys.argv[1:]))
    print(f"loss {found[0]:.2f}, after {len(found)} steps {found[-1]:.2f}")
