"""Programs that the documentation shows."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from facedet_mm import build_detector
from facedet_mm.io.images import read_image
from facedet_mm.zoo import asset_path


@pytest.fixture(scope="module")
def faults(root: Path) -> Callable[[np.ndarray], list[str]]:
    """The recipe of the page, with the detector that the page names."""
    text = (root / "docs/faces.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(def passport_faults.*?)```", text, re.DOTALL)
    assert code.count("\n") <= 17, "fifteen lines, a docstring and its signature"
    names: dict[str, Any] = {}
    exec(code, names)
    arguments = re.findall(r"Use it with `build_detector\((.*?)\)`", text)[0]
    detector = eval(f"build_detector({arguments})", {"build_detector": build_detector})
    return lambda image: names["passport_faults"](image, detector)


@pytest.fixture(scope="module")
def portrait() -> np.ndarray:
    """One of the twenty-nine, four times as large."""
    return cv2.resize(read_image(asset_path("solvay_1927.jpg"))[990:1210, 1900:2085], None, fx=4, fy=4)


def test_a_portrait_passes_the_passport_check(faults: Any, portrait: np.ndarray) -> None:
    assert faults(portrait) == []


def test_every_fault_of_a_portrait_is_named(faults: Any, portrait: np.ndarray) -> None:
    height, width = portrait.shape[:2]
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), 25, 1)
    covered = portrait.copy()
    covered[360:700, 150:600] = (90, 120, 160)
    assert faults(np.hstack([portrait, portrait])) == ["2 faces"]
    assert faults(np.zeros_like(portrait)) == ["0 faces"]
    assert faults(cv2.resize(portrait, None, fx=0.3, fy=0.3)) == ["too small"]
    assert "cut by the border" in faults(portrait[:, : width * 6 // 10])
    assert "not frontal" in faults(cv2.warpAffine(portrait, turn, (width, height)))
    assert "blurred" in faults(cv2.GaussianBlur(portrait, (0, 0), 16))
    assert "too dark or too bright" in faults((portrait * 0.2).astype(np.uint8))
    assert "covered" in faults(covered) or faults(covered) == ["0 faces"]
