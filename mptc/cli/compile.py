"""`mptc compile`"""

from __future__ import annotations

from pathlib import Path

import click

from mptc.cli.options import overrides, tell
from mptc.compile import Deployment, compile
from mptc.runtime.errors import UserError
from mptc.runtime.output import Origin, written
from mptc.runtime.spec import read
from mptc.show import show
from mptc.source.diagnostic import Diagnostics
from mptc.trace import STAGES as AFTER
from mptc.trace import trace

STAGES = ("ast", "model", "ir", "derivation")
TARGETS = ("torch", "triton", "onnx", "hf")
EMIT = f"Files: {', '.join(TARGETS)}. Printed: {', '.join(STAGES)}."


def _emit(context: click.Context, parameter: click.Parameter, given: str) -> tuple[str, ...]:
    """One stage, or targets."""
    names = tuple(name.strip() for name in given.split(","))
    for name in names:
        if name not in STAGES + TARGETS:
            raise click.BadParameter(f"{name!r} is none of {', '.join(TARGETS)} (files) and {', '.join(STAGES)} (printed)", context, parameter)
    if len(names) > 1 and any(name in STAGES for name in names):
        raise click.BadParameter("a printed stage stands alone", context, parameter)
    return names


@click.command("compile")
@click.argument("spec")
@click.option("-o", "out", default="build", show_default=True, metavar="DIR", help="Write DIR/MODEL/.")
@click.option("--emit", default="torch", show_default=True, metavar="LIST", callback=_emit, help=EMIT)
@overrides
@click.option("--seed", type=click.IntRange(min=0), metavar="N", help="Initial values that onnx and hf carry (default 0).")
@click.option("--weights", metavar="FILE", help="Weights that onnx and hf carry, in place of initial values.")
@click.option("--dtype", type=click.Choice(["float32", "float16", "bfloat16"]), help="Of the numbers in onnx.  [default: float32]")
@click.option("--quantize", type=click.Choice(["int8"]), help="Matrices in onnx as bytes, with a scale for each row.")
@click.option("--probes", is_flag=True, help="Make the probes outputs of onnx.")
@click.option("--strict", is_flag=True, help="With triton: a score that no kernel takes is an error.")
@click.option("--after", type=click.Choice(AFTER), help="The stage whose ir is printed.  [default: derive]")
@click.pass_context
def command(
    context: click.Context,
    spec: str,
    out: str,
    emit: tuple[str, ...],
    set: dict[str, str],
    variant: str | None,
    seed: int | None,
    weights: str | None,
    dtype: str | None,
    quantize: str | None,
    probes: bool,
    strict: bool,
    after: str | None,
) -> None:
    """Compile SPEC and write it to DIR/MODEL/, as a torch module (MODEL.py) or what --emit says, or print a stage of the compilation on stdout."""
    if seed is not None and weights is not None:
        raise click.UsageError("--seed and --weights exclude each other", context)
    if (dtype or quantize or probes) and "onnx" not in emit:
        raise click.UsageError("--dtype, --quantize and --probes are for --emit onnx", context)
    if strict and "triton" not in emit:
        raise click.UsageError("--strict is for --emit triton", context)
    if after and emit != ("ir",):
        raise click.UsageError("--after is for --emit ir", context)
    diagnostics = Diagnostics()
    source = read(spec, diagnostics)
    compiled = text = None
    if source and after:
        found = trace(source, diagnostics, set, variant)
        text = None if found is None else found.page(after)
    elif source and emit[0] in STAGES:
        text = show(source, diagnostics, emit[0], set, variant)
    elif source:
        compiled = compile(source, diagnostics, set, variant, emit, Deployment(dtype or "float32", quantize == "int8", probes), strict=strict)
    tell(diagnostics)
    if diagnostics.failed:
        context.exit(1)
    if text is not None:
        click.echo(text, nl=not text.endswith("\n"))
    elif compiled is None:
        raise UserError(f"{spec}: error: there is no model in this file")
    else:
        written(compiled, Path(out), Origin(spec, set, variant, seed or 0, weights), click.echo)

