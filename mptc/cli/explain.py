"""`mptc explain`"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from mptc.cli.options import known, lengths, overrides, tell
from mptc.runtime.errors import UserError
from mptc.runtime.example import explained as example
from mptc.runtime.files import write_all
from mptc.runtime.spec import read
from mptc.source.catalogue import CATALOGUE
from mptc.source.diagnostic import Diagnostics
from mptc.trace import Trace, trace
from mptc.trace.line import Place, explained, explained_line, sources
from mptc.trace.page import page
from mptc.where import told


@click.command("explain")
@click.argument("what", required=False, metavar="[CODE|SPEC[:LINE]]")
@overrides
@click.option("--line", "line", metavar="[FILE:]LINE", help="A line of SPEC, or of a file that it uses.")
@lengths
@click.option("--where", "where", is_flag=True, help="What of SPEC runs where: which kernel takes each score, on which machines, and why not.")
@click.option("--html", "out", metavar="FILE", help="Write what each stage did to SPEC as one page, with the differences.")
@click.pass_context
def command(
    context: click.Context,
    /,
    what: str | None,
    set: dict[str, str],
    variant: str | None,
    line: str | None,
    where: bool,
    out: str | None,
    **given: Any,
) -> None:
    """Explain a diagnostic CODE, with a spec that triggers it; or how SPEC becomes code: equations, and which scores are fused or computed by rows
    and why others are not. Alone, list all codes.

    SPEC:LINE explains a line: equation, gradient, what each stage made of it, the generated lines, what they cost (for --batch and --seq, or as
    polynomials). A line of an energy stands for the energy wherever it is used. The line may be one of a library: explain SPEC --line lib/cem.mpt:6.
    """
    spec, number = _named(what)
    asked = line or number
    if spec is None and (out or line or where or known(**given)):
        raise click.UsageError("--html, --line, --where and lengths are of a SPEC", context)
    if where and (out is not None or asked is not None):
        raise click.UsageError("--where is of a whole SPEC and stands alone", context)
    if out is not None and asked is not None:
        raise click.UsageError("--html is of a whole SPEC, not of a line", context)
    if line is not None and number is not None:
        raise click.UsageError("a line is named once: SPEC:LINE or --line", context)
    if asked is None and known(**given):
        raise click.UsageError("lengths are of the cost of a line: SPEC:LINE", context)
    if spec is not None and where:
        click.echo(told(_trace(context, spec, set, variant, None).derived), nl=False)
    elif spec is not None:
        _spec(spec, asked, _trace(context, spec, set, variant, asked), known(**given), out)
    elif what is None:
        for entry in CATALOGUE.values():
            click.echo(f"{entry.code}  {entry.title}")
    else:
        found = CATALOGUE.get(what.upper())
        if found is None:
            raise UserError(f"error: there is no diagnostic {what}; `mptc explain` lists them")
        click.echo(example(found))


def _named(what: str | None) -> tuple[str | None, str | None]:
    """The spec that is asked for, and its line; no spec where a diagnostic is. Raises `UserError` for what is neither."""
    if what is None or re.fullmatch(r"[A-Za-z]\d{4}", what):
        return None, None
    path, colon, number = what.rpartition(":")
    if not colon or Path(what).exists():
        path, number = what, ""
    if not Path(path).suffix and not Path(path).exists():
        raise UserError(f"error: {what} is neither a diagnostic (`mptc explain` lists them) nor a spec, FILE.mpt or FILE.mpt:LINE")
    return path, number if colon and path != what else None


def _trace(context: click.Context, spec: str, set: dict[str, str], variant: str | None, line: str | None) -> Trace:
    diagnostics = Diagnostics()
    source = read(spec, diagnostics)
    found = trace(source, diagnostics, set, variant) if source else None
    tell(diagnostics)
    if diagnostics.failed:
        context.exit(1)
    if found is None:
        place = f"{Path(spec).parent.name}/{Path(spec).name}:{line or 'LINE'}"
        raise UserError(f"{spec}: error: there is no model in this file; with one that uses it, `mptc explain SPEC --line {place}`")
    return found


def _spec(spec: str, line: str | None, found: Trace, given: dict[str, int], out: str | None) -> None:
    if out is not None:
        write_all({Path(out): page(found)})
        click.echo(f"wrote {out}")
    elif line is None:
        click.echo(explained(found), nl=False)
    else:
        click.echo(explained_line(found, _place(spec, line, found), given), nl=False)


def _place(spec: str, line: str, found: Trace) -> Place:
    """LINE of the spec, or FILE:LINE of a file that it uses, named by the end of its path. Raises `UserError` for none."""
    file, _, number = line.rpartition(":")
    there = sources(found)
    several = [each for each in there if not file or each.path == file or each.path.endswith(f"/{file}")][: 1 if not file else None]
    if not number.isdecimal():
        raise UserError(f"{spec}: error: {number!r} is not the number of a line; FILE.mpt:LINE has one")
    if len(several) != 1:
        which = "several of them" if several else "none of them"
        raise UserError(f"{spec}: error: {file} is {which}: what is computed stands in {', '.join(each.path for each in there)}")
    if not 1 <= int(number) <= several[0].text.count("\n") + 1:
        raise UserError(f"{several[0].path}: error: it has no line {number}")
    return Place(several[0], int(number))
