"""Presets, and the two looks of mirrored views."""

from __future__ import annotations

import numpy as np
import pytest

from facedet_mm import build_detector
from facedet_mm.cli import main
from facedet_mm.detectors import DetectorOptions
from facedet_mm.detectors.presets import PRESETS
from facedet_mm.errors import FaceDetError
from facedet_mm.video.pipeline import VideoFaceDetector


class TestPresets:
    def test_stand_for_the_settings_that_are_documented(self) -> None:
        assert DetectorOptions(preset="fast").input_size == "auto"
        assert DetectorOptions(preset="balanced").input_size == [640, 1280]
        accurate = DetectorOptions(preset="accurate")
        assert (accurate.input_size, accurate.mirror) == ([640, 960, 1280, 1600], True)
        assert DetectorOptions().input_size == 640

    @pytest.mark.parametrize("size", [320, "auto", [640]])
    def test_and_an_input_size_exclude_each_other(self, size) -> None:
        with pytest.raises(FaceDetError, match="preset 'balanced' has its own input sizes"):
            DetectorOptions(preset="balanced", input_size=size)

    def test_the_command_line_says_so_in_its_words(self, capsys: pytest.CaptureFixture[str], tmp_path) -> None:
        image = tmp_path / "a.png"
        image.write_bytes(b"")
        assert main(["detect", str(image), "--preset", "fast", "--size", "320"]) != 0
        assert "--size 320" in capsys.readouterr().err

    def test_an_unknown_one_is_refused_with_the_names(self) -> None:
        with pytest.raises(FaceDetError, match="preset must be one of fast, balanced, accurate or None, not 'best'"):
            DetectorOptions(preset="best")

    def test_a_detector_tells_what_its_preset_stands_for_and_changes_to_another(self) -> None:
        detector = build_detector(preset="accurate", score_thr=0.3)
        assert (detector.options.preset, detector.options.mirror) == (None, True)
        balanced = detector.replace(preset="balanced").options
        assert (balanced.input_size, balanced.mirror) == ([640, 1280], False)
        assert balanced.score_thr == 0.3
        assert detector.replace(input_size=320).options.input_size == 320

    def test_a_video_takes_it_in_place_of_auto(self) -> None:
        assert VideoFaceDetector().detector.options.input_size == "auto"
        assert VideoFaceDetector(preset="balanced").detector.options.input_size == [640, 1280]

    def test_more_is_found_from_preset_to_preset(self, solvay_small: np.ndarray) -> None:
        found = [len(build_detector(preset=name).detect(solvay_small)) for name in PRESETS]
        assert found[0] < found[1] < found[2]
        assert 28 <= found[2] <= 29


@pytest.fixture(scope="module")
def solvay_small() -> np.ndarray:
    """The Solvay photograph as a part of a larger image, so that its faces have 8 pixels at 640."""
    import cv2

    from facedet_mm.io.images import read_image
    from facedet_mm.zoo import asset_path

    canvas = np.full((2400, 3000, 3), 127, np.uint8)
    canvas[300:1025, 400:1400] = cv2.resize(read_image(asset_path("solvay_1927.jpg")), (1000, 725))
    return canvas


class TestTwoLooks:
    """Mirrored views: the score of a face is the mean of its two best looks."""

    def test_give_the_same_faces_at_every_threshold(self, solvay_small: np.ndarray) -> None:
        detector = build_detector(input_size=[640, 1280], mirror=True, score_thr=0.3)
        all_faces, strict = detector.detect(solvay_small), detector.replace(score_thr=0.8).detect(solvay_small)
        assert 5 < len(strict) < len(all_faces)
        assert strict == all_faces[all_faces.scores > 0.8]

    def test_doubt_what_is_no_face(self, solvay_small: np.ndarray) -> None:
        detector = build_detector(input_size=[640, 960, 1280, 1600], score_thr=0.5)
        once, twice = detector.detect(solvay_small), detector.replace(mirror=True).detect(solvay_small)
        assert len(once) > len(twice) >= 29
