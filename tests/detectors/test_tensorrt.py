"""TensorRT up to the GPU: with stand-ins that mirror the API, and the API itself where it is installed.

The stand-ins run engines in ONNX Runtime, so the faces that come out tell whether shapes, addresses and the order of
calls are right. What only a GPU can tell (speed, FP16 and INT8 kernels) is not tested here.
"""

from __future__ import annotations

import gc
import importlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from exported_files import as_maps, of_one_size
from fake_tensorrt import World

from facedet_mm.detectors import OnnxDetector, build_detector
from facedet_mm.detectors.onnx import OrtSession
from facedet_mm.errors import FaceDetError, MissingDependencyError, ModelError
from facedet_mm.io.images import read_image
from facedet_mm.structures import Faces
from facedet_mm.zoo import asset_path

YUNET = asset_path("yunet_n_dynamic.onnx")
OURS = ("facedet_mm.detectors.tensorrt", "facedet_mm.deploy.tensorrt")


@pytest.fixture(scope="module")
def solvay() -> np.ndarray:
    return read_image(asset_path("solvay_1927.jpg"))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[World]:
    """A machine with a GPU, both libraries and an empty cache."""
    world = World()
    monkeypatch.setenv("FACEDET_HOME", str(tmp_path / "home"))
    forget()
    for name, module in world.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    yield world
    forget()


def forget() -> None:
    """So that our modules are imported over the libraries of the next test."""
    for name in [name for name in sys.modules if name.startswith(OURS)]:
        del sys.modules[name]
    for parent in ("facedet_mm.detectors", "facedet_mm.deploy"):
        vars(sys.modules.get(parent, SimpleNamespace())).pop("tensorrt", None)


def ours(name: str = "") -> Any:
    return importlib.import_module(f"facedet_mm.detectors.tensorrt{name}")


def detector(path: Path = YUNET, **options: Any) -> Any:
    return ours().TensorRTDetector(path, **options)


def engines(tmp_path: Path) -> set[str]:
    """Names of the kept engines, none of another file's."""
    folder = tmp_path / "home" / "tensorrt"
    return {path.name for path in folder.glob("*.engine")} if folder.is_dir() else set()


def assert_same(faces: Faces, expected: Faces, scores: float = 1e-5, boxes: float = 1e-3) -> None:
    assert len(faces) == len(expected) > 20
    assert np.allclose(faces.scores, expected.scores, atol=scores)
    assert np.allclose(np.sort(faces.boxes, 0), np.sort(expected.boxes, 0), atol=boxes)


