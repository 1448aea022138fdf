"""A spec's model under Accelerate, with two batches for each step: `accelerate launch examples/with_accelerate.py [STEPS]`, in the checkout."""

import sys
import tempfile

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

import mptc


def main(steps: int = 60) -> list[float]:
    """The loss of each batch."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
    begin = torch.randint(0, 200, (16 * steps, 1), generator=torch.Generator().manual_seed(0))
    model = mptc.load("specs/cem_small.mpt", variant="tiny")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    model, optimizer, loader = accelerator.prepare(model, optimizer, DataLoader(list(begin + torch.arange(32)), batch_size=16))
    losses = []
    for tokens in loader:
        with accelerator.accumulate(model):
            loss = model(tokens, loss=True).loss
            accelerator.backward(loss)
            accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        losses.append(loss.item())
    with tempfile.TemporaryDirectory() as folder:
        accelerator.save_model(model, folder)  # model.safetensors, which mptc.load takes as weights
        again = mptc.load("specs/cem_small.mpt", variant="tiny", weights=f"{folder}/model.safetensors")
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(model.parameters(), again.parameters(), strict=True))
    return losses


if __name__ == "__main__":
    found = main(*map(int, sys.argv[1:]))
    print(f"loss {found[0]:.2f}, after {len(found)} batches {found[-1]:.2f}")
