"""Every energy of the tests as a graph: its step is that of the torch module."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deploy.agree import agrees
from tests.test_energies import ENERGIES


@pytest.mark.parametrize("path", ENERGIES, ids=lambda path: path.stem)
def test_it_agrees_with_torch(path: Path, tmp_path: Path) -> None:
    found = agrees(path, tmp_path, seed=1)
    agrees(found, tmp_path, standard=True)
