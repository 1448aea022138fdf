"""A spec's model in a loop of your own: `python examples/plain.py [STEPS]`, in the checkout."""

import sys

import torch

import mptc


def batch(step: int) -> torch.Tensor:
    """Counting up from somewhere, [batch, seq]: the next id follows from the one before."""
    begin = torch.randint(0, 200, (16, 1), generator=torch.Generator().manual_seed(step))
    return begin + torch.arange(32)


def main(steps: int = 60) -> list[float]:
    """The loss of each step."""
    model = mptc.load("specs/cem_small.mpt", variant="tiny")
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for step in range(steps):
        loss = model(batch(step), loss=True).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


if __name__ == "__main__":
    found = main(*map(int, sys.argv[1:]))
    print(f"loss {found[0]:.2f}, after {len(found)} steps {found[-1]:.2f}")