@pytest.mark.usefixtures("world")
class TestDetecting:
    @pytest.mark.parametrize("size", [640, "auto", [320, 640], (960, 640)])
    def test_gives_the_faces_of_onnx_runtime(self, world: World, solvay: np.ndarray, size: Any) -> None:
        faces = detector(precision="fp32", input_size=size).detect(solvay)
        assert_same(faces, OnnxDetector(YUNET, input_size=size).detect(solvay))
        assert world.builds == 1

    @pytest.mark.parametrize("sigmoid", [True, False])
    def test_reads_maps_after_and_before_the_sigmoid(self, sigmoid: bool, solvay: np.ndarray, tmp_path: Path) -> None:
        onnx.save(as_maps(onnx.load(YUNET), sigmoid=sigmoid), tmp_path / "maps.onnx")
        found = detector(tmp_path / "maps.onnx", precision="fp32", score_thr=0.76).detect(solvay)
        assert_same(found, OnnxDetector(YUNET).detect(solvay))

    def test_half_floats_change_scores_in_the_fourth_digit(self, solvay: np.ndarray) -> None:
        assert_same(detector().detect(solvay), OnnxDetector(YUNET).detect(solvay), scores=2e-3, boxes=0.2)

    def test_scrfd_files_without_a_batch_axis(self, data: Path, solvay: np.ndarray) -> None:
        for name in ("scrfd_500m_bnkps.onnx", "scrfd_500m.onnx", "scrfd_500m_bnkps_640.onnx"):
            path = data / "weights" / name
            expected = OnnxDetector(path).detect_batch([solvay, solvay[:, :2000]])
            for faces, wanted in zip(detector(path).detect_batch([solvay, solvay[:, :2000]]), expected, strict=True):
                assert len(faces) == len(wanted)
                assert np.allclose(faces.scores, wanted.scores, atol=2e-3)

    def test_batches_and_threads_give_what_one_call_gives(self, solvay: np.ndarray) -> None:
        shapes = ours().ShapeRange((1, 320, 320), (1, 320, 320), (3, 320, 320))
        found = detector(precision="fp32", shapes=shapes, input_size=320)
        images = [solvay[:, 100 * i : 100 * i + 2000] for i in range(7)]
        alone = [found.detect(image) for image in images]
        with ThreadPoolExecutor(4) as pool:
            threaded = list(pool.map(found.detect, images * 2))
        for faces, expected in zip([*found.detect_batch(images), *threaded], alone * 3, strict=True):
            assert np.allclose(faces.boxes, expected.boxes, atol=1e-3)

    def test_a_file_that_takes_pixels_gets_them(self, solvay: np.ndarray, tmp_path: Path) -> None:
        path = tmp_path / "pixels.onnx"
        onnx.save(with_pixels(onnx.load(YUNET)), path)
        found = detector(path, precision="fp32")
        assert_same(found.detect(solvay), OnnxDetector(YUNET, score_thr=0.5).detect(solvay))
        expected = OnnxDetector(YUNET, score_thr=0.5).detect(solvay)
        assert_same(detector(path).detect(solvay), expected, scores=2e-3, boxes=0.2)
        for precision in ("fp32", "fp16"):
            graph = onnx.load_model_from_string(ours(".source").SourceModel(path).serialized(precision)).graph
            assert {node.op_type for node in graph.node if "pixels" in node.input} == {"Cast"}
        with pytest.raises(ModelError, match="outside"):
            found.session.run(np.zeros((1, 3, 640, 640), np.float32))

    def test_arrays_on_the_gpu_stay_there(self, world: World, solvay: np.ndarray) -> None:
        found = detector(precision="fp32")
        blob = np.ascontiguousarray(solvay[:640, :640].transpose(2, 0, 1)[None], np.float32)
        expected = found.session.run(blob)
        memory = ours(".cuda").DeviceMemory(blob.nbytes)
        world.memory[memory.pointer][:] = blob.tobytes()
        stream = 5
        world.streams.add(stream)
        world.pending[stream] = []
        for given in (None, stream):
            array = ours(".cuda").DeviceArray(memory, blob.shape, blob.dtype)
            outputs = found.session.run_on_device(array, given)
            if given:
                assert len(world.pending[stream]) == 1
                world.modules()["cuda.bindings.runtime"].cudaStreamSynchronize(stream)
            for output, wanted in zip(outputs, expected, strict=True):
                described = output.__cuda_array_interface__
                bytes_there = world.memory[described["data"][0]]
                there = np.frombuffer(bytes_there, described["typestr"], wanted.size).reshape(described["shape"])
                assert np.array_equal(there, wanted)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"typestr": "<f2"}, "contiguous float32, not float16"),
            ({"strides": (1, 2, 3, 4)}, "with strides"),
            ({"shape": (1, 3, 320, 320)}, "outside of what the engine takes"),
        ],
    )
    def test_arrays_that_do_not_fit_are_refused(self, changes: dict[str, Any], message: str) -> None:
        described = {"shape": (1, 3, 640, 640), "typestr": "<f4", "data": (8, False), "version": 3, **changes}
        session = detector().session
        with pytest.raises(FaceDetError, match=message):
            session.run_on_device(SimpleNamespace(__cuda_array_interface__=described))
        with pytest.raises(FaceDetError, match="not on the GPU"):
            session.run_on_device(np.zeros((1, 3, 640, 640), np.float32))

    def test_memory_and_a_stream_are_kept_for_the_thread_and_given_back(self, world: World, solvay: np.ndarray) -> None:
        found = detector()
        found.detect(solvay)
        kept = dict(world.memory)
        found.detect(solvay)
        assert world.memory == kept
        assert len(world.pending) == len(world.streams) == 1
        del found
        gc.collect()
        assert not world.memory
        assert not world.streams

    def test_metadata_of_our_own_files_is_read(self, tmp_path: Path) -> None:
        model = onnx.load(YUNET)
        text = json.dumps({"layout": "yunet", "mean": [9, 9, 9], "std": [1, 1, 1], "to_rgb": True})
        model.metadata_props.add(key="facedet_mm", value=text)
        onnx.save(model, tmp_path / "own.onnx")
        assert detector(tmp_path / "own.onnx").network.normalization.mean == (9, 9, 9)


