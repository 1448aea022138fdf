"""The static checks, as tests: one command covers everything."""

import subprocess
import sys
from pathlib import Path


def run(root: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"


def test_ruff(root: Path) -> None:
    run(root, sys.executable, "-m", "ruff", "check", "mptc", "tests")


def test_types(root: Path) -> None:
    run(root, sys.executable, "-m", "mypy")


def test_rooms_import_only_what_is_below(root: Path) -> None:
    run(root, sys.executable, "-c", "from importlinter.cli import lint_imports_command as lint; lint(['--no-cache'])")


def test_no_file_or_function_is_a_giant(root: Path) -> None:
    """A file stops at 400 lines."""
    large = [str(path) for folder in ("mptc", "tests") for path in (root / folder).rglob("*.py") if "golden" not in path.parts and _lines(path) > 400]
    assert not large


def _lines(path: Path) -> int:
    return path.read_text(encoding="utf-8").count("\n")
