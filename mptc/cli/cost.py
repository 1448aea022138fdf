"""`mptc cost`"""

from __future__ import annotations

import click

from mptc.cli.options import overrides, tell
from mptc.runtime.errors import UserError
from mptc.runtime.spec import read
from mptc.show import costs
from mptc.source.diagnostic import Diagnostics

LENGTH = click.IntRange(min=1)


def _lengths(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, int]:
    found: dict[str, int] = {}
    for text in given:
        name, _, value = text.partition("=")
        if not name.strip() or not value.strip().isdecimal() or not int(value):
            raise click.BadParameter(f"{text!r} is not NAME=NUMBER", context, parameter)
        found[name.strip()] = int(value)
    return found


@click.command("cost")
@click.argument("spec")
@overrides
@click.option("--batch", type=LENGTH, metavar="N", help="Evaluate for N sequences.")
@click.option("--seq", type=LENGTH, metavar="N", help="Evaluate for N tokens in each.")
@click.option("--length", "memories", multiple=True, metavar="NAME=N", callback=_lengths, help="Evaluate for a memory of N entries. May be repeated.")
@click.option("--json", "machine", is_flag=True, help="Print all of it, exact, as JSON.")
@click.pass_context
def command(
    context: click.Context,
    spec: str,
    set: dict[str, str],
    variant: str | None,
    batch: int | None,
    seq: int | None,
    memories: dict[str, int],
    machine: bool,
) -> None:
    """Count what the model of SPEC costs, by call site and in total, as polynomials in the batch and the lengths.

    Parameters: stored, each tied tensor once, and effective, counted wherever an operator reads them. Floating-point operations of matrix products
    (2·m·n·k each, as torch's FlopCounterMode counts them with attention by its formula) and element-wise ones; bytes that operators move;
    activations kept for the way back, and the peak of memory in one training step on one device, float32; bytes of the decoding cache.

    Nothing is run: it is computed from the planned steps of the model. Weights are not needed, nor is torch.
    """
    diagnostics = Diagnostics()
    source = read(spec, diagnostics)
    lengths = {name: length for name, length in {"batch": batch, "seq": seq, **memories}.items() if length is not None}
    try:
        text = costs(source, diagnostics, set, variant, lengths, machine) if source else None
    except KeyError as error:
        name, known = error.args
        raise UserError(f"{spec}: error: this model has no length {name}; it has {', '.join(known)}") from None
    tell(diagnostics)
    if diagnostics.failed:
        context.exit(1)
    if text is None:
        raise UserError(f"{spec}: error: there is no model in this file")
    click.echo(text, nl=False)