@pytest.mark.usefixtures("world")
class TestTheCache:
    def test_a_second_detector_compiles_nothing(self, world: World, tmp_path: Path, solvay: np.ndarray) -> None:
        first = detector().detect(solvay)
        assert_same(detector().detect(solvay), first)
        assert world.builds == 1
        assert len(engines(tmp_path)) == 1

    def test_every_ingredient_has_an_engine_of_its_own(self, world: World, tmp_path: Path) -> None:
        detector()
        detector(precision="fp32")
        detector(input_size=320)
        shapes = ours().ShapeRange((1, 640, 640), (8, 640, 640), (8, 640, 640))
        detector(shapes=shapes)
        model = onnx.load(YUNET)
        model.producer_name = "another"
        onnx.save(model, tmp_path / YUNET.name)
        detector(tmp_path / YUNET.name)
        assert len(engines(tmp_path)) == world.builds == 5
        for change in ({"gpus": [("Another GPU", 9, 0)]}, {"gpus": [("Fake GPU", 8, 9)]}, {"version": "11.5.0"}):
            before = {**vars(world)}
            vars(world).update(change)
            forget()
            sys.modules.update(world.modules())
            detector()
            vars(world).update(gpus=before["gpus"], version=before["version"])
        assert len(engines(tmp_path)) == world.builds == 8

    @pytest.mark.parametrize("damage", ["flipped", "cut", "note", "empty note", "no note"])
    def test_a_damaged_entry_is_built_again(
        self, world: World, tmp_path: Path, solvay: np.ndarray, damage: str
    ) -> None:
        path = detector().session.entry.path
        note = path.with_name(f"{path.name}.json")
        if damage == "flipped":
            path.write_bytes(path.read_bytes().replace(b'"half"', b'"hulf"'))
        elif damage == "cut":
            path.write_bytes(path.read_bytes()[:-10])
        elif damage == "no note":
            note.unlink()
        else:
            note.write_text("" if damage == "empty note" else note.read_text().replace("Fake GPU", "Other GPU"))
        assert_same(detector().detect(solvay), OnnxDetector(YUNET).detect(solvay), scores=2e-3, boxes=0.2)
        assert world.builds == 2
        detector()
        assert world.builds == 2
        assert len(engines(tmp_path)) == 1

    def test_an_engine_that_the_driver_refuses_is_built_again(self, world: World) -> None:
        detector()
        world.fail = "deserialize"
        with pytest.raises(ModelError, match=r"can't load the engine that it compiled.*made by another version"):
            detector()
        assert world.builds == 2

    def test_the_timings_of_one_build_help_the_next_and_junk_does_not_harm(self, world: World, tmp_path: Path) -> None:
        detector()
        assert world.timings == b""
        detector(precision="fp32")
        assert world.timings == b"timings"
        engine = ours(".engine")
        model = ours(".source").SourceModel(YUNET)
        engine.build_plan(model, "fp16", ours().ShapeRange(*[(1, 64, 64)] * 3), b"junk")
        assert world.timings == b""
        assert len(list((tmp_path / "home" / "tensorrt").glob("timings-*.cache"))) == 1

    @pytest.mark.parametrize(("step", "error"), [("interrupt", KeyboardInterrupt), ("build", ModelError)])
    def test_a_cut_build_leaves_nothing(
        self, world: World, tmp_path: Path, step: str, error: type[BaseException]
    ) -> None:
        world.fail = step
        with pytest.raises(error):
            detector()
        assert not [path for path in (tmp_path / "home").rglob("*") if path.is_file()]

    def test_a_cache_that_can_not_be_written_is_no_reason_to_fail(
        self, world: World, tmp_path: Path, solvay: np.ndarray, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "home").write_text("a file where the folder should be")
        assert_same(detector().detect(solvay), OnnxDetector(YUNET).detect(solvay), scores=2e-3, boxes=0.2)
        assert "the next start will take as long: cannot write" in capsys.readouterr().err
        assert world.builds == 1

    def test_building_says_why_it_takes_long(self, capsys: pytest.CaptureFixture[str]) -> None:
        detector()
        said = capsys.readouterr().err
        assert "compiling yunet_n_dynamic.onnx for Fake GPU (fp16, batch 1-8, height 640, width 640)" in said
        detector()
        assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("world")
