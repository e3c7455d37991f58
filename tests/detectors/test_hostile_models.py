"""Model files from strangers: refused in one line that names the file, or run; never a wrong answer in silence."""

from __future__ import annotations

import json
import math
import multiprocessing
import pickle
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from facedet_mm import build_detector
from facedet_mm.detectors import DetectorOptions
from facedet_mm.detectors.metadata import read_metadata
from facedet_mm.detectors.onnx import OnnxDetector
from facedet_mm.detectors.rewriting import Rewritten, rewrite
from facedet_mm.errors import FaceDetError, ModelError
from facedet_mm.io.images import read_image
from facedet_mm.zoo import asset_path

YUNET = asset_path("yunet_n_dynamic.onnx")
SOLVAY = asset_path("solvay_1927.jpg")
IMAGE = np.random.default_rng(0).integers(0, 255, (70, 90, 3), np.uint8)


def yunet() -> ModelProto:
    return onnx.load(YUNET)


def save(model: ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def with_metadata(path: Path, text: str) -> Path:
    model = yunet()
    model.metadata_props.add(key="facedet_mm", value=text)
    return save(model, path)


class TestMetadata:
    @pytest.mark.parametrize(
        ("entries", "key"),
        [
            ({"strides": [-8, 16, 32]}, "strides"),
            ({"strides": [0, 16, 32]}, "strides"),
            ({"strides": [8.5, 16, 32]}, "strides"),
            ({"strides": [32, 16, 8]}, "strides"),
            ({"strides": [True, 16, 32]}, "strides"),
            ({"strides": 8}, "strides"),
            ({"strides": [8, 16, 10**30]}, "strides"),
            ({"strides": []}, "strides"),
            ({"mean": [1e308] * 3, "std": [1] * 3, "to_rgb": False}, "mean"),
            ({"mean": [math.nan] * 3, "std": [1] * 3, "to_rgb": False}, "mean"),
            ({"mean": "abc", "std": [1] * 3, "to_rgb": False}, "mean"),
            ({"mean": [0, 0], "std": [1] * 3, "to_rgb": False}, "mean"),
            ({"mean": [10**400] * 3, "std": [1] * 3, "to_rgb": False}, "mean"),
            ({"mean": [0] * 3, "std": [0, 1, 1], "to_rgb": False}, "std"),
            ({"mean": [0] * 3, "std": [-1] * 3, "to_rgb": False}, "std"),
            ({"mean": [0] * 3, "std": [math.inf] * 3, "to_rgb": False}, "std"),
            ({"mean": [0] * 3, "std": [1] * 3, "to_rgb": "no"}, "to_rgb"),
            ({"std": [58] * 3}, "it has std, but mean, std and to_rgb belong together"),
            ({"std": [58] * 3, "to_rgb": True}, "it has std and to_rgb, but"),
            ({"mean": [0] * 3}, "mean"),
            ({"score_thr": math.nan}, "score_thr"),
            ({"iou_thr": "high"}, "iou_thr"),
            ({"layout": ["yunet"]}, "layout"),
        ],
    )
    def test_entries_that_lie_are_refused_by_file_and_key(
        self, entries: dict[str, Any], key: str, tmp_path: Path
    ) -> None:
        path = with_metadata(tmp_path / "lies.onnx", json.dumps(entries))
        with pytest.raises(ModelError, match=rf"lies\.onnx .*metadata.*{key}") as caught:
            OnnxDetector(path)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500

    @pytest.mark.parametrize("text", ["[" * 100_000, "3", "[]", "{", '{"strides": ' + "9" * 5000 + "}", " " * 99_999])
    def test_texts_that_are_no_object_are_refused(self, text: str, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"odd\.onnx .*metadata"):
            OnnxDetector(with_metadata(tmp_path / "odd.onnx", text))

    def test_numbers_of_thousands_of_digits_are_not_printed(self) -> None:
        with pytest.raises(ValueError, match="'strides' is") as caught:
            read_metadata(json.dumps({"strides": 10**4000}))
        assert len(str(caught.value)) < 200


class TestNumbers:
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
    def test_weights_that_are_no_numbers_are_refused_where_they_are_loaded(self, value: float, tmp_path: Path) -> None:
        for kind in ("float", "float16", "node"):
            model = yunet()
            tensor = next(t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT and len(t.dims) == 4)
            values = np.array(numpy_helper.to_array(tensor))
            values.flat[3] = value
            bad = numpy_helper.from_array(values.astype(np.float16) if kind == "float16" else values, tensor.name)
            model.graph.initializer.remove(tensor)
            if kind == "node":
                model.graph.node.insert(0, helper.make_node("Constant", [], [tensor.name], value=bad))
            else:
                model.graph.initializer.append(bad)
            with pytest.raises(ModelError, match=rf"{kind}\.onnx is damaged: its weights '{tensor.name}'"):
                OnnxDetector(save(model, tmp_path / f"{kind}.onnx"))

    def test_infinite_limits_of_a_clip_are_no_fault(self, tmp_path: Path) -> None:
        model = yunet()
        first = model.graph.node[0]
        inner, first.output[0] = first.output[0], "before"
        model.graph.initializer.extend(
            numpy_helper.from_array(np.array(v, np.float32), n) for n, v in (("low", -math.inf), ("high", math.inf))
        )
        model.graph.node.insert(1, helper.make_node("Clip", ["before", "low", "high"], [inner]))
        detector = OnnxDetector(save(model, tmp_path / "clip.onnx"), score_thr=0.6)
        assert len(detector.detect(SOLVAY)) == 29

    @pytest.mark.parametrize("rewritten", [True, False])
    def test_a_network_that_gives_nan_is_an_error_that_names_it(
        self, rewritten: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Bright pixels overflow: the file opens, and the blank input of the trial gives numbers."""
        model = yunet()
        first = model.graph.node[0]
        first.input[0] = "square"
        image = model.graph.input[0].name
        model.graph.initializer.append(numpy_helper.from_array(np.array(1e37, np.float32), "huge"))
        model.graph.node.insert(0, helper.make_node("Mul", [image, "huge"], ["large"]))
        model.graph.node.insert(1, helper.make_node("Sub", ["large", "large"], ["square"]))
        if not rewritten:
            monkeypatch.setattr("facedet_mm.detectors.rewriting.rewrite", lambda *_, **__: None)
        detector = OnnxDetector(save(model, tmp_path / "overflow.onnx"))
        assert len(detector.detect(np.zeros((64, 64, 3), np.uint8))) == 0
        with pytest.raises(
            ModelError, match=r"overflow\.onnx gives values that are not numbers \(NaN\) on a 640 x 640"
        ):
            detector.detect(SOLVAY)

    @pytest.mark.parametrize("value", [1e12, 1e30])
    def test_a_damaged_weight_does_not_make_one_face_over_everything(self, value: float, tmp_path: Path) -> None:
        model = yunet()
        tensor = next(t for t in model.graph.initializer if t.data_type == TensorProto.FLOAT and len(t.dims) == 4)
        values = np.array(numpy_helper.to_array(tensor))
        values.flat[0] = value
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
        path = save(model, tmp_path / "large.onnx")
        with pytest.raises(ModelError, match=r"large\.onnx gives values far larger than any image on a "):
            OnnxDetector(path).detect(SOLVAY)

    @pytest.mark.parametrize(("value", "told"), [(-1, "not numbers"), (0, "far larger")])
    def test_decoded_boxes_that_are_no_numbers_are_an_error(self, value: float, told: str, tmp_path: Path) -> None:
        """The logarithms of -1 and of 0."""
        boxes, scores = np.full((1, 2, 4), value, np.float32), np.array([[0.9, 0.8]], np.float32)
        image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, "height", "width"])
        outputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, array.shape)
            for name, array in (("boxes", boxes), ("scores", scores))
        ]
        nodes = [
            helper.make_node("ReduceMax", ["image"], ["level"], keepdims=0),
            helper.make_node("Constant", [], ["odd"], value=numpy_helper.from_array(boxes)),
            helper.make_node("Log", ["odd"], ["logarithm"]),
            helper.make_node("Add", ["logarithm", "level"], ["boxes"]),
            helper.make_node("Constant", [], ["scores"], value=numpy_helper.from_array(scores)),
        ]
        graph = helper.make_graph(nodes, "decoded", [image], outputs)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        path = save(model, tmp_path / "decoded.onnx")
        with pytest.raises(ModelError, match=rf"decoded\.onnx gives values .*{told}"):
            OnnxDetector(path).detect(SOLVAY)

    def test_a_network_whose_outputs_stop_fitting_is_an_error(self, tmp_path: Path) -> None:
        """It gives at most 2000 rows, enough for the input of the trial."""
        model = yunet()
        graph = model.graph
        output = graph.output[0].name
        maker = next(node for node in graph.node if output in node.output)
        maker.output[0] = "whole"
        for name, value in (("zero", 0), ("limit", 2000)):
            graph.initializer.append(numpy_helper.from_array(np.array([value], np.int64), name))
        graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "axis"))
        graph.node.append(helper.make_node("Slice", ["whole", "zero", "limit", "axis"], [output]))
        detector = OnnxDetector(save(model, tmp_path / "short.onnx"), input_size=640)
        with pytest.raises(ModelError, match=r"short\.onnx gives outputs of shape .* on a 640 x 640 input"):
            detector.detect(SOLVAY)


def endless() -> ModelProto:
    """A network whose first step counts to 10^12."""
    model = yunet()
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["goes_on"]),
            helper.make_node("Add", ["sum_in", "one"], ["sum_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum_in", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum_out", TensorProto.FLOAT, [1]),
        ],
        [numpy_helper.from_array(np.ones(1, np.float32), "one")],
    )
    first, image = model.graph.node[0], model.graph.input[0].name
    first.input[0] = "sum"
    model.graph.initializer.extend(
        [numpy_helper.from_array(np.array(10**12), "trips"), numpy_helper.from_array(np.zeros(1, np.float32), "start")]
    )
    model.graph.node.insert(0, helper.make_node("Loop", ["trips", "", "start"], ["counted"], body=body))
    model.graph.node.insert(1, helper.make_node("Add", [image, "counted"], ["sum"]))
    return model


def inside_a_branch(model: ModelProto) -> ModelProto:
    loop = model.graph.node[0]
    branch = helper.make_graph([loop], "branch", [], [helper.make_tensor_value_info("counted", TensorProto.FLOAT, [1])])
    model.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    choice = helper.make_node("If", ["yes"], ["counted"], then_branch=branch, else_branch=branch)
    model.graph.node.remove(loop)
    model.graph.node.insert(0, choice)
    return model


def inside_a_function(model: ModelProto) -> ModelProto:
    loop = model.graph.node[0]
    opsets = [helper.make_opsetid("", 11)]
    function = helper.make_function("own", "Count", ["trips", "start"], ["counted"], [loop], opsets)
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.graph.node.remove(loop)
    model.graph.node.insert(0, helper.make_node("Count", ["trips", "start"], ["counted"], domain="own"))
    return model


@pytest.mark.parametrize("place", [lambda model: model, inside_a_branch, inside_a_function])
@pytest.mark.parametrize("device", [None, "openvino"])
def test_a_file_with_an_endless_loop_is_refused_before_it_runs(
    place: Callable[[ModelProto], ModelProto], device: str | None, tmp_path: Path
) -> None:
    if device:
        pytest.importorskip("openvino", reason="OpenVINO is not installed")
    path = save(place(endless()), tmp_path / "endless.onnx")
    code = f"from facedet_mm import build_detector; build_detector({str(path)!r}, device={device!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert "endless.onnx has a loop (Loop" in done.stderr


@pytest.mark.parametrize("device", [None, "openvino"])
def test_names_that_are_not_text_are_an_error_that_names_the_file(device: str | None, tmp_path: Path) -> None:
    if device:
        pytest.importorskip("openvino", reason="OpenVINO is not installed")
    path = with_metadata(tmp_path / "latin.onnx", '{"name": "#####"}')
    path.write_bytes(path.read_bytes().replace(b"#####", b"\xff\xfe\xfb\xff\xfe"))
    with pytest.raises(ModelError, match=r"latin\.onnx"):
        build_detector(path, device=device)


def test_a_border_of_a_million_pixels_is_refused_before_it_takes_all_memory(tmp_path: Path) -> None:
    for pixels, refused in ((1 << 20, True), (1, False)):
        model = yunet()
        node = next(node for node in model.graph.node if node.op_type == "Conv")
        pads = next(attribute for attribute in node.attribute if attribute.name == "pads")
        pads.ints[:] = [1, pixels, 1, 1]
        path = save(model, tmp_path / "wide.onnx")
        if refused:
            with pytest.raises(ModelError, match=r"wide\.onnx is damaged: Conv .* has pads \[1, 1048576, 1, 1\]"):
                build_detector(path)
        else:
            build_detector(path)


@pytest.mark.parametrize("fault", ["places", "weights", "input", "open"])
def test_a_wrong_rewriting_is_found_and_the_file_runs_as_it_is(
    fault: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    right = rewrite(YUNET, may_interleave=True)
    assert right is not None
    places, content, to_rgb = list(right.places), right.content, right.to_rgb
    if fault == "places":
        alike = [i for i, place in enumerate(places) if place.values == 1][:2]
        places[alike[0]], places[alike[1]] = places[alike[1]], places[alike[0]]
    elif fault == "input":
        to_rgb = not to_rgb
    elif fault == "weights":
        model = onnx.load_from_string(content)
        tensor = next(t for t in model.graph.initializer if t.name.endswith("/bias"))
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + np.float32(0.5), tensor.name))
        content = model.SerializeToString()
    else:
        content = content[: len(content) // 2]
    wrong = Rewritten(content, tuple(places), right.interleaved, to_rgb)
    monkeypatch.setattr("facedet_mm.detectors.rewriting.rewrite", lambda *_, **__: wrong)
    detector = OnnxDetector(YUNET, score_thr=0.6)
    assert len(detector.detect(SOLVAY)) == 29
    (record,) = caplog.records
    assert record.getMessage().startswith(f"{YUNET}: running the file as it is")


def test_types_that_a_runtime_would_believe_are_checked_before_openvino_sees_them(tmp_path: Path) -> None:
    """OpenVINO writes beyond its memory for an output that claims to be of another type, and may crash."""
    openvino = pytest.importorskip("facedet_mm.detectors.openvino", reason="OpenVINO is not installed")
    model = yunet()
    inner = next(node.output[0] for node in model.graph.node if node.op_type == "Relu")
    model.graph.output.append(helper.make_tensor_value_info(inner, TensorProto.INT64, None))
    with pytest.raises(ModelError, match=r"liar\.onnx is damaged: .*int64"):
        openvino.OpenVinoDetector(save(model, tmp_path / "liar.onnx"))


def test_names_that_are_no_text_are_an_error_of_the_file(tmp_path: Path) -> None:
    kinds = [OnnxDetector]
    openvino = pytest.importorskip("facedet_mm.detectors.openvino", reason="OpenVINO is not installed")
    kinds.append(openvino.OpenVinoDetector)
    model = yunet()
    model.graph.node[0].op_type = "QQQQ"
    model.graph.node[1].name = "NNNN"
    model.metadata_props.add(key="facedet_mm", value='{"name": "ZZZZ"}')
    plain = model.SerializeToString()
    for word in (b"QQQQ", b"ZZZZ", b"NNNN", model.graph.input[0].name.encode(), model.graph.output[0].name.encode()):
        path = tmp_path / "latin.onnx"
        path.write_bytes(plain.replace(word, b"\xe9" * len(word)))
        for kind in kinds:
            with pytest.raises(ModelError, match=r"latin\.onnx"):
                kind(path)


class TestWorkers:
    def test_a_detector_survives_pickling(self) -> None:
        detector = build_detector(score_thr=0.6, input_size=[320, 640], threads=1)
        again = pickle.loads(pickle.dumps(detector))
        assert again.options == detector.options
        assert np.array_equal(again.detect(SOLVAY).boxes, detector.detect(SOLVAY).boxes)
        changed = pickle.loads(pickle.dumps(detector.replace(score_thr=0.9)))
        assert changed.options.score_thr == 0.9

    def test_a_spawned_worker_gets_one(self) -> None:
        detector = build_detector(score_thr=0.6, threads=1)
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            assert len(pool.apply(detector.detect, (SOLVAY,))) == 29

    def test_openvino_detectors_travel_too(self) -> None:
        openvino = pytest.importorskip("facedet_mm.detectors.openvino", reason="OpenVINO is not installed")
        detector = openvino.OpenVinoDetector(YUNET, score_thr=0.6, precision="fp32")
        again = pickle.loads(pickle.dumps(detector))
        assert (again.options, len(again.detect(SOLVAY))) == (detector.options, 29)

    def test_a_replaced_setting_still_opens_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        detector = build_detector()
        monkeypatch.setattr("facedet_mm.detectors.session._reopen", None)
        assert detector.replace(score_thr=0.9)._session is detector._session


@pytest.mark.parametrize(
    "options", [{"input_size": 10**9}, {"input_size": (10**5000, 32)}, {"threads": 10**20}, {"threads": math.inf}]
)
def test_settings_without_a_bound_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(FaceDetError, match=f"{next(iter(options))} .*(too large|from 1 to 1024)"):
        DetectorOptions(**options)


def mutate(model: ModelProto, r: random.Random) -> None:
    """Changes one thing about a file: shapes, types, names, numbers of outputs, operators, weights or metadata."""
    graph = model.graph
    node, value = r.choice(list(graph.node)), r.choice([*graph.output, *graph.input])
    sides = value.type.tensor_type.shape.dim
    kind = r.randrange(14)
    if kind == 0:
        odd = [None, True, -1, 1e308, math.nan, 10**30, "x", [], {}, [8], [-8, 16, 32], [1e308] * 3, ["a"] * 3]
        keys = r.sample(["layout", "strides", "mean", "std", "to_rgb", "score_thr"], 3)
        model.metadata_props.add(key="facedet_mm", value=json.dumps({key: r.choice(odd) for key in keys}))
    elif kind == 1 and sides:
        sides[r.randrange(len(sides))].dim_value = r.choice([0, -1, 1, 2, 3, 5, 10, 2**31, 2**62])
    elif kind == 2:
        sides.add().dim_value = r.choice([0, 1, 3, 4])
    elif kind == 3 and sides:
        del sides[r.randrange(len(sides))]
    elif kind == 4:
        value.type.tensor_type.elem_type = r.choice([0, 1, 2, 6, 7, 8, 9, 10, 11, 99])
    elif kind == 5:
        value.type.tensor_type.ClearField("shape")
    elif kind == 6:
        del graph.output[r.randrange(len(graph.output))]
    elif kind == 7:
        more = [graph.output[0], graph.input[0], helper.make_tensor_value_info(node.output[0], 1, None)]
        graph.output.append(r.choice(more))
    elif kind == 8:
        node.op_type = r.choice(["Relu", "Log", "NoSuch", "Shape", "Identity", "NonZero", "Flatten", "ArgMax"])
    elif kind == 9 and node.input:
        names = ["", "nowhere", *(name for other in graph.node for name in other.output)]
        node.input[r.randrange(len(node.input))] = r.choice(names)
    elif kind == 10:
        del graph.node[r.randrange(len(graph.node))]
    elif kind == 11:
        r.choice(list(graph.initializer)).dims[:] = r.choice([[], [0], [-1], [2**40], [1, 1]])
    elif kind == 12:
        model.opset_import[0].version = r.choice([0, -1, 1, 30, 99_999])
    elif node.attribute and node.attribute[0].ints:
        node.attribute[0].ints[0] = r.choice([0, -1, 3, 2**40])


@pytest.mark.slow
def test_a_hundred_and_fifty_odd_files_run_or_are_refused_by_name(tmp_path: Path) -> None:
    ends = {"run": 0, "refused": 0}
    image = read_image(SOLVAY)
    for seed in range(150):
        r, model, path = random.Random(seed), yunet(), tmp_path / f"{seed}.onnx"
        for _ in range(r.choice([1, 1, 2])):
            mutate(model, r)
        save(model, path)
        try:
            faces = OnnxDetector(path, threads=1, input_size=r.choice([64, 128]), score_thr=0.02).detect(
                image[:90, :70]
            )
        except FaceDetError as error:
            ends["refused"] += path.name in str(error)
        else:
            assert np.isfinite(faces.boxes).all(), seed
            ends["run"] += 1
    assert sum(ends.values()) == 150
    assert min(ends.values()) > 10, ends
