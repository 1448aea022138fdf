"""`mptc train`"""

from __future__ import annotations

import sys

import click

from mptc.cli.options import overrides


@click.command("train")
@click.argument("spec")
@overrides
@click.option("--data", required=True, metavar="FILE|MODULE:FUNCTION", help="A text, a .safetensors or .npz file, or a function; see above.")
@click.option("--out", metavar="DIR", help="The run's directory.  [default: runs/MODEL[-VARIANT]]")
@click.option("--resume", is_flag=True, help="Go on with the run in --out, from its newest checkpoint.")
@click.option("--steps", type=int, help="[default: 1500]")
@click.option("--batch", type=int, help="Examples in a step.  [default: 32]")
@click.option("--length", type=int, help="Bytes in a window of a text; what a function is asked for.  [default: 128]")
@click.option("--lr", type=float, help="AdamW's peak rate.  [default: 0.01, less from 100,000 parameters on]")
@click.option("--warmup", type=int, metavar="STEPS", help="Until the peak rate.  [default: a tenth of the steps, at most 100]")
@click.option("--seed", type=int, help="Of initial values and the order of data.  [default: 0]")
@click.option("--eval-every", type=int, metavar="STEPS", help="[default: 250]")
@click.option("--save-every", type=int, metavar="STEPS", help="[default: 250]")
@click.option("--threads", type=int, help="CPU threads.  [default: torch's choice]")
def command(spec: str, set: dict[str, str], variant: str | None, data: str, out: str | None, resume: bool, **given: int | float | None) -> None:
    """Train the model of SPEC, with AdamW, warm-up and a cosine.

    --data is one of three. A text, for a model of one id input: its bytes are the ids. A .safetensors or .npz file with an array for each input,
    named after it: [examples, seq, *axes], or [examples, *axes] for an input per sequence; ids are integers, below 0 where a loss shall not count
    them, numbers are floats. Of both the last tenth is held out. Or MODULE:FUNCTION, imported from the current directory and called with (seed,
    step, batch, length): it returns a dict of such arrays, `batch` examples each, the same for the same numbers. Held out are then the batches of
    steps from 2^31 on.

    The run's directory gets the generated module, the settings and whole checkpoints only. A run that was killed goes on with --resume and ends with
    the same weights, bit for bit. Ctrl-C and SIGTERM save the step they fall into first.
    """
    from mptc.runtime.report import report_to
    from mptc.runtime.session import Asked, train_spec

    train_spec(Asked(spec, data, set, variant, out, resume, given), report_to(sys.stdout))
