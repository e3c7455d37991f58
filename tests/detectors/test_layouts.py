"""Files whose heads are maps or come before the sigmoid: the faces of the file they were made from, or an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import exported_files
import numpy as np
import onnx
import pytest
from exported_files import as_maps, tiny_head, without_sigmoid
from onnx import ModelProto, helper

from facedet_mm.detectors.layouts import before_sigmoid, rows_of_maps
from facedet_mm.detectors.onnx import OnnxDetector
from facedet_mm.detectors.openvino import OpenVinoDetector
from facedet_mm.errors import ModelError
from facedet_mm.io.images import read_image
from facedet_mm.structures import Faces
from facedet_mm.zoo import asset_path

YUNET = asset_path("yunet_n_dynamic.onnx")
BOTH = pytest.mark.parametrize("kind", [OnnxDetector, OpenVinoDetector])


@pytest.fixture(scope="module")
def solvay() -> np.ndarray:
    return read_image(asset_path("solvay_1927.jpg"))


def opened(kind: Any, model: ModelProto | Path, folder: Path, **options: Any) -> Any:
    if isinstance(model, Path):
        return exported_files.opened(kind, model, **options)
    onnx.save(model, folder / "file.onnx")
    return exported_files.opened(kind, folder / "file.onnx", **options)


def assert_same(faces: Faces, expected: Faces, at_least: int = 1) -> None:
    assert len(faces) == len(expected) >= at_least
    np.testing.assert_allclose(faces.scores, expected.scores, atol=2e-6)
    np.testing.assert_allclose(faces.boxes, expected.boxes, atol=5e-3)
    assert (faces.landmarks is None) == (expected.landmarks is None)
    if expected.landmarks is not None:
        np.testing.assert_allclose(faces.landmarks, expected.landmarks, atol=5e-3)


@BOTH
@pytest.mark.parametrize("sigmoid", [True, False], ids=["after", "before"])
@pytest.mark.parametrize("channels_last", [False, True], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("name", ["", "weights/scrfd_500m_bnkps.onnx", "weights/scrfd_500m.onnx"])
def test_maps_in_any_order_give_the_faces_of_rows(
    kind: Any,
    sigmoid: bool,
    channels_last: bool,
    name: str,
    solvay: np.ndarray,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    path = request.getfixturevalue("data") / name if name else YUNET
    model = onnx.load(path)
    order = np.random.default_rng(len(name) + 2 * sigmoid).permutation(len(model.graph.output)).tolist()
    maps = as_maps(model, sigmoid=sigmoid, channels_last=channels_last, order=order)
    expected = opened(kind, path, tmp_path, input_size=(640, 480)).detect(solvay)
    detector = opened(kind, maps, tmp_path, input_size=(640, 480))
    assert detector.head.logits != sigmoid
    assert_same(detector.detect(solvay), expected, at_least=20)
    for faces, image in zip(detector.detect_batch([solvay, solvay[:, 500:]]), (solvay, solvay[:, 500:]), strict=True):
        assert_same(faces, detector.detect(image), at_least=20)


@BOTH
@pytest.mark.parametrize("anchors", [1, 2])
@pytest.mark.parametrize("landmarks", [True, False])
def test_maps_of_one_and_two_anchors_give_the_faces_of_rows(
    kind: Any, anchors: int, landmarks: bool, solvay: np.ndarray, tmp_path: Path
) -> None:
    rows, maps = (
        opened(
            kind, tiny_head(anchors, landmarks, maps), tmp_path, input_size=(160, 96), score_thr=0.1, iou_thr=0.99
        ).detect(solvay)
        for maps in (False, True)
    )
    assert_same(maps, rows, at_least=10)


@BOTH
def test_maps_for_several_images_at_a_time(kind: Any, solvay: np.ndarray, tmp_path: Path, request: Any) -> None:
    request.getfixturevalue("monkeypatch").setattr("facedet_mm.detectors.rewriting._KEPT", (("batch",),))
    model = as_maps(onnx.load(YUNET), sigmoid=False)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 3
    detector = opened(kind, model, tmp_path, input_size=320)
    assert detector.network.batch == 3
    images = [solvay[:, 100 * i :] for i in range(4)]
    expected = opened(kind, YUNET, tmp_path, input_size=320)
    for faces, image in zip(detector.detect_batch(images), images, strict=True):
        assert_same(faces, expected.detect(image), at_least=10)


@BOTH
@pytest.mark.parametrize("name", ["", "weights/scrfd_500m_bnkps.onnx"])
def test_rows_before_the_sigmoid_are_known_by_their_values(
    kind: Any, name: str, solvay: np.ndarray, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue("data") / name if name else YUNET
    faces = opened(kind, without_sigmoid(onnx.load(path)), tmp_path, input_size="auto").detect(solvay)
    assert_same(faces, opened(kind, path, tmp_path, input_size="auto").detect(solvay), at_least=20)


def odd_scores(last: str) -> ModelProto:
    """A network whose scores are 0.7 everywhere before the operators ``last``."""
    model = tiny_head(2, landmarks=True, maps=True)
    for tensor in model.graph.initializer:
        if "_1." in tensor.name:
            value = 0.0 if tensor.name.endswith("k") else 0.7
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.full([*tensor.dims], value, np.float32), tensor.name))
    for output in model.graph.output:
        if "_1." in output.name and last:
            model.graph.node.append(helper.make_node(last, [output.name], [f"{output.name}.last"]))
            output.name = f"{output.name}.last"
    return model


@BOTH
@pytest.mark.parametrize(("last", "logits"), [("", True), ("Identity", True), ("Sigmoid", False)])
def test_where_values_do_not_tell_the_graph_does(kind: Any, last: str, logits: bool, tmp_path: Path) -> None:
    assert opened(kind, odd_scores(last), tmp_path).head.logits == logits


@BOTH
def test_scores_that_nothing_tells_about_are_an_error(kind: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"file\.onnx .* scores are 0\.7 to 0\.7 on noise.*with the sigmoid"):
        opened(kind, odd_scores("Relu"), tmp_path)


@BOTH
def test_maps_of_another_head_are_an_error(kind: Any, tmp_path: Path) -> None:
    model = tiny_head(2, landmarks=True, maps=True)
    kept = [output for output in model.graph.output if "_4" not in output.name]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    with pytest.raises(ModelError, match=r"file\.onnx .* no maps of A scores, 4 A box values and 10 A landmark values"):
        opened(kind, model, tmp_path)


def test_maps_and_rows_together_are_an_error(tmp_path: Path) -> None:
    model = as_maps(onnx.load(YUNET), sigmoid=True)
    model.graph.output.append(helper.make_tensor_value_info("cls_8", 1, [None] * 3))
    with pytest.raises(ModelError, match="no maps of A scores"):
        opened(OnnxDetector, model, tmp_path)


class TestReadingShapes:
    def test_the_order_follows_from_all_shapes_together(self) -> None:
        levels = [(20, 20), (10, 10), (5, 5)]
        first = [(1, count, *cells) for cells in levels for count in (20, 2, 8)]
        last = [(shape[0], *shape[2:], shape[1]) for shape in first]
        rows = [(1, cells[0] * cells[1] * 2, values) for cells in levels for values in (10, 1, 4)]
        assert rows_of_maps(first, 160, 160)[::2] == rows_of_maps(last, 160, 160)[::2] == (rows, [8, 16, 32])
        assert [place.values for place in rows_of_maps(first, 160, 160)[1]] == [10, 1, 4] * 3
        assert rows_of_maps(last, 160, 160)[1] == ()

    @pytest.mark.parametrize(
        "shapes",
        [
            [(1, 2, 8, 8), (1, 8, 8, 9)],
            [(1, 2, 8, 8), (1, 6, 8, 8)],
            [(1, 2, 8, 8), (1, 8, 8, 8), (1, 1, 4, 4), (1, 4, 4, 4)],
            [(1, 2, 8, 8), (1, 8, 8, 8), (1, 8, 8, 8)],
            [(1, 2, 9, 9), (1, 8, 9, 9)],
            [(1, 2, 8, 8), (1, 8, 64)],
            [(1, 0, 8, 8), (1, 0, 8, 8)],
        ],
    )
    def test_others_are_refused(self, shapes: list[tuple[int, ...]]) -> None:
        with pytest.raises(ValueError, match="no maps"):
            rows_of_maps(shapes, 64, 64)


def unknown() -> None:
    """A graph that tells nothing."""


class TestSigmoid:
    def test_values_beyond_0_and_1_come_before_it(self) -> None:
        assert before_sigmoid([np.array([-4.0, -2]), np.array([0.5, 0.1])], 1, unknown)
        assert not before_sigmoid([np.array([0.0, 0.02]), np.array([0.9])], 1, unknown)
        assert not before_sigmoid([np.array([-0.004, 1.004, 0.1])], 1, unknown)  # the rounding of INT8

    def test_a_factor_of_two_may_be_large_everywhere(self) -> None:
        assert not before_sigmoid([np.array([0.9, 0.8]), np.array([0.01, 0.1])], 2, unknown)
        assert before_sigmoid([np.array([3.0, 2]), np.array([-5.0, -2])], 2, unknown)

    @pytest.mark.parametrize(
        ("scores", "factors"),
        [([[0.6, 0.7]], 1), ([[0.0, 0.9, 0.8]], 1), ([[0.1, 0.2], [-4.0, -3]], 2), ([[0.6, 0.7], [0.9, 0.9]], 2)],
    )
    def test_others_are_told_by_the_graph_or_not_at_all(self, scores: list[list[float]], factors: int) -> None:
        arrays = [np.array(part) for part in scores]
        assert before_sigmoid(arrays, factors, lambda: False)
        assert not before_sigmoid(arrays, factors, lambda: True)
        with pytest.raises(ValueError, match="export the file with the sigmoid inside"):
            before_sigmoid(arrays, factors, unknown)
