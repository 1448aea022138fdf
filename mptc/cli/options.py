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
