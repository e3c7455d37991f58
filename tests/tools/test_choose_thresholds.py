"""The tool that chooses score thresholds, on a handful of faces counted by hand."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from facedet_mm.datasets import Predictions
from facedet_mm.datasets.annotations import ImageAnnotation
from facedet_mm.errors import FaceDetError

FACE, SMALL, AWAY = [0, 0, 40, 40], [100, 0, 120, 20], [300, 0, 340, 40]


@pytest.fixture(scope="module")
def tool(root: Path) -> ModuleType:
    """The tool as a module."""
    spec = importlib.util.spec_from_file_location("choose", root / "tools" / "analysis" / "choose_thresholds.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def image(name: str, *boxes: list[int], ignore: int = 0) -> ImageAnnotation:
    """An image whose last ``ignore`` faces are invalid."""
    return ImageAnnotation(name, np.array(boxes, np.float32), np.arange(len(boxes)) >= len(boxes) - ignore)


IMAGES = [image("easy/1.jpg", FACE, SMALL), image("hard/2.jpg", FACE, AWAY, ignore=1)]
FOUND = Predictions.from_images(
    [
        ("easy/1.jpg", [FACE, SMALL, [1, 1, 41, 41], AWAY], [0.9, 0.8, 0.3, 0.2]),
        ("hard/2.jpg", [AWAY, FACE, SMALL], [0.95, 0.7, 0.555]),
        ("other/3.jpg", [FACE], [0.99]),
    ]
)


@pytest.mark.parametrize(
    ("score_thr", "precision", "recall", "alarms"),
    [(0.85, 1, 1 / 3, 0), (0.6, 1, 1, 0), (0.5, 3 / 4, 1, 1), (0.25, 3 / 5, 1, 2), (0.1, 3 / 6, 1, 3)],
)
def test_invalid_faces_count_neither_way_and_doubles_are_false_alarms(
    tool: ModuleType, score_thr: float, precision: float, recall: float, alarms: int
) -> None:
    assert tool.Found(IMAGES, FOUND).at(score_thr) == pytest.approx((precision, recall, alarms))


def test_small_faces_may_be_left_out(tool: ModuleType) -> None:
    assert tool.Found(IMAGES, FOUND).at(0.85, least=30) == pytest.approx((1, 1 / 2, 0))


def test_every_event_must_reach_the_precision(tool: ModuleType) -> None:
    events = [tool.Found([image], FOUND) for image in IMAGES]
    assert tool.smallest_score_thr([tool.Found(IMAGES, FOUND)], 0.7) == 0.31
    assert tool.smallest_score_thr(events, 0.7) == 0.56
    assert tool.smallest_score_thr(events[:1], 0.5) == 0.1
    with pytest.raises(FaceDetError, match=r"precision of 1\.1"):
        tool.smallest_score_thr(events, 1.1)


def test_one_line_per_model_tells_what_was_chosen(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import cv2

    from facedet_mm import build_detector
    from facedet_mm.zoo import asset_path

    photo = cv2.resize(cv2.imread(str(asset_path("solvay_1927.jpg"))), (750, 542), interpolation=cv2.INTER_AREA)
    boxes = build_detector(score_thr=0.6).detect(photo).boxes
    lines = []
    for name in ("a/1.png", "b/2.png"):
        (tmp_path / name).parent.mkdir()
        cv2.imwrite(str(tmp_path / name), photo)
        rows = [" ".join(f"{v:.1f}" for v in (x1, y1, x2 - x1, y2 - y1)) for x1, y1, x2, y2 in boxes.tolist()]
        lines += [name, str(len(boxes)), *rows]
    (tmp_path / "faces.txt").write_text("\n".join(lines) + "\n")
    dataset = [str(tmp_path / "faces.txt"), str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["choose_thresholds", "yunet_n", "--train", *dataset, "--val", *dataset])
    assert tool.main() == 0
    row = capsys.readouterr().out.splitlines()[-1].split()
    assert row[0] == "yunet_n"
    assert 0.1 < float(row[1]) <= 0.6
    assert float(row[2]) == float(row[4]) >= 95
    assert float(row[3]) == float(row[5]) == 100
