"""Presets, and the second look at doubtful faces."""

from __future__ import annotations

import numpy as np
import pytest

from facedet_mm import Faces, build_detector
from facedet_mm.cli import main
from facedet_mm.detectors import DetectorOptions
from facedet_mm.detectors.merging import Merged
from facedet_mm.detectors.presets import PRESETS
from facedet_mm.detectors.recheck import crop_region, recheck
from facedet_mm.detectors.views import Seen, ViewPlan
from facedet_mm.errors import FaceDetError
from facedet_mm.video.pipeline import VideoFaceDetector


class TestPresets:
    def test_stand_for_the_settings_that_are_documented(self) -> None:
        assert DetectorOptions(preset="fast").input_size == "auto"
        assert DetectorOptions(preset="balanced").input_size == [640, 1280]
        accurate = DetectorOptions(preset="accurate")
        assert (accurate.input_size, accurate.mirror, accurate.recheck) == ([640, 960, 1280, 1600], True, True)
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
        assert (balanced.input_size, balanced.mirror, balanced.recheck) == ([640, 1280], False, False)
        assert balanced.score_thr == 0.3
        assert detector.replace(input_size=320).options.input_size == 320

    def test_a_video_takes_it_in_place_of_auto(self) -> None:
        assert VideoFaceDetector().detector.options.input_size == "auto"
        assert VideoFaceDetector(preset="balanced").detector.options.input_size == [640, 1280]

    def test_more_is_found_from_preset_to_preset(self, solvay_small: np.ndarray) -> None:
        found = [len(build_detector(preset=name, score_thr=0.5).detect(solvay_small)) for name in PRESETS]
        assert found[0] < found[1] <= found[2]
        assert found[2] >= 28


@pytest.fixture(scope="module")
def solvay_small() -> np.ndarray:
    """The Solvay photograph as a part of a larger image, so that its faces have 8 pixels at 640."""
    import cv2

    from facedet_mm.io.images import read_image
    from facedet_mm.zoo import asset_path

    canvas = np.full((2400, 3000, 3), 127, np.uint8)
    canvas[300:1025, 400:1400] = cv2.resize(read_image(asset_path("solvay_1927.jpg")), (1000, 725))
    return canvas


class TestRecheck:
    def second_look(
        self, faces: Faces, votes: list[int], seen: dict[int, Faces], degrees: float = 0.0
    ) -> tuple[Faces, list]:
        search = recheck(ViewPlan([640]), Merged(faces, np.array(votes)), np.full(len(faces), degrees), (400, 300))
        try:
            look = next(search)
        except StopIteration as end:
            return end.value, []
        answers = [Seen(seen.get(i, Faces.empty()), close_up=False) for i in range(len(look.views))]
        with pytest.raises(StopIteration) as end:
            search.send(answers)
        return end.value.value, look.views

    def test_looks_only_at_faces_that_one_view_saw_with_a_middling_score(self) -> None:
        faces = Faces([[10 * i, 0, 10 * i + 10, 10] for i in range(4)], [0.9, 0.6, 0.5, 0.2])
        _, views = self.second_look(faces, [1, 2, 1, 1], {})
        assert [view.region for view in views] == [(10, 0, 40, 20)]
        assert self.second_look(faces, [1, 2, 2, 1], {})[1] == []

    def test_halves_the_score_of_a_face_that_its_crop_does_not_show(self) -> None:
        faces = Faces([[100, 100, 140, 140], [0, 0, 9, 9]], [0.7, 0.4])
        found, _ = self.second_look(faces, [1, 3], {})
        assert found.scores.tolist() == pytest.approx([0.4, 0.35])
        assert found.boxes.tolist() == [[0, 0, 9, 9], [100, 100, 140, 140]]

    @pytest.mark.parametrize(("x", "kept"), [(40, True), (54, True), (66, False)])
    def test_a_face_near_the_middle_of_the_crop_confirms_it(self, x: int, kept: bool) -> None:
        faces = Faces([[100, 100, 140, 140]], [0.7])  # the crop starts at (60, 60)
        again = Faces([[x, 40, x + 40, 80]], [0.35])
        found, (view,) = self.second_look(faces, [1], {0: again})
        assert view.region == (60, 60, 180, 180)
        assert found.scores.tolist() == pytest.approx([0.7 if kept else 0.35])

    def test_a_face_of_a_turned_view_is_looked_at_turned(self) -> None:
        faces = Faces([[100, 100, 140, 140]], [0.7])
        _, (view,) = self.second_look(faces, [1], {}, degrees=90.0)
        assert (view.region, view.turn.degrees) == ((60, 60, 180, 180), 90)

    def test_crops_stay_inside_the_image(self) -> None:
        assert crop_region(np.array([0, 0, 20, 20], np.float32), 3, (50, 25)) == (0, 0, 40, 25)
        assert crop_region(np.array([49.5, 24.5, 50, 25], np.float32), 3, (50, 25)) == (49, 24, 50, 25)
