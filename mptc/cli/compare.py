"""`mptc compare`"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from mptc.cli.options import overrides
from mptc.runtime.settings import Value


@click.command("compare")
@click.argument("specs", nargs=-1, required=True, metavar="SPEC[:VARIANT]...")
@overrides
@click.option("--data", required=True, metavar="FILE|MODULE:FUNCTION", help="As of `mptc train`; the same for all.")
@click.option("-o", "out", required=True, metavar="DIR", help="Where runs, the table and the page are.")
@click.option("--steps", type=int, help="Of each run: the budget is one of these three.")
@click.option("--tokens", type=float, metavar="N", help="That each run sees.")
@click.option("--flops", type=float, metavar="N", help="Of products, forward and backward, that each run takes.")
@click.option("--equal", type=click.Choice(["width", "parameters"]), default="width", show_default=True, help="What the models have in common.")
@click.option("--scale", default="hidden", show_default=True, metavar="DIM", help="Changed until a model has the parameters of the first.")
@click.option("--seeds", type=int, default=3, show_default=True)
@click.option("--batch", type=int, help="Examples in a step.  [default: 32]")
@click.option("--length", type=int, help="Tokens in a window.  [default: 128]")
@click.option("--lr", type=float, help="AdamW's peak rate.  [default: as of `mptc train`]")
@click.option("--warmup", type=int, metavar="STEPS")
@click.option("--dtype", metavar="float32|bfloat16", help="[default: float32]")
@click.option("--eval-every", type=int, metavar="STEPS", help="[default: 250]")
@click.option("--save-every", type=int, metavar="STEPS", help="[default: 250]")
@click.option("--tokenizer", metavar="FILE", help="Of the library `tokenizers`; bytes without one.")
@click.option("--threads", type=int, help="CPU threads.  [default: torch's choice]")
def command(
    specs: tuple[str, ...], set: dict[str, str], variant: str | None, data: str, out: str, steps: int | None, tokens: float | None,
    flops: float | None, equal: str, scale: str, seeds: int, **given: Value,
) -> None:
    """Train the models of several SPECs on one budget, each from several seeds, and write a table and a page of curves.

    Every run is one of `mptc train`, in DIR/MODEL-SEED. The same command goes on where it was cut off, and does not run again what has run: with more
    seeds, or another spec, only those run. DIR/table.md has parameters, FLOPs, peak memory, speed, and the loss with what the seeds spread;
    DIR/page.html the curves, whole in itself. What a model's stacks probe is drawn by layer.

    With --equal parameters, each model behind the first has one dim changed until it has as many parameters, within a hundredth; the table says so.
    """
    from mptc.runtime.compare import Comparison, compare
    from mptc.runtime.errors import UserError
    from mptc.runtime.report import report_to

    budgets = [(name, amount) for name, amount in (("steps", steps), ("tokens", tokens), ("flops", flops)) if amount is not None]
    if len(budgets) != 1:
        raise UserError("error: the budget is one of --steps, --tokens and --flops")
    paths = [f"{spec}:{variant}" if variant and ":" not in spec else spec for spec in specs]
    ((kind, amount),) = budgets
    asked = Comparison(paths, data, Path(out), (kind, float(amount)), equal, scale, seeds, set, given)
    click.echo(compare(asked, click.echo, lambda: report_to(sys.stdout)), nl=False)
