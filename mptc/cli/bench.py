"""`mptc bench`"""

from __future__ import annotations

import json
from pathlib import Path

import click

from mptc.cli.options import overrides
from mptc.runtime.bench import Job, bench
from mptc.runtime.bench.job import CHOICES, pairs
from mptc.runtime.bench.report import table


def _one_of(name: str) -> str:
    return "|".join(CHOICES[name])


@click.command("bench")
@click.argument("spec", required=False)
@overrides
@click.option("--against", metavar="FILE.py:CLASS", help="A torch module by hand. Its file is run.")
@click.option("--args", default="", metavar="NAME=VALUE,...", help="What CLASS is made with: literals, as in a call.")
@click.option("--inputs", metavar="FILE.py:FUNCTION", help="Makes what its forward takes of the spec's inputs; see above.")
@click.option("--map", "map", multiple=True, metavar="OURS=THEIRS|FILE", help="A weight of the spec and one of theirs, or a file of such lines.")
@click.option("--batch", type=int, default=4, show_default=True, help="Sequences.")
@click.option("--seq", "seqs", type=int, multiple=True, default=(256,), show_default=True, help="Tokens in each. May be repeated.")
@click.option("--rounds", type=int, default=20, show_default=True)
@click.option("--device", default="cpu", show_default=True, metavar=_one_of("device"))
@click.option("--dtype", default="float32", show_default=True, metavar=_one_of("dtype"))
@click.option("--precision", default="highest", show_default=True, metavar=_one_of("precision"), help="torch.set_float32_matmul_precision, of both.")
@click.option("--compile", is_flag=True, help="Both under torch.compile, each length for itself.")
@click.option("--forward", "forward_only", is_flag=True, help="Forward alone.  [default: also forward and backward]")
@click.option("--threads", type=int, help="CPU threads.  [default: torch's choice]")
@click.option("--seed", type=int, default=0, show_default=True, help="Of inputs and weights.")
@click.option("-o", "out", metavar="DIR", help="Without SPEC: where the CSV goes.  [default: tests/bench, where that is, or here]")
@click.option("--json", "machine", is_flag=True, help="Print the report as JSON.")
@click.pass_context
def command(context: click.Context, /, spec: str | None, out: str | None, machine: bool, map: tuple[str, ...], **given: object) -> None:
    """Time the module of SPEC, alone or in turns with a module by hand, and say what a call of each holds in memory.

    It runs in a process of its own with pinned threads. Inputs are random: ids of their vocabulary, normal numbers. Forward runs without gradients;
    forward and backward is the gradient of all weights and number inputs along a random slope of the outputs. A ratio is the median over rounds of
    theirs / ours, its interval the middle 95 % of medians of redrawn rounds; of fewer than
    six rounds, the lowest and the highest.

    CLASS is called with the spec's inputs by name. Where its forward takes something else, FUNCTION(theirs, given) is called once, untimed, with the
    module and a dict of the inputs, and returns a dict of what forward takes. With --map the weights of the spec are copied into theirs (axes may
    be merged or split, never exchanged), and outputs and gradients are compared before anything is timed.

    Without SPEC, --device cuda times attention kernels, layers and training steps beside torch's own and those by hand, and writes a CSV.
    """
    if spec is None:
        if given["device"] != "cuda":
            raise click.UsageError("Missing argument 'SPEC'; without one, --device cuda times what there are kernels for", context)
        _suite(out)
        return
    if out is not None:
        raise click.UsageError("-o is of --device cuda without SPEC", context)
    report = bench(Job(spec=spec, map=pairs(map), **given))  # type: ignore[arg-type]
    click.echo(json.dumps(report.as_json(), indent=2) if machine else table(report))


def _suite(out: str | None) -> None:
    from mptc.runtime.bench.gpu import suite

    usual = Path("tests/bench")
    folder = Path(out) if out else usual if usual.is_dir() else Path()
    click.echo(f"wrote {suite(folder, click.echo)}")