class TestPrecision:
    def test_fp16_stores_half_floats_and_fp32_forbids_tf32(self) -> None:
        half, single = (
            json.loads(detector(precision=precision).session.entry.read()) for precision in ("fp16", "fp32")
        )
        assert half["half"] > 50
        assert half["cleared"] == []
        assert single["half"] == 0
        assert single["cleared"] == ["TF32"]

    def test_int8_is_for_quantized_files_and_they_for_nothing_else(self, tmp_path: Path) -> None:
        path = quantized(tmp_path / "int8.onnx")
        with pytest.raises(ModelError, match=r"yunet_n_dynamic\.onnx is not quantized: facedet quantize"):
            detector(precision="int8")
        with pytest.raises(ModelError, match=r"int8\.onnx is quantized: use the precision int8"):
            detector(path, precision="fp16")
        with pytest.raises(ModelError, match="precision must be one of fp32, fp16, int8 or None, not 'bf16'"):
            detector(precision="bf16")
        assert detector(path).session.precision == "int8"

    def test_quantized_biases_become_floats_of_the_same_value(self, tmp_path: Path, solvay: np.ndarray) -> None:
        path = quantized(tmp_path / "int8.onnx")
        found = detector(path)
        assert_same(found.detect(solvay), OnnxDetector(path).detect(solvay), scores=1e-3, boxes=0.5)
        graph = onnx.load_model_from_string(ours(".source").SourceModel(path).serialized("int8")).graph
        kinds = {tensor.name: tensor.data_type for tensor in graph.initializer}
        dequantized = [node for node in graph.node if node.op_type == "DequantizeLinear"]
        assert dequantized
        assert all(kinds.get(node.input[0]) != onnx.TensorProto.INT32 for node in dequantized)

    def test_zero_points_that_tensorrt_does_not_take_are_named(self, tmp_path: Path) -> None:
        path = quantized(tmp_path / "uint8.onnx", symmetric=False)
        with pytest.raises(ModelError, match=r"uint8\.onnx: .*QuantizeLinear has a zero point other than 0.*symmetric"):
            detector(path)

    def test_what_follows_the_last_convolution_stays_float32(self) -> None:
        helper = onnx.helper
        node = helper.make_node
        graph = helper.make_graph(
            [
                node("Conv", ["x", "w"], ["c"], name="conv"),
                node("Add", ["c", "far"], ["d"], name="decode"),
                node("Identity", ["d"], ["y"]),
            ],
            "decoding",
            [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 3, 8, 8])],
            [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 1, 8, 8])],
            [
                onnx.numpy_helper.from_array(np.full((1, 3, 1, 1), 0.25, np.float32), "w"),
                onnx.numpy_helper.from_array(np.full(1, 2048.375, np.float32), "far"),
            ],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        half = ours(".conversion").half_floats(model)
        ort = pytest.importorskip("onnxruntime")
        x = np.ones((1, 3, 8, 8), np.float32)
        (y,) = ort.InferenceSession(half.SerializeToString()).run(None, {"x": x})
        assert y.dtype == np.float32
        assert np.array_equal(y, np.full((1, 1, 8, 8), 2049.125, np.float32))


