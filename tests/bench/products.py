"""What two rewritings of matrix products would gain, which are no passes because they gain nothing: forward and backward, float32, eager.

    OMP_PROC_BIND=true OMP_PLACES=cores MKL_DYNAMIC=FALSE python tests/bench/products.py [--rounds N] [--threads N]

`gradients`: of a weight that is used forward and transposed, in one product (of all tokens side by side, or one after the other into one tensor) in
place of one for each use and their sum. `packed`: q, k and v by one product, gate and up by another, with weights put together in each call or once.

Each line: milliseconds as generated, then the ratio as generated / rewritten of each variant, its median over the rounds with a 95 % interval.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.bench.hand import BY_HAND, missing

sys.path.insert(0, str(BY_HAND.parent))
SIZES = ((256, 4, 704), (768, 12, 2048))
Pairs = list[tuple[Tensor, Tensor]]


class Gathered(torch.autograd.Function):
    """A weight whose uses leave in `pairs` what its gradient is the product of: this runs backward when all of them have."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, pairs: Pairs, together: bool) -> Tensor:
        ctx.pairs, ctx.together = pairs, together
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> tuple[Tensor, None, None]:
        left, right = ([each.flatten(0, -2) for each in several] for several in zip(*ctx.pairs, strict=True))
        ctx.pairs.clear()
        if ctx.together:
            return torch.cat(left).T @ torch.cat(right), None, None
        total = left[0].T @ right[0]
        for one, other in zip(left[1:], right[1:], strict=True):
            total.addmm_(one.T, other)
        return total, None, None


class Times(torch.autograd.Function):
    """x Wᵀ, or x W, that leaves the gradient of W to `Gathered`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, pairs: Pairs, turned: bool) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.pairs, ctx.turned = pairs, turned
        return x @ weight if turned else F.linear(x, weight)

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, None, None, None]:
        x, weight = ctx.saved_tensors
        ctx.pairs.append((x.detach(), slope) if ctx.turned else (slope, x.detach()))
        return F.linear(slope, weight) if ctx.turned else slope @ weight, None, None, None


def layers() -> tuple[Any, ...]:
    """The layers by hand, and each of them rewritten."""
    from handwritten import CemLayer, LlamaLayer, rope, tables

    class OneGradient(CemLayer):
        together = True

        def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
            b, n, d = x.shape
            query, up = Pairs(), Pairs()
            wq, wu = Gathered.apply(self.wq, query, self.together), Gathered.apply(self.wu, up, self.together)
            k = rope(self.heads(F.linear(F.rms_norm(x, (d,), self.g1, 1e-6), self.wk)), cos, sin)
            for _ in range(self.steps):
                q = rope(self.heads(Times.apply(F.rms_norm(x, (d,), self.g2, 1e-6), wq, query, False)), cos, sin)
                o = rope(F.scaled_dot_product_attention(q, k, k, is_causal=True), cos, sin, -1.0)
                x = x + Times.apply(o.transpose(1, 2).reshape(b, n, d), wq, query, True)
            h = F.rms_norm(x, (d,), self.g3, 1e-6)
            return x + Times.apply(F.linear(h, self.wg) * F.silu(Times.apply(h, wu, up, False)), wu, up, True)

    class Packed(LlamaLayer):
        kept: tuple[Tensor, Tensor] | None = None

        def packed(self) -> tuple[Tensor, Tensor]:
            return torch.cat([self.wq, self.wk, self.wv]), torch.cat([self.wg, self.wu])

        def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
            b, n, d = x.shape
            qkv, gate_up = self.kept or self.packed()
            parts = F.linear(F.rms_norm(x, (d,), self.g1, 1e-6), qkv).view(b, n, -1, self.k).split([self.h, self.kv, self.kv], 2)
            q, k, v = (each.transpose(1, 2) for each in parts)
            o = F.scaled_dot_product_attention(rope(q, cos, sin), rope(k, cos, sin), v, is_causal=True, enable_gqa=self.kv != self.h)
            x = x + F.linear(o.transpose(1, 2).reshape(b, n, d), self.wo)
            gate, up = F.linear(F.rms_norm(x, (d,), self.g2, 1e-6), gate_up).chunk(2, -1)
            return x + F.linear(F.silu(gate) * up, self.wd)

    return CemLayer, OneGradient, LlamaLayer, Packed, tables


def once(layer: nn.Module, given: tuple[Tensor, ...], backward: bool) -> float:
    began = time.perf_counter()
    with torch.set_grad_enabled(backward):
        result = layer(*given)
        if backward:
            result.sum().backward()
    seconds = time.perf_counter() - began
    layer.zero_grad()
    given[0].grad = None
    return seconds


def compare(name: str, variants: list[nn.Module], given: tuple[Tensor, ...], backward: bool, rounds: int) -> None:
    def slopes(layer: nn.Module) -> list[Tensor]:
        result = layer(*given)
        return [result, *(torch.autograd.grad(result.sum(), list(layer.parameters())) if backward else ())]

    wanted, *others = map(slopes, variants)
    assert all(((one - two).abs().max() <= 1e-4 * one.abs().max()) for other in others for one, two in zip(wanted, other, strict=True))
    repeats = max(1, int(0.03 / min(once(variants[0], given, backward) for _ in range(3))))
    times: list[list[float]] = [[] for _ in variants]
    for _ in range(rounds):
        for place in random.sample(range(len(variants)), len(variants)):
            times[place].append(min(once(variants[place], given, backward) for _ in range(repeats)))
    found = []
    for own in times[1:]:
        ratios = [first / other for first, other in zip(times[0], own, strict=True)]
        drawn = sorted(statistics.median(random.choices(ratios, k=rounds)) for _ in range(1000))
        found.append(f"{statistics.median(ratios):.3f} [{drawn[25]:.3f}, {drawn[975]:.3f}]")
    what = f"{name:36} {'forward + backward' if backward else 'forward':19}"
    print(f"{what} {1e3 * statistics.median(times[0]):9.2f} ms   {'   '.join(found)}", flush=True)


def alike(kind: Callable[..., Any], first: nn.Module, *sizes: int) -> Any:
    made = kind(*sizes)
    made.load_state_dict(first.state_dict())
    return made


def main() -> None:
    if missing():
        print(missing())
        return
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=24)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    cem, one_gradient, llama, packed, tables = layers()
    print("gradients: side by side, one after the other")
    for d, heads, hidden in SIZES:
        for batch, seq, steps in ((1, 128, 1), (1, 128, 2), (4, 128, 1), (4, 128, 2)):
            first = cem(d, heads, hidden, steps)
            variants = [first, *(alike(one_gradient, first, d, heads, hidden, steps) for _ in range(2))]
            variants[2].together = False
            given = (torch.randn(batch, seq, d, requires_grad=True), *tables(seq, d // heads))
            compare(f"d {d}, {steps} steps, {batch} x {seq} tokens", variants, given, True, asked.rounds)
    print("packed: in each call, once (forward alone)")
    for d, heads, hidden in SIZES:
        for batch, seq, backward in ((1, 1, False), (4, 128, False), (4, 128, True), (4, 1024, False), (4, 1024, True)):
            first = llama(d, heads, hidden)
            variants = [first, *(alike(packed, first, d, heads, hidden) for _ in range(1 if backward else 2))]
            if not backward:
                variants[2].kept = tuple(each.detach() for each in variants[2].packed())
            given = (torch.randn(batch, seq, d, requires_grad=backward), *tables(seq, d // heads))
            compare(f"d {d}, {batch} x {seq} tokens", variants, given, backward, asked.rounds)


if __name__ == "__main__":
    main()
