"""Fixtures: where the real data lies, and a loud skip where it does not."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from facedet_mm import Detector

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small models: threads that wait for each other cost more than they give

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("FACEDET_TEST_DATA", ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real weights, images and annotations; the test is skipped where it is missing."""
    if not DATA.is_dir():
        pytest.skip(f"NEEDS REAL DATA: {DATA} is missing (set FACEDET_TEST_DATA to its place)")
    return DATA


@pytest.fixture(scope="session")
def average_precision(data: Path) -> Callable[[Detector], dict[str, float]]:
    """The easy, medium and hard AP in percent of what a detector finds in the 404 images of WIDER FACE val."""
    from facedet_mm.datasets import Predictions, read_ground_truth
    from facedet_mm.evaluation import evaluate

    images = sorted((data / "wider/WIDER_val/images").glob("*/*.jpg"))
    assert len(images) == 404
    ground_truth = read_ground_truth(data / "wider/subset/ground_truth")

    def measure(detector: Detector) -> dict[str, float]:
        found = ((str(path), detector.detect(path)) for path in images)
        predictions = Predictions.from_images((name, faces.boxes, faces.scores) for name, faces in found)
        return {name: 100 * ap for name, ap in evaluate(predictions, ground_truth).ap.items()}

    return measure


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's root."""
    return ROOT


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a developer has fetched must not change a test."""
    os.environ["FACEDET_HOME"] = str(tmp_path_factory.mktemp("cache"))
