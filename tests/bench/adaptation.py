"""A dense encoder, trained to fill in masked bytes of WikiText-2, fitted to tinyshakespeare in several ways: what each costs, and how well it does.

    nice -n 15 python tests/bench/adaptation.py [--data DIR] [--seeds N] [--base STEPS] [--steps STEPS] [--out FILE.md]

Full fine-tuning trains everything; adapters, LoRA and CoDA train what their specs leave unfrozen, on one frozen encoder. Quality is that of
held-out bytes: cross-entropy in nats of those masked, and the share that is right; mean and spread (the largest less the smallest, halved) over
seeds, which are of the order of data and of fresh parameters. FLOPs are those of products, forward, of `mptc cost`; time is a forward pass's, in
interleaved rounds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

import mptc
from mptc.compile import derived_from
from mptc.cost import cost
from mptc.runtime.bench import timed
from mptc.runtime.bench.child import machine
from mptc.source.diagnostic import Diagnostics
from mptc.source.text import Source
from tests.bench.hand import HERE, ROOT

SIZES = {"depth": 4, "d": 96, "kv": 4, "hidden": 256}
LENGTH, BATCH, MASKED = 128, 16, 0.15
LONG = (4, 512)  # sequences and tokens of what is timed
DENSE = ROOT / "specs" / "coda_dense.mpt"


@dataclass(frozen=True)
class Way:
    """One way to fit the encoder. `rate`: the best of 1e-3, 3e-3 and 1e-2 for full fine-tuning is the first, for what trains little the second."""

    name: str
    spec: Path
    set: Mapping[str, int]
    rate: float


WAYS = (
    Way("full fine-tuning", DENSE, {}, 1e-3),
    Way("adapters", ROOT / "specs" / "adapter.mpt", {"narrow": 24}, 3e-3),
    Way("LoRA", HERE / "lora_encoder.mpt", {"rank": 8}, 3e-3),
    *(Way(f"CoDA, 1 in {r}", ROOT / "specs" / "coda.mpt", {"narrow": 24, "reduction": r}, 3e-3) for r in (1, 3, 8)),
)


def text(folder: Path, part: str) -> Tensor:
    files = sorted(path for path in (folder / part).rglob("*") if path.is_file() and path.suffix in ("", ".txt", ".raw", ".tokens"))
    return torch.tensor(list(b"".join(path.read_bytes() for path in files)), dtype=torch.int64)


def batch(data: Tensor, generator: torch.Generator, count: int = BATCH) -> dict[str, Tensor]:
    """Windows of which some bytes are 0, and those bytes."""
    starts = torch.randint(0, len(data) - LENGTH, (count,), generator=generator)
    tokens = data[starts[:, None] + torch.arange(LENGTH)]
    masked = torch.rand(tokens.shape, generator=generator) < MASKED
    return {"tokens": torch.where(masked, 0, tokens), "targets": torch.where(masked, tokens, -1)}


def train(model: nn.Module, data: Tensor, steps: int, rate: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    trained = [value for value in model.parameters() if value.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=rate, weight_decay=0.01, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, steps, pct_start=0.1)
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        model(**batch(data, generator), loss=True).loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()


@torch.no_grad()
def quality(model: nn.Module, data: Tensor) -> tuple[float, float]:
    """Cross-entropy of masked bytes, and how many are right, of 32 batches that are always the same."""
    generator, losses, right, count = torch.Generator().manual_seed(99), 0.0, 0, 0
    for _ in range(32):
        given = batch(data, generator)
        found = model(**given, loss=True)
        masked = given["targets"] >= 0
        losses += float(found.loss) * int(masked.sum())
        right += int((found.logits.argmax(-1) == given["targets"])[masked].sum())
        count += int(masked.sum())
    return losses / count, right / count


def flops(way: Way) -> int:
    """Of one forward pass of LONG."""
    derived = derived_from(Source.read(way.spec), Diagnostics(), {name: str(value) for name, value in {**SIZES, **way.set}.items()}, None)
    assert derived is not None
    found = cost(derived.program, "", {"batch": LONG[0], "seq": LONG[1]}).total.forward.value
    assert found is not None
    return found


def speeds(models: Mapping[str, nn.Module], rounds: int = 12) -> dict[str, float]:
    given = {name: torch.randint(1, 256, LONG) for name in ("tokens", "targets")}
    with torch.no_grad():
        seconds = timed({name: lambda model=model: model(**given) for name, model in models.items()}, rounds)  # type: ignore[misc]
    return {name: statistics.median(each) for name, each in seconds.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    places = (parent / "shared" / "data" for parent in ROOT.parents if (parent / "shared").is_dir())
    parser.add_argument("--data", type=Path, default=next(places, ROOT))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--base", type=int, default=1500)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--out", type=Path, default=HERE / "adaptation.md")
    asked = parser.parse_args()
    if not (asked.data / "wikitext-2").is_dir():
        print(f"skipped: there are no texts in {asked.data}")
        return 0
    torch.set_num_threads(1)
    began = time.perf_counter()
    first, second = text(asked.data, "wikitext-2"), text(asked.data, "tinyshakespeare")
    cut = len(second) * 9 // 10
    base = mptc.load(DENSE, set=SIZES)
    train(base, first, asked.base, 3e-3, 0)
    saved = asked.out.with_suffix(".pt")
    torch.save(base.state_dict(), saved)
    found: dict[str, list[tuple[float, float]]] = {"as it is": [quality(base, second[cut:])]}
    print(f"base: {quality(base, first)}, on the other text {found['as it is']}, {time.perf_counter() - began:.0f} s", flush=True)
    models: dict[str, nn.Module] = {"as it is": base}
    for seed in range(asked.seeds):
        for way in WAYS:
            model = mptc.load(way.spec, set={**SIZES, **way.set}, seed=seed, weights=saved, map={})
            train(model, second[:cut], asked.steps, way.rate, seed + 1)
            found.setdefault(way.name, []).append(quality(model, second[cut:]))
            models[way.name] = model
            print(f"{seed} {way.name}: {found[way.name][-1]}, {time.perf_counter() - began:.0f} s", flush=True)
    saved.unlink()
    asked.out.write_text(table(found, models, asked), encoding="utf-8")
    print(asked.out.read_text())
    return 0


def table(found: Mapping[str, list[tuple[float, float]]], models: Mapping[str, nn.Module], asked: argparse.Namespace) -> str:
    seconds, products = speeds(models), {way.name: flops(way) for way in WAYS}
    products["as it is"] = products["full fine-tuning"]
    total = sum(value.numel() for value in models["as it is"].parameters())
    command = f"python tests/bench/adaptation.py --seeds {asked.seeds} --base {asked.base} --steps {asked.steps}"
    lines = [
        f"{machine('cpu')}, torch {torch.__version__}, one thread; `{command}`.",
        "",
        f"An encoder of {total:,} parameters. Loss and accuracy of masked bytes of held-out tinyshakespeare, ± half of what the seeds spread.",
        f"Products and time of a forward pass of {LONG[0]} × {LONG[1]} bytes, and their ratio to the dense encoder's.",
        "",
        "| | loss | right | trained | GFLOPs | | ms | |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, several in found.items():
        losses, right = zip(*several, strict=True)
        trained = 0 if name == "as it is" else sum(value.numel() for value in models[name].parameters() if value.requires_grad)
        spread = [f" ± {(max(each) - min(each)) / 2:.{digits}f}" if len(each) > 1 else "" for each, digits in ((losses, 3), (right, 3))]
        parts = (products[name] / products["as it is"], seconds[name] / seconds["as it is"])
        lines.append(
            f"| {name} | {statistics.mean(losses):.3f}{spread[0]} | {statistics.mean(right):.3f}{spread[1]} | {trained:,} "
            f"| {products[name] / 1e9:.2f} | {parts[0]:.2f} | {1e3 * seconds[name]:.0f} | {parts[1]:.2f} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
