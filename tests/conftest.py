"""Fixtures: where the real data lies, and a loud skip where it does not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small models: threads that wait for each other cost more than they give

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("FACEDET_TEST_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real weights, pictures and annotations; the test is skipped where it is missing."""
    if not DATA.is_dir():
        pytest.skip(f"NEEDS REAL DATA: {DATA} is missing (set FACEDET_TEST_DATA to its place)")
    return DATA


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root."""
    return ROOT


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a developer has fetched must not change a test."""
    os.environ["FACEDET_HOME"] = str(tmp_path_factory.mktemp("cache"))