@pytest.mark.usefixtures("world")
class TestShapes:
    def test_input_sizes_beyond_the_engine_are_refused_before_and_after(self) -> None:
        shapes = ours().ShapeRange((1, 320, 320), (1, 640, 640), (2, 640, 960))
        for size in (1280, "auto", [320, 1280]):
            with pytest.raises(FaceDetError, match="does not fit the engine's shapes"):
                detector(shapes=shapes, input_size=size)
        found = detector(shapes=shapes).replace(input_size=(960, 640))
        with pytest.raises(FaceDetError, match=r"input_size \(640, 960\) does not fit.*height 320-640, width 320-960"):
            found.replace(input_size=(640, 960))
        assert found.options.input_size == (960, 640)

    @pytest.mark.parametrize("size", [640, "auto", [320, 640], (960, 320)])
    def test_small_and_turned_views_keep_to_the_engine(self, solvay: np.ndarray, size: Any) -> None:
        found = detector(input_size=size, precision="fp32", score_thr=0.5)
        for image in (solvay[1100:1350, 2050:2300], solvay[1000:1300, :]):
            for rotations in (0, "auto", [0, 45]):
                assert len(found.replace(rotations=rotations).detect(np.ascontiguousarray(image))) >= 1

    def test_original_sizes_need_bounds_and_keep_to_them(self, solvay: np.ndarray) -> None:
        with pytest.raises(FaceDetError, match=r"'original' has no bounds.*ShapeRange"):
            detector(input_size="original")
        shapes = ours().ShapeRange((1, 32, 32), (1, 640, 640), (1, 1024, 1024))
        found = detector(shapes=shapes, input_size="original", precision="fp32")
        part = solvay[900:1500, :1000]
        assert np.allclose(
            found.detect(part).boxes, OnnxDetector(YUNET, input_size="original").detect(part).boxes, atol=1e-3
        )
        with pytest.raises(ModelError, match=r"shape \(1, 3, 2176, 3008\) is outside.*height 32-1024"):
            found.detect(solvay)

    def test_a_file_of_one_size_takes_others(self, solvay: np.ndarray, tmp_path: Path) -> None:
        onnx.save(of_one_size(onnx.load(YUNET), 320, 256), tmp_path / "fixed.onnx")
        for size in ((320, 256), 640, "auto"):
            found = detector(tmp_path / "fixed.onnx", input_size=size, precision="fp32", score_thr=0.5)
            expected = OnnxDetector(YUNET, input_size=size, score_thr=0.5).detect(solvay)
            faces = found.detect(solvay)
            assert len(faces) == len(expected) > 5
            assert np.allclose(faces.scores, expected.scores, atol=1e-5)

    def test_a_file_that_needs_its_size_takes_no_other(self, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("facedet_mm.detectors.rewriting.disproof", lambda *_: "it needs its size")
        path = data / "weights" / "scrfd_500m_bnkps_640.onnx"
        assert detector(path, input_size="auto").options.input_size == (640, 640)
        with pytest.raises(ModelError, match="takes only inputs of batch 1, height 640, width 640, not"):
            detector(path, input_size=320)

    @pytest.mark.parametrize("shapes", [((2, 64, 64), (1, 64, 64), (4, 64, 64)), ((0, 64, 64),) * 3, ((64, 64),) * 3])
    def test_ranges_that_are_none_are_refused(self, shapes: Any) -> None:
        with pytest.raises(FaceDetError, match="1 <= min <= opt <= max"):
            ours().ShapeRange(*shapes)


@pytest.mark.usefixtures("world")
class TestErrors:
    def test_without_a_gpu_the_error_names_the_remedies(self, world: World) -> None:
        world.gpus = []
        with pytest.raises(MissingDependencyError, match=r"GPU and its driver.*nvidia-smi.*device='openvino'"):
            detector()

    def test_a_gpu_that_is_not_there_is_named(self) -> None:
        with pytest.raises(FaceDetError, match="no GPU 3: CUDA finds 1"):
            detector(device="tensorrt:3")

    @pytest.mark.parametrize(
        ("step", "message"),
        [
            ("builder", "TensorRT 11.4.0 does not start: CUDA initialization failure"),
            ("build", "can't compile .*yunet_n_dynamic.onnx for batch 1-8.*: no implementation obeys"),
            ("context", "can't start on the GPU: out of memory"),
            ("execute", r"fails on an input of shape \(1, 3, 640, 640\): an illegal memory access"),
            ("memory", "cudaMalloc failed: text of cudaErrorMemoryAllocation; close other programs that use the GPU"),
        ],
    )
    def test_what_tensorrt_says_is_passed_on(self, world: World, step: str, message: str) -> None:
        world.fail = step
        with pytest.raises(FaceDetError, match=message):
            detector()

    def test_a_graph_that_tensorrt_does_not_take_is_named_with_the_node(self, tmp_path: Path) -> None:
        model = onnx.load(YUNET)
        model.graph.node[3].domain = "com.example"
        onnx.save(model, tmp_path / "odd.onnx")
        with pytest.raises(ModelError, match=r"does not support .*odd\.onnx: no importer \(node 7 Conv_7\)"):
            detector(tmp_path / "odd.onnx", precision="fp32")

    def test_damaged_and_unfit_files_are_named(self, tmp_path: Path) -> None:
        (tmp_path / "bad.onnx").write_bytes(b"not a model")
        with pytest.raises(ModelError, match=r"bad\.onnx is no ONNX file, or a damaged one"):
            detector(tmp_path / "bad.onnx")
        with pytest.raises(ModelError, match="no such model file"):
            detector(tmp_path / "none.onnx")
        model = onnx.load(YUNET)
        model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1
        onnx.save(model, tmp_path / "gray.onnx")
        with pytest.raises(ModelError, match=r"gray\.onnx is no face detector: its input is input"):
            detector(tmp_path / "gray.onnx")

    def test_rows_that_depend_on_the_image_are_refused(self, tmp_path: Path) -> None:
        model = onnx.load(YUNET)
        old = model.graph.output[0].name
        for node in model.graph.node:
            node.output[:] = ["selected" if name == old else name for name in node.output]
            node.input[:] = ["selected" if name == old else name for name in node.input]
        model.graph.output[0].name = "selected"
        onnx.save(model, tmp_path / "nms.onnx")
        with pytest.raises(ModelError, match=r"output selected has depends on the image.*without NMS"):
            detector(tmp_path / "nms.onnx")


@pytest.mark.usefixtures("world")
class TestBuildDetector:
    def test_takes_it_where_it_is_installed(self, world: World, caplog: pytest.LogCaptureFixture) -> None:
        world.gpus = [("Fake GPU", 9, 0)] * 2
        caplog.set_level("INFO")
        assert isinstance(build_detector(device="tensorrt"), ours().TensorRTDetector)
        assert caplog.messages == ["device 'tensorrt': running in NVIDIA's TensorRT"]
        found = build_detector(YUNET, device="tensorrt:1", input_size=320)
        with ThreadPoolExecutor(1) as pool:
            pool.submit(found.detect, np.zeros((320, 320, 3), np.uint8)).result()
        assert list(world.devices.values()) == [1, 1]

    def test_refuses_what_it_does_not_know(self) -> None:
        with pytest.raises(FaceDetError, match="threads sets the CPU threads of a network; device 'tensorrt' has none"):
            build_detector(device="tensorrt", threads=2)
        with pytest.raises(FaceDetError, match="such as 'tensorrt:1', not 'tensorrt:gpu'"):
            build_detector(device="tensorrt:gpu")
        with pytest.raises(ModelError, match="device must be one of"):
            build_detector(device="trt")

    def test_without_the_package_onnx_runtime_runs_its_own_and_says_so(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        forget()
        devices = []

        class Session(OrtSession):
            def __init__(self, path: Path, device: str | None, threads: int | None) -> None:
                devices.append(device)
                super().__init__(path, "cpu", threads)

        monkeypatch.setattr("facedet_mm.detectors.onnx.OrtSession", Session)
        assert isinstance(build_detector(device="tensorrt:1"), OnnxDetector)
        assert devices == ["tensorrt:1"]
        assert caplog.messages == [
            "device 'tensorrt': running in ONNX Runtime's TensorRT provider; the tensorrt package is not installed"
        ]
        with pytest.raises(FaceDetError, match="no choice of precision in ONNX Runtime"):
            build_detector(device="tensorrt", precision="fp16")

    @pytest.mark.skipif("TensorrtExecutionProvider" in ort.get_available_providers(), reason="it is here")
    def test_without_either_the_error_says_how_to_get_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "tensorrt", None)
        forget()
        with pytest.raises(
            MissingDependencyError, match=r"pip install 'facedet-mm\[tensorrt\]'.*pip install onnxruntime-gpu"
        ):
            build_detector(device="tensorrt")

    def test_without_cuda_python_the_error_names_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("cuda", "cuda.bindings", "cuda.bindings.runtime"):
            monkeypatch.setitem(sys.modules, name, None)
        forget()
        with pytest.raises(MissingDependencyError, match=r"pip install 'facedet-mm\[tensorrt\]' \(.*cuda") as error:
            build_detector(device="tensorrt")
        assert "ONNX Runtime" not in str(error.value)


@pytest.mark.usefixtures("world")
class TestBuildingAhead:
    def test_reports_the_engine_and_how_it_compares(self, world: World, tmp_path: Path) -> None:
        report = importlib.import_module("facedet_mm.deploy.tensorrt").build_engine(YUNET)
        assert report.path.name in engines(tmp_path)
        assert report.precision == "fp16"
        assert report.faces == len(OnnxDetector(YUNET).detect(asset_path("solvay_1927.jpg")))
        assert 0 < report.differences["scores"] < 2e-3
        assert 0 < report.differences["boxes"] < 0.2
        build_detector(device="tensorrt")
        assert world.builds == 1

    def test_an_engine_that_finds_other_faces_is_an_error_and_removed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        deploy = importlib.import_module("facedet_mm.deploy.tensorrt")
        real = deploy.TensorRTDetector.detect
        monkeypatch.setattr(deploy.TensorRTDetector, "detect", lambda self, image: real(self, image)[1:])
        with pytest.raises(
            ModelError, match=r"disagree about 1 faces, the best of score 0\.9\d; the engine was removed"
        ):
            deploy.build_engine(YUNET)
        assert engines(tmp_path) == set()

    def test_the_tool_says_what_is_missing_and_what_is_wrong(self, root: Path) -> None:
        def run(*args: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, str(root / "tools" / "build_engine.py"), *args]
            return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

        one_only = run("x.onnx", "--min", "1x320x320")
        assert (one_only.returncode, "go together" in one_only.stderr) == (2, True)
        assert "expected BATCHxHEIGHTxWIDTH" in run("x.onnx", "--min", "320").stderr
        none = run("x.onnx")
        assert none.returncode == 1
        assert none.stderr.count("\n") == 1
        assert "pip install 'facedet-mm[tensorrt]'" in none.stderr or "no such model file" in none.stderr


class TestTheRealApi:
    def test_the_stand_ins_have_what_the_real_libraries_have_and_no_more(self, world: World, root: Path) -> None:
        check = api_check(root)
        modules = world.modules()
        trt, cudart = modules["tensorrt"], modules["cuda.bindings.runtime"]
        assert [*check.tensorrt_problems(trt), *check.cuda_problems(cudart)] == []
        private = {"Network", "BuilderFlag", "NetworkDefinitionCreationFlag", "TensorIOMode"}
        for name, cls in vars(trt).items():
            if isinstance(cls, type) and name not in private:
                members = {m for m in vars(cls) if not m.startswith("_")} - {"Severity"}
                assert members <= set(check.TENSORRT[name]), name
        assert {
            name for name in vars(cudart) if name.startswith("cuda") and not isinstance(vars(cudart)[name], type)
        } == set(check.CUDA)

    def test_the_check_finds_what_is_missing_or_takes_something_else(self, world: World, root: Path) -> None:
        check = api_check(root)
        trt = world.modules()["tensorrt"]
        del trt.OnnxParser.parse, trt.BuilderFlag  # type: ignore[attr-defined]
        trt.IExecutionContext.execute_async_v3 = lambda self, bindings: None  # type: ignore[attr-defined]  # noqa: ARG005
        assert list(check.tensorrt_problems(trt)) == [
            "OnnxParser.parse is missing",
            "IExecutionContext.execute_async_v3 takes ('bindings',), not ('stream_handle',)",
            "BuilderFlag.TF32 is missing",
        ]

    def test_the_installed_libraries_have_all_that_is_used(self, root: Path) -> None:
        if not any(importlib.util.find_spec(name) for name in ("tensorrt", "tensorrt_bindings")):
            pytest.skip("NEEDS TENSORRT: pip install tensorrt cuda-python, or tensorrt-cu13-bindings cuda-python")
        tool = root / "tools" / "analysis" / "check_tensorrt_api.py"
        done = subprocess.run([sys.executable, str(tool)], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.startswith("nothing is missing")

    @pytest.mark.gpu
    def test_finds_the_faces_of_onnx_runtime_on_a_real_gpu(self, solvay: np.ndarray, tmp_path: Path) -> None:
        code = "from facedet_mm.detectors.tensorrt.cuda import find_gpu; find_gpu(0)"
        env = {**os.environ, "FACEDET_HOME": str(tmp_path)}
        if subprocess.run([sys.executable, "-c", code], capture_output=True, env=env, check=False).returncode:
            pytest.skip("NEEDS A GPU with TensorRT and cuda-python: engines have not been run here")
        assert_same(detector().detect(solvay), OnnxDetector(YUNET).detect(solvay), scores=5e-3, boxes=0.5)


def api_check(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("check", root / "tools" / "analysis" / "check_tensorrt_api.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def with_pixels(model: Any) -> Any:
    """The model with its preprocessing inside: uint8 (N, H, W, 3) in."""
    helper, graph = onnx.helper, model.graph
    old = graph.input[0].name
    steps = [
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Cast", ["planes"], [old], to=onnx.TensorProto.FLOAT),
    ]
    nodes = [*steps, *graph.node]
    del graph.node[:], graph.input[:]
    graph.node.extend(nodes)
    graph.input.append(helper.make_tensor_value_info("pixels", onnx.TensorProto.UINT8, ["n", "h", "w", 3]))
    return model


def quantized(path: Path, symmetric: bool = True) -> Path:
    """YuNet in INT8 by ONNX Runtime's quantizer, calibrated on noise."""
    quantization = pytest.importorskip("onnxruntime.quantization")
    source = path.with_name("opset17.onnx")
    onnx.save(onnx.version_converter.convert_version(onnx.load(YUNET), 17), source)

    class Noise(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.batches = iter([np.random.default_rng(0).uniform(0, 255, (1, 3, 128, 128)).astype(np.float32)])

        def get_next(self) -> dict[str, Any] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"input": batch}

    quantization.quantize_static(
        source,
        path,
        Noise(),
        op_types_to_quantize=["Conv"],
        per_channel=True,
        activation_type=quantization.QuantType.QInt8 if symmetric else quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        extra_options={"ActivationSymmetric": symmetric},
    )
    return path
