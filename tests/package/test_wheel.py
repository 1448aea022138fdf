"""The wheel, installed away from the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest


def run(command: list[str], **options: object) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return str(done.stdout)


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by way of the source distribution, so that what that lacks is missed here."""
    out = tmp_path_factory.mktemp("wheel")
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(root)])
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def away(wheel: Path, root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the installed package in `site` and nothing else of the checkout but a copy of one spec."""
    folder = tmp_path_factory.mktemp("away")
    run([sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--target", str(folder / "site"), str(wheel)])
    (folder / "cem_small.mpt").write_bytes((root / "specs/cem_small.mpt").read_bytes())
    return folder


def mptc(away: Path, *arguments: str) -> str:
    return run([sys.executable, "-m", "mptc", *arguments], cwd=away, env={**os.environ, "PYTHONPATH": str(away / "site")})


def test_carries_grammar_prelude_and_templates(wheel: Path, root: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for folder, carried in (("grammar", "grammar"), ("specs/lib", "lib"), ("codegen_templates", "templates")):
        files = [path.relative_to(root / folder) for path in (root / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        assert files, folder
        assert {f"mptc/_data/{carried}/{file.as_posix()}" for file in files} <= names


def test_carries_nothing_of_the_workshop(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert tops == {"mptc", "mptc-0.1.0.dist-info"}


def test_runs_away_from_the_checkout(away: Path) -> None:
    where = run([sys.executable, "-c", "import mptc; print(mptc.__file__)"], cwd=away, env={**os.environ, "PYTHONPATH": str(away / "site")})
    assert Path(where.strip()).is_relative_to(away)
    assert mptc(away, "check", "cem_small.mpt") == ""
    assert mptc(away, "compile", "cem_small.mpt").splitlines()[0] == f"wrote {Path('build/cem_small/cem_small.py')}"
    assert "class Model(" in (away / "build/cem_small/cem_small.py").read_text()
    assert (away / "site/bin/mptc").exists()
