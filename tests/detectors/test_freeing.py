"""Files with an input of one size: other sizes work as in a file that never had one, or the file stays as it is."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from exported_files import as_maps, of_one_size, opened, tiny_head
from onnx import ModelProto, helper, numpy_helper

from facedet_mm.detectors.onnx import OnnxDetector
from facedet_mm.detectors.openvino import OpenVinoDetector
from facedet_mm.detectors.rewriting import rewrite
from facedet_mm.detectors.rewriting.freeing import free_axes
from facedet_mm.detectors.rewriting.proof import Rewritten, disproof
from facedet_mm.errors import ModelError
from facedet_mm.io.images import read_image
from facedet_mm.structures import Faces
from facedet_mm.zoo import asset_path

YUNET = asset_path("yunet_n_dynamic.onnx")
BOTH = pytest.mark.parametrize("kind", [OnnxDetector, OpenVinoDetector])
ALL = ("batch", "height", "width")


@pytest.fixture(scope="module")
def solvay() -> np.ndarray:
    return read_image(asset_path("solvay_1927.jpg"))


def saved(model: ModelProto, folder: Path) -> Path:
    onnx.save(model, folder / "fixed.onnx")
    return folder / "fixed.onnx"


def assert_same(faces: Faces, expected: Faces, at_least: int = 1) -> None:
    assert len(faces) == len(expected) >= at_least
    np.testing.assert_allclose(faces.scores, expected.scores, atol=1e-5)
    np.testing.assert_allclose(faces.boxes, expected.boxes, atol=1e-2)


@BOTH
@pytest.mark.parametrize("name", ["", "weights/scrfd_500m_bnkps.onnx", "weights/scrfd_500m.onnx"])
def test_other_sizes_find_what_the_free_file_finds(
    kind: Any,
    name: str,
    solvay: np.ndarray,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    request: pytest.FixtureRequest,
) -> None:
    path = request.getfixturevalue("data") / name if name else YUNET
    fixed = saved(of_one_size(onnx.load(path), 320, 256), tmp_path)
    one, free = opened(kind, fixed, input_size=(320, 256)), opened(kind, path, input_size=(320, 256))
    assert one.network.fixed_size is None
    for options in ({}, {"input_size": 640}, {"input_size": "auto"}, {"tiles": 1500, "input_size": "auto"}):
        faces, expected = (detector.replace(**options).detect(solvay) for detector in (one, free))
        assert_same(faces, expected, at_least=4)
    images = [solvay[:, 300 * i :] for i in range(4)]
    for faces, image in zip(one.detect_batch(images), images, strict=True):
        assert_same(faces, free.detect(image), at_least=4)
    assert one.network.batch is None
    assert not caplog.records


@BOTH
def test_the_published_files_of_one_size_take_others(kind: Any, data: Path, solvay: np.ndarray) -> None:
    for name, free in (
        ("weights/scrfd_500m_bnkps_640.onnx", "weights/scrfd_500m_bnkps.onnx"),
        ("yunet/yunet_n_640_640.onnx", "yunet/yunet_n_dynamic.onnx"),
    ):
        for size in (640, "auto", (960, 320), [320, 640]):
            faces, expected = (opened(kind, data / file, input_size=size).detect(solvay) for file in (name, free))
            assert_same(faces, expected, at_least=15)


@BOTH
def test_maps_of_one_size_take_others(kind: Any, solvay: np.ndarray, tmp_path: Path) -> None:
    maps = saved(of_one_size(as_maps(onnx.load(YUNET), sigmoid=True), 320, 320), tmp_path)
    for size in (320, "auto"):
        expected = opened(kind, YUNET, input_size=size).detect(solvay)
        assert_same(opened(kind, maps, input_size=size).detect(solvay), expected, at_least=10)


def test_pixels_of_one_size_take_others(solvay: np.ndarray, tmp_path: Path) -> None:
    model = onnx.load(YUNET)
    model.graph.node.insert(0, helper.make_node("Cast", ["pixels"], ["floats"], to=1))
    model.graph.node.insert(
        1, helper.make_node("Transpose", ["floats"], [model.graph.input[0].name], perm=[0, 3, 1, 2])
    )
    del model.graph.input[:]
    model.graph.input.append(helper.make_tensor_value_info("pixels", 2, [1, 320, 320, 3]))
    detector = OnnxDetector(saved(model, tmp_path), score_thr=0.5)
    assert_same(detector.detect(solvay), OnnxDetector(YUNET, score_thr=0.5).detect(solvay), at_least=29)


def bind_to_size(model: ModelProto, name: str) -> None:
    """Adds zeros of the shape of an output to it."""
    shape = [
        side.dim_value for side in next(o for o in model.graph.output if o.name == name).type.tensor_type.shape.dim
    ]
    node = next(node for node in model.graph.node if name in node.output)
    node.output[0] = f"{name}.before"
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(shape, np.float32), f"{name}.zeros"))
    model.graph.node.append(helper.make_node("Add", [f"{name}.before", f"{name}.zeros"], [name]))


class TestAFileThatNeedsItsSize:
    @BOTH
    def test_stays_as_it_is_without_a_word(
        self, kind: Any, solvay: np.ndarray, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        model = of_one_size(onnx.load(YUNET), 320, 320)
        bind_to_size(model, "bbox_16")
        path = saved(model, tmp_path)
        detector = opened(kind, path, input_size=320)
        assert detector.network.fixed_size == (320, 320)
        assert_same(detector.detect(solvay), opened(kind, YUNET, input_size=320).detect(solvay), at_least=10)
        assert not caplog.records
        with pytest.raises(ModelError, match=r"takes only 320 x 320 images; pass input_size=\(320, 320\)"):
            opened(kind, path, input_size=640)

    def test_may_still_be_rewritten(self, tmp_path: Path) -> None:
        model = of_one_size(onnx.load(YUNET), 320, 320)
        image = model.graph.input[0].name
        model.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 3, 320, 320), np.float32), "zeros"))
        for node in model.graph.node:
            node.input[:] = ["added" if name == image else name for name in node.input]
        model.graph.node.insert(0, helper.make_node("Add", [image, "zeros"], ["added"]))
        detector = OnnxDetector(saved(model, tmp_path), input_size=320)
        assert detector.network.fixed_size == (320, 320)
        assert detector._session.places

    def test_a_crop_is_found_out_by_a_wider_input(self, tmp_path: Path) -> None:
        model = of_one_size(onnx.load(YUNET), 320, 128)
        for name, values in (("start", [0, 0]), ("end", [128, 320]), ("axes", [2, 3])):
            model.graph.initializer.append(numpy_helper.from_array(np.array(values), name))
        for node in model.graph.node:
            node.input[:] = ["cropped" if name == model.graph.input[0].name else name for name in node.input]
        image = model.graph.input[0].name
        model.graph.node.insert(0, helper.make_node("Slice", [image, "start", "end", "axes"], ["cropped"]))
        path = saved(model, tmp_path)
        rewritten = rewrite(path, may_interleave=False)
        assert rewritten.freed == ALL
        assert "does not grow with the input" in disproof(path, rewritten)
        assert OnnxDetector(path, input_size=(320, 128)).network.fixed_size == (320, 128)


class TestBatches:
    def test_rows_that_mix_images_keep_one_image_at_a_time(self, tmp_path: Path) -> None:
        model = of_one_size(tiny_head(2, landmarks=True, maps=False), 96, 64)
        for tensor in model.graph.initializer:
            if tensor.name.endswith(".baked"):
                rows, values = numpy_helper.to_array(tensor)[1:]
                tensor.CopyFrom(numpy_helper.from_array(np.array([rows, values]), tensor.name))
        for output in model.graph.output:
            del output.type.tensor_type.shape.dim[0]
        path = saved(model, tmp_path)
        freed = rewrite(path, may_interleave=False)
        plain = onnx.load(path)
        assert free_axes(plain, ()) == ALL
        assert "no batch axis" in disproof(path, Rewritten(plain.SerializeToString(), (), False, freed=ALL))
        assert freed.freed == ALL
        detector = OnnxDetector(path, input_size=160)
        assert (detector.network.batch, detector.network.fixed_size) == (1, None)

    def test_images_that_see_each_other_stay_apart(self, tmp_path: Path) -> None:
        model = of_one_size(onnx.load(YUNET), 320, 320)
        image = model.graph.input[0].name
        for node in model.graph.node:
            node.input[:] = ["centered" if name == image else name for name in node.input]
        model.graph.node.insert(0, helper.make_node("ReduceMean", [image], ["mean"], axes=[0], keepdims=1))
        model.graph.node.insert(1, helper.make_node("Sub", [image, "mean"], ["off"]))
        model.graph.node.insert(2, helper.make_node("Add", ["off", image], ["centered"]))
        path = saved(model, tmp_path)
        assert "differs" in disproof(path, rewrite(path, may_interleave=False))
        detector = OnnxDetector(path, input_size=640)
        assert (detector.network.batch, detector.network.fixed_size) == (1, None)


class TestFreeing:
    def test_free_axes_and_those_to_keep_stay(self) -> None:
        model = onnx.load(YUNET)
        before = model.SerializeToString()
        assert free_axes(model, ()) == ()
        assert model.SerializeToString() == before
        model = of_one_size(model, 320, 256)
        assert free_axes(model, ("batch",)) == ("height", "width")
        assert [side.dim_value or side.dim_param for side in model.graph.input[0].type.tensor_type.shape.dim] == [
            1,
            3,
            "height",
            "width",
        ]
        onnx.checker.check_model(model, full_check=True)

    def test_a_graph_with_a_body_stays(self) -> None:
        model = of_one_size(onnx.load(YUNET), 320, 320)
        body = helper.make_graph([], "body", [], [])
        model.graph.node.append(helper.make_node("If", ["cls_8"], [], then_branch=body, else_branch=body))
        assert free_axes(model, ()) == ()

    def test_two_inputs_stay(self) -> None:
        model = of_one_size(onnx.load(YUNET), 320, 320)
        model.graph.input.append(helper.make_tensor_value_info("more", 1, [1, 3, 320, 320]))
        assert free_axes(model, ()) == ()


def test_a_freed_file_that_a_runtime_refuses_is_opened_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from facedet_mm.detectors import onnx as module

    path = saved(of_one_size(onnx.load(YUNET), 320, 320), tmp_path)
    real = module._open

    def refuse_free(path: Path, content: Any, *rest: Any) -> Any:
        session = real(path, content, *rest)
        if not isinstance(session.get_inputs()[0].shape[2], int):
            raise ModelError("free")
        return session

    monkeypatch.setattr(module, "_open", refuse_free)
    with caplog.at_level(logging.WARNING):
        detector = OnnxDetector(path, input_size=320)
    assert detector.network.fixed_size == (320, 320)
    assert detector._session.places
    assert not caplog.records
