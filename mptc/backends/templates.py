"""Layout of generated files. Templates hold no op names and no arithmetic; what they are given is text already."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mptc.resources import templates_dir


@cache
def _environment() -> Environment:
    loader = FileSystemLoader(str(templates_dir()))
    return Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, autoescape=False)


def render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(**values)
