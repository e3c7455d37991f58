"""Files that decode inside: recognized by their outputs, and the same faces as from raw heads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from facedet_mm.detectors import build_detector
from facedet_mm.detectors.end2end import check_fixed_thresholds, find_decoded_head, select_faces
from facedet_mm.detectors.preprocess import Letterbox, Normalization, fit, make_blob, make_pixels, padding_of
from facedet_mm.errors import ModelError
from facedet_mm.io.images import read_image
from facedet_mm.zoo import asset_path

BOXES, SCORES, LANDMARKS, COUNT = (None, None, 4), (None, None), (None, None, 5, 2), (None,)
BOX = Letterbox(source=(200, 100), resized=(100, 50), canvas=(100, 96))


def head(*shapes):
    return find_decoded_head(shapes, {})


def test_outputs_are_told_from_their_axes_in_any_order():
    found = head(COUNT, LANDMARKS, SCORES, BOXES)
    assert (found.boxes, found.scores, found.landmarks) == (3, 2, 1)
    assert head(BOXES, SCORES).landmarks is None
    assert found.normalization == Normalization((127.5,) * 3, (128,) * 3, to_rgb=True)


@pytest.mark.parametrize(
    "shapes",
    [
        [(None, 1), (None, 4)] * 3,  # raw heads without a batch axis
        [(None, None, 1), (None, None, 4), (None, None, 10)] * 3,  # and with one
        [SCORES, LANDMARKS],
        [BOXES, BOXES, SCORES],
        [BOXES, SCORES, (None, None, 7)],
    ],
)
def test_other_outputs_are_not_taken_for_decoded_ones(shapes):
    assert head(*shapes) is None


def test_faces_are_selected_clipped_and_brought_back_to_the_image():
    boxes = np.array([[10, 10, 30, 30], [10, 10, 30, 31], [90, 40, 120, 70], [10, 60, 20, 70], [50, 5, 60, 15]], "f")
    scores = np.array([0.8, 0.9, 0.7, 0.95, 0.5], "f")
    points = np.tile(boxes[:, None, :2] + 1, (1, 5, 1))
    faces = select_faces(head(BOXES, SCORES, LANDMARKS), [boxes, scores, points], BOX, 0.5, 0.4)
    # the first is a duplicate, the fourth lies in the padding, the last is not above the threshold
    assert faces.scores.tolist() == pytest.approx([0.9, 0.7])
    assert faces.boxes.tolist() == [[20, 20, 60, 62], [180, 80, 200, 100]]
    assert faces.landmarks[0].tolist() == [[22, 22]] * 5


def test_values_that_are_no_numbers_give_no_face():
    boxes = np.array([[10, 10, np.nan, 30], [10, 10, 30, 30], [50, 10, 70, 30]], "f")
    points = np.ones((3, 5, 2), "f")
    points[2, 0, 0] = np.inf
    outputs = [boxes, np.array([0.9, np.nan, 0.9], "f"), points]
    assert len(select_faces(head(BOXES, SCORES, LANDMARKS), outputs, BOX, 0.5, 0.4)) == 0


def test_thresholds_that_a_file_can_not_follow_are_an_error():
    inside = {"score_thr": 0.5, "iou_thr": 0.4}
    check_fixed_thresholds("model.engine", inside, 0.6, 0.3)
    for score_thr, iou_thr in ((0.02, 0.4), (0.5, 0.45)):
        with pytest.raises(ModelError, match=r"model\.engine: the NMS inside keeps scores above 0\.5"):
            check_fixed_thresholds("model.engine", inside, score_thr, iou_thr)
    check_fixed_thresholds("decoded.onnx", {}, 0.0, 1.0)


def test_pixels_are_the_resized_image_with_the_mean_around():
    image = read_image(asset_path("solvay_1927.jpg"))
    normalization = Normalization((100.2, 127.5, 30.0), (1, 2, 3), to_rgb=True)
    padding = padding_of(normalization)
    assert padding == (30, 128, 100)  # BGR
    boxes = [fit(image.shape[1], image.shape[0], (96, 128)), fit(image.shape[0], image.shape[0], (96, 128))]
    views = [image, image[:, : image.shape[0]]]
    pixels = make_pixels(views, boxes, padding)
    columns, rows = boxes[0].resized
    assert (pixels[0, rows:] == padding).all()
    assert (pixels[0, :rows, columns:] == padding).all()
    plain = make_blob(views, boxes, Normalization((0, 0, 0), (1, 1, 1), to_rgb=False))
    assert np.array_equal(pixels[0, :rows, :columns], plain[0, :, :rows, :columns].transpose(1, 2, 0))
    blob = make_blob(views, boxes, Normalization(padding, (1, 1, 1), to_rgb=False)) + np.reshape(padding, (3, 1, 1))
    assert np.array_equal(blob.transpose(0, 2, 3, 1), pixels)


def test_damaged_metadata_are_named(tmp_path: Path) -> None:
    model = onnx.load(asset_path("yunet_n_dynamic.onnx"))
    model.metadata_props.add(key="facedet_mm", value='{"layout": ')
    onnx.save(model, tmp_path / "bad.onnx")
    with pytest.raises(ModelError, match=r"bad\.onnx.*metadata"):
        build_detector(tmp_path / "bad.onnx")
