"""Dark images are brightened for the detector, bright ones left alone."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest

from facedet_mm import build_detector
from facedet_mm.errors import FaceDetError, ImageError
from facedet_mm.imaging import low_light
from facedet_mm.imaging.low_light import LowLight
from facedet_mm.io.images import read_image
from facedet_mm.tracking.association import iou_matrix
from facedet_mm.zoo import asset_path


@pytest.fixture(scope="module")
def solvay() -> np.ndarray:
    return cv2.resize(read_image(asset_path("solvay_1927.jpg")), None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA)


def darkened(image: np.ndarray, gamma: float, noise: float = 0.0) -> np.ndarray:
    dark = 255 * (image / 255.0) ** gamma + np.random.default_rng(0).normal(0, noise, image.shape)
    return np.clip(dark, 0, 255).astype(np.uint8)


def recall(found: np.ndarray, expected: np.ndarray) -> float:
    return float((iou_matrix(expected.T.astype(float), found.T.astype(float)).max(axis=1, initial=0) > 0.5).mean())


def test_bright_images_come_back_as_they_are_and_off_never_touches(solvay: np.ndarray) -> None:
    assert LowLight()(solvay) is solvay
    dark = darkened(solvay, 3)
    assert LowLight("off")(dark) is dark


def test_dark_images_become_brighter_without_changing_the_argument(solvay: np.ndarray) -> None:
    dark = darkened(solvay, 4)
    before = dark.copy()
    bright = LowLight()(dark)
    assert np.array_equal(dark, before)
    assert bright.shape == dark.shape
    assert bright.dtype == np.uint8
    assert bright.mean() > dark.mean() + 10


def test_the_effect_grows_without_a_step_as_it_gets_darker(solvay: np.ndarray) -> None:
    light = LowLight()
    changes = []
    for scale in np.linspace(1.0, 0.1, 19):
        image = cv2.convertScaleAbs(solvay, alpha=scale)
        changes.append(float(np.abs(light(image).astype(int) - image).mean()))
    assert changes[0] == 0
    assert max(changes) > 10
    assert max(abs(b - a) for a, b in pairwise(changes)) < 14


def test_gamma_lifts_and_one_is_no_curve(solvay: np.ndarray) -> None:
    dark = darkened(solvay, 4)
    assert LowLight("on", gamma=3.0)(dark).mean() > LowLight("on", gamma=1.0)(dark).mean() + 20


def test_faces_lost_in_the_dark_are_found_again(solvay: np.ndarray) -> None:
    detector = build_detector(score_thr=0.5)
    expected = detector.detect(solvay).boxes
    dark = darkened(cv2.convertScaleAbs(solvay, alpha=0.03), 1, noise=2)
    plain, lifted = (recall(detector.detect(image).boxes, expected) for image in (dark, LowLight()(dark)))
    assert lifted >= plain + 0.1


def test_real_images_gain_in_the_dark(data: Path) -> None:
    detector, light = build_detector(data / "weights/scrfd_500m_bnkps.onnx", score_thr=0.5), LowLight()
    hits = np.zeros(2)
    for path in sorted((data / "wider/WIDER_val/images").glob("*/*.jpg"))[::25]:
        image = read_image(path)
        expected = detector.detect(image).boxes
        dark = darkened(image, 4, noise=3)
        for i, shown in enumerate((dark, light(dark))):
            hits[i] += recall(detector.detect(shown).boxes, expected) * len(expected) if len(expected) else 0
    assert hits[1] > hits[0]


@pytest.mark.parametrize("options", [dict(mode="dark"), dict(gamma=0), dict(gamma=float("nan")), dict(clip_limit=-1)])
def test_values_that_make_no_sense_are_refused(options) -> None:
    with pytest.raises(FaceDetError):
        LowLight(**options)


def test_what_is_no_image_is_refused() -> None:
    with pytest.raises(ImageError):
        LowLight()(np.zeros((4, 4, 3), np.float32))


def test_between_dark_and_bright_it_does_a_share(monkeypatch) -> None:
    seen: list[tuple[int, float]] = []

    def equalized(_: LowLight, image: np.ndarray, darkness: float) -> np.ndarray:
        seen.append((int(image[0, 0, 0]), darkness))
        return image

    monkeypatch.setattr(LowLight, "_equalized", equalized)
    for level in (20, 40, 60):
        LowLight(gamma=4)(np.full((64, 64, 3), level, np.uint8))
    LowLight("on", gamma=4)(np.full((64, 64, 3), 200, np.uint8))
    curve = [round(255 * (level / 255) ** (1 / gamma)) for level, gamma in ((20, 4), (40, 4), (60, 2), (200, 4))]
    assert seen == [(value, pytest.approx(share)) for value, share in zip(curve, (1, 1, 0.5, 1), strict=True)]
    bright = np.full((64, 64, 3), 80, np.uint8)
    assert LowLight()(bright) is bright


def test_the_share_goes_into_the_contrast_and_the_blur(monkeypatch) -> None:
    clips: list[float] = []
    create = cv2.createCLAHE
    monkeypatch.setattr(cv2, "createCLAHE", lambda clip, tiles: clips.append(clip) or create(clip, tiles))
    LowLight(clip_limit=3.0)(np.full((64, 64, 3), 60, np.uint8))
    assert clips == [pytest.approx(1.5)]
    noise = np.random.default_rng(0).integers(0, 256, (512, 300, 3), np.uint8)
    for share in (1.0, 0.5):  # half of the pixels that an image of 1024 gets
        expected = cv2.GaussianBlur(noise, (5, 5), 1.1 * 0.5 * share)
        assert np.array_equal(low_light._brightened(noise, 1.0, share), expected)
