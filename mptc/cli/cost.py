"""`mptc cost`"""

from __future__ import annotations

from typing import Any

import click

from mptc.cli.options import known, lengths, overrides, tell
from mptc.runtime.errors import UserError
from mptc.runtime.spec import read
from mptc.show import costs
from mptc.source.diagnostic import Diagnostics


@click.command("cost")
@click.argument("spec")
@overrides
@lengths
@click.option("--json", "machine", is_flag=True, help="Print all of it, exact, as JSON.")
@click.pass_context
def command(
    context: click.Context,
    /,
    spec: str,
    set: dict[str, str],
    variant: str | None,
    machine: bool,
    **given: Any,
) -> None:
    """Count what the model of SPEC costs, by call site and in total, as polynomials in the batch and the lengths.

    Parameters: stored, each tied tensor once, and effective, counted wherever an operator reads them. Floating-point operations of matrix products
    (2·m·n·k each, as torch's FlopCounterMode counts them with attention by its formula) and element-wise ones; bytes that operators move;
    activations kept for the way back, and the peak of memory in one training step on one device, float32; bytes of the decoding cache.

    Nothing is run: it is computed from the planned steps of the model. Weights are not needed, nor is torch.
    """
    diagnostics = Diagnostics()
    source = read(spec, diagnostics)
    try:
        text = costs(source, diagnostics, set, variant, known(**given), machine) if source else None
    except KeyError as error:
        name, there = error.args
        raise UserError(f"{spec}: error: this model has no length {name}; it has {', '.join(there)}") from None
    tell(diagnostics)
    if diagnostics.failed:
        context.exit(1)
    if text is None:
        raise UserError(f"{spec}: error: there is no model in this file")
    click.echo(text, nl=False)
