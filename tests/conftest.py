"""Fixtures that several rooms share, and the marker of the tests that need the real data."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from facedet_mm import Detector

os.environ.setdefault("OMP_NUM_THREADS", "1")  # in small models, threads lose more time waiting than they save
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # for tests that import ONNX Runtime before facedet_mm

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("FACEDET_TEST_DATA", ROOT.parent / "shared" / "data"))


SLOW = (
    "cli/test_cli_endings.py", "cli/test_cli_streams.py", "configs/test_configs.py", "deploy/test_quantization.py",
    "detectors/test_close_ups.py", "detectors/test_turned_faces.py",
    "plugin/apis", "plugin/deploy", "plugin/engine", "plugin/evaluation", "plugin/search", "plugin/test_mmdet_tools.py",
    "search/test_odd_journals.py", "test_telemetry.py", "tools",
)  # fmt: skip
"""Folders and modules whose tests train, export or start many processes: minutes together, though each is quick."""


@pytest.hookimpl(tryfirst=True)  # before -m selects by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Marks the tests that use the real data, directly or through another fixture, and those of slow modules."""
    for item in items:
        if "data" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.data)
        if item.path.relative_to(ROOT / "tests").as_posix().startswith(SLOW):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of real weights, images and annotations; tests that need it are skipped where it is missing."""
    if not DATA.is_dir():
        pytest.skip(f"NEEDS REAL DATA: {DATA} is missing (set FACEDET_TEST_DATA to its path)")
    return DATA


@pytest.fixture(scope="session")
def average_precision(data: Path) -> Callable[[Detector], dict[str, float]]:
    """Returns the easy, medium and hard AP of a detector, in percent, on 404 images of WIDER FACE val."""
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
    """The root folder of the checkout."""
    return ROOT


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Gives the tests an empty model cache, so that models fetched earlier do not change them."""
    os.environ["FACEDET_HOME"] = str(tmp_path_factory.mktemp("cache"))
