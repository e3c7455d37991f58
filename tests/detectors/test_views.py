"""Several sizes, tiles and their merging."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from facedet_mm.detectors import OnnxDetector
from facedet_mm.detectors.merging import merge_views
from facedet_mm.detectors.preprocess import fit
from facedet_mm.detectors.views import View, ViewPlan, check_tiles
from facedet_mm.errors import FaceDetError
from facedet_mm.io.images import read_image
from facedet_mm.structures import Faces
from facedet_mm.zoo import asset_path

YUNET = asset_path("yunet_n_dynamic.onnx")


@pytest.fixture(scope="module")
def solvay() -> np.ndarray:
    return read_image(asset_path("solvay_1927.jpg"))


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    overlap = np.prod(np.maximum(high - low, 0), axis=2)
    areas = [np.prod(x[:, 2:] - x[:, :2], axis=1) for x in (a, b)]
    return overlap / (areas[0][:, None] + areas[1][None] - overlap)


def view(region: tuple[int, int, int, int], cuts: tuple[bool, bool, bool, bool] = (False,) * 4) -> View:
    x1, y1, x2, y2 = region
    return View(region, fit(x2 - x1, y2 - y1, "original"), cuts)


class TestPlan:
    @pytest.mark.parametrize(("width", "height", "tile"), [(4000, 3000, 640), (1281, 720, 640), (641, 5000, 640)])
    def test_tiles_cover_every_pixel_and_every_small_face_is_whole_in_one(self, width, height, tile) -> None:
        tiles = [v.region for v in ViewPlan([640], (tile, tile)).views(width, height)[1:]]
        covered = np.zeros((height, width), bool)
        for x1, y1, x2, y2 in tiles:
            covered[y1:y2, x1:x2] = True
        assert covered.all()
        side = tile // 5
        for x, y in np.random.default_rng(0).integers(0, [width - side, height - side], (500, 2)):
            assert any(x1 <= x and y1 <= y and x + side <= x2 and y + side <= y2 for x1, y1, x2, y2 in tiles)

    def test_only_edges_inside_the_image_are_cuts(self) -> None:
        tiles = ViewPlan([640], (640, 640)).views(1000, 600)[1:]
        assert [(v.region, v.cuts) for v in tiles] == [
            ((0, 0, 640, 600), (False, False, True, False)),
            ((360, 0, 1000, 600), (True, False, False, False)),
        ]

    def test_an_image_that_fits_into_a_tile_has_no_tiles(self) -> None:
        assert len(ViewPlan([640, 320], (640, 640)).views(640, 480)) == 2

    @pytest.mark.parametrize("tiles", [0, 63, (640,), "many", (640, 1.5), -640])
    def test_tiles_that_make_no_sense_are_refused(self, tiles) -> None:
        with pytest.raises(FaceDetError, match="tiles must be"):
            check_tiles(tiles)


class TestMerge:
    def test_faces_come_back_at_their_place_in_the_image(self) -> None:
        landmarks = np.arange(10).reshape(1, 5, 2)
        found = [Faces([[1, 2, 30, 40]], [0.5], landmarks), Faces([[20, 30, 60, 70]], [0.9], landmarks)]
        faces = merge_views([view((0, 0, 100, 100)), view((200, 300, 300, 400))], found, 0.4)
        assert faces.boxes.tolist() == [[220, 330, 260, 370], [1, 2, 30, 40]]
        assert faces.landmarks[0].tolist() == (landmarks[0] + [200, 300]).tolist()

    def test_of_two_views_of_one_face_the_better_score_stays(self) -> None:
        whole = view((0, 0, 100, 100))
        faces = merge_views([whole, whole], [Faces([[10, 10, 50, 50]], [0.6]), Faces([[11, 10, 50, 50]], [0.7])], 0.4)
        assert faces.scores.tolist() == pytest.approx([0.7])

    def test_a_part_at_a_cut_yields_to_the_whole_face_even_with_the_better_score(self) -> None:
        left = view((0, 0, 100, 100), (False, False, True, False))
        right = view((60, 0, 160, 100), (True, False, False, False))
        found = [Faces([[80, 20, 100, 80]], [0.95]), Faces([[20, 20, 70, 80]], [0.6])]
        faces = merge_views([left, right], found, 0.4)
        assert faces.boxes.tolist() == [[80, 20, 130, 80]]

    @pytest.mark.parametrize(("gap", "scores"), [(0.0, [0.6]), (7.5, [0.6]), (8.5, [0.95, 0.6])])
    @pytest.mark.parametrize("scale", [1, 2])
    def test_a_box_within_eight_pixels_of_a_cut_in_the_network_is_a_part(self, gap, scores, scale) -> None:
        region, size = (0, 0, 640 * scale, 640 * scale), 640
        left = View(region, fit(region[2], region[3], size), (False, False, True, False))
        right = View((300 * scale, 0, 940 * scale, 640 * scale), left.letterbox, (True, False, False, False))
        part = np.array([[560, 100, 640 - gap, 220]]) * scale
        whole = np.array([[560 - 300, 100, 760 - 300, 220]]) * scale
        faces = merge_views([left, right], [Faces(part, [0.95]), Faces(whole, [0.6])], 0.5)
        assert faces.scores.tolist() == pytest.approx(scores)

    def test_a_face_at_a_cut_that_nobody_else_shows_stays(self) -> None:
        left = view((0, 0, 100, 100), (False, False, True, False))
        faces = merge_views([left], [Faces([[80, 20, 100, 80], [1, 1, 30, 30]], [0.9, 0.8])], 0.4)
        assert len(faces) == 2

    def test_a_face_at_the_edge_of_the_image_is_no_part(self) -> None:
        whole = view((0, 0, 100, 100))
        found = [Faces([[80, 20, 100, 80]], [0.9]), Faces([[50, 20, 90, 80]], [0.6])]
        assert merge_views([whole, whole], found, 0.4).scores.tolist() == pytest.approx([0.9, 0.6])

    def test_of_two_views_of_one_part_the_better_score_stays(self) -> None:
        left = view((0, 0, 100, 100), (False, False, True, False))
        found = [Faces([[80, 20, 100, 80]], [0.8]), Faces([[81, 20, 100, 80]], [0.9])]
        assert merge_views([left, left], found, 0.4).scores.tolist() == pytest.approx([0.9])


class TestDetectors:
    def test_a_list_of_sizes_finds_what_each_finds(self, solvay: np.ndarray) -> None:
        """A close-up: its large face is found at 320, the small ones at 640."""
        single = {size: OnnxDetector(YUNET, input_size=size, score_thr=0.6).detect(solvay) for size in (320, 640)}
        both = OnnxDetector(YUNET, input_size=[320, 640], score_thr=0.6).detect(solvay)
        sides = np.sqrt(np.prod(single[320].boxes[:, 2:] - single[320].boxes[:, :2], axis=1)) * 320 / solvay.shape[1]
        for faces in (single[640], single[320][sides > 16]):
            assert (iou(faces.boxes, both.boxes).max(axis=1) > 0.4).all()
        assert np.array_equal(both.scores, -np.sort(-both.scores))
        assert (iou(both.boxes, both.boxes) - np.eye(len(both)) <= 0.4).all()

    def test_each_face_comes_with_the_angle_that_finds_it_again(self, solvay: np.ndarray) -> None:
        """The photograph upright, and below it turned by 90 degrees."""
        small = cv2.resize(solvay, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA)
        image = np.full((small.shape[0] + small.shape[1], small.shape[1], 3), 127, np.uint8)
        image[: small.shape[0]] = small
        image[small.shape[0] :, : small.shape[0]] = np.rot90(small)
        detector = OnnxDetector(YUNET, score_thr=0.7, input_size=1280, rotations=(0, 270))
        faces, degrees = detector.detect_with_degrees(image)
        assert faces == detector.detect(image)
        upright = faces.boxes[:, 1] < small.shape[0]
        assert min(upright.sum(), (~upright).sum()) >= 20
        assert (degrees[upright] == 0).mean() > 0.9
        assert (degrees[~upright] == 270).mean() > 0.9

    def test_faces_of_a_single_view_have_its_angle_and_an_empty_image_has_none(self, solvay: np.ndarray) -> None:
        faces, degrees = OnnxDetector(YUNET, rotations=-0.0, max_faces=3).detect_with_degrees(solvay)
        assert (len(faces), degrees.tolist()) == (3, [0, 0, 0])
        turned = np.ascontiguousarray(np.rot90(solvay))
        for rotations in (-90, "auto"):
            detector = OnnxDetector(YUNET, rotations=rotations, score_thr=0.7)
            faces, degrees = detector.detect_with_degrees(turned)
            again = detector.replace(rotations=tuple(np.unique(degrees))).detect(turned)
            assert len(faces) >= 28
            assert np.abs(degrees - 270).max() <= (0 if rotations == -90 else 22)
            assert (iou(faces.boxes, again.boxes).max(axis=1) > 0.4).all()
        assert OnnxDetector(YUNET, rotations="auto").detect_with_degrees(np.zeros((64, 64, 3), np.uint8))[1].shape == (
            0,
        )

    def test_tiles_find_tiny_faces_in_a_huge_image(self, solvay: np.ndarray) -> None:
        """The photograph at a tenth of the side of a 3000 x 2200 canvas: faces of some 10 pixels in the network."""
        small = cv2.resize(solvay, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA)
        canvas = np.full((4400, 6000, 3), 127, np.uint8)
        y, x = 2900, 3300
        canvas[y : y + small.shape[0], x : x + small.shape[1]] = small
        expected = OnnxDetector(YUNET, input_size="original", score_thr=0.7).detect(small)
        alone = OnnxDetector(YUNET, score_thr=0.7).detect(canvas)
        tiled = OnnxDetector(YUNET, score_thr=0.7, tiles=640).detect(canvas)
        assert len(expected) >= 27
        assert len(alone) < 5
        agree = iou(expected.boxes + np.array([x, y, x, y]), tiled.boxes).max(axis=1) > 0.5
        assert agree.mean() >= 0.95
        assert len(tiled) <= len(expected) + 2

    def test_max_faces_gives_the_best(self, solvay: np.ndarray) -> None:
        every = OnnxDetector(YUNET).detect(solvay)
        best = OnnxDetector(YUNET, max_faces=3).detect(solvay)
        assert np.array_equal(best.boxes, every.boxes[:3])
        assert every.scores[:3].min() >= every.scores[3:].max()

    def test_a_batch_gives_each_image_its_own_faces_with_sizes_and_tiles(self, solvay: np.ndarray) -> None:
        detector = OnnxDetector(YUNET, input_size=[320, "auto"], tiles=(700, 600))
        images = [solvay[:900, :1300], solvay, np.zeros((50, 40, 3), np.uint8)]
        for together, image in zip(detector.detect_batch(images), images, strict=True):
            alone = detector.detect(image)
            assert np.allclose(together.boxes, alone.boxes, atol=1e-2)
            assert np.allclose(together.scores, alone.scores, atol=1e-4)

    def test_a_number_of_faces_under_one_and_no_sizes_are_refused(self) -> None:
        with pytest.raises(FaceDetError, match="max_faces must be a whole number from 1 on or None, not 0"):
            OnnxDetector(YUNET, max_faces=0)
        with pytest.raises(FaceDetError, match="max_faces must be a whole number"):
            OnnxDetector(YUNET, max_faces=2.5)
        with pytest.raises(FaceDetError, match="empty list"):
            OnnxDetector(YUNET, input_size=[])
