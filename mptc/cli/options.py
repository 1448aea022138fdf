"""Options that several commands share."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import Any, TypeVar

import click

from mptc.source.diagnostic import Diagnostics
from mptc.source.render import render

Command = TypeVar("Command", bound=Callable[..., Any])


def overrides(command: Command) -> Command:
    """`--set NAME=VALUE` (as a dict `set`) and `--variant NAME`."""
    command = click.option("--variant", metavar="NAME", help="Use a variant of the spec.")(command)
    return click.option("--set", multiple=True, metavar="NAME=VALUE", callback=_pairs, help="Override a dim or a const. May be repeated.")(command)


LENGTH = click.IntRange(min=1)


def lengths(command: Command) -> Command:
    """`--batch N`, `--seq N` and `--length NAME=N`, which `known` takes."""
    memories = click.option("--length", "memories", multiple=True, metavar="NAME=N", callback=_lengths, help="Evaluate for a memory of N entries.")
    command = memories(command)
    command = click.option("--seq", type=LENGTH, metavar="N", help="Evaluate for N tokens in each.")(command)
    return click.option("--batch", type=LENGTH, metavar="N", help="Evaluate for N sequences.")(command)


def known(batch: int | None, seq: int | None, memories: dict[str, int]) -> dict[str, int]:
    """The lengths that were given."""
    return {name: length for name, length in {"batch": batch, "seq": seq, **memories}.items() if length is not None}


def begun(following: Iterator[int]) -> Iterator[int]:
    """The same, the first of it made: what is wrong with the request is said before anything is printed."""
    first = list(islice(following, 1))
    return chain(first, following)


def tell(diagnostics: Diagnostics) -> None:
    """Show what was found on stderr, in colour on a terminal unless NO_COLOR is set."""
    colour = sys.stderr.isatty() and not os.environ.get("NO_COLOR")
    for diagnostic in diagnostics.found:
        click.echo(render(diagnostic, colour), err=True)


def _pairs(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise click.BadParameter(f"{text!r} is not NAME=VALUE", context, parameter)
        pairs[name.strip()] = value.strip()
    return pairs


def _lengths(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> dict[str, int]:
    found: dict[str, int] = {}
    for text in given:
        name, _, value = text.partition("=")
        if not name.strip() or not value.strip().isdecimal() or not int(value):
            raise click.BadParameter(f"{text!r} is not NAME=NUMBER", context, parameter)
        found[name.strip()] = int(value)
    return found
