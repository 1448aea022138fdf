"""From graphviz's language to a picture, by graphviz itself."""

from __future__ import annotations

import shutil
import subprocess

from mptc.runtime.errors import UserError

SECONDS = 120
MISSING = """\
error: --format svg is drawn by graphviz, and its `dot` is not on PATH
help: install it (`apt install graphviz`, `brew install graphviz`, or https://graphviz.org/download), or use --format mermaid or text"""


def svg(text: str) -> str:
    """The picture of a graph. Raises `UserError` where graphviz is missing, fails or takes too long."""
    program = shutil.which("dot")
    if program is None:
        raise UserError(MISSING)
    try:
        done = subprocess.run([program, "-Tsvg"], input=text, capture_output=True, text=True, encoding="utf-8", timeout=SECONDS, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"error: {program} did not draw the graph: {error}") from None
    if done.returncode:
        raise UserError(f"error: {program} did not draw the graph: {done.stderr.strip()}")
    return done.stdout
