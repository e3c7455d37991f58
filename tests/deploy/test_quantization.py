"""INT8: what the file keeps, the effect of equalization, ranges and bias correction, and the loss of AP."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import numpy_helper
from onnxruntime.transformers.float16 import convert_float_to_float16

from facedet_mm.cli import main
from facedet_mm.cli.quantize import ratio_text
from facedet_mm.deploy import quantization
from facedet_mm.deploy.calibration import CalibrationInputs, channel_means, channel_ranges
from facedet_mm.deploy.convolutions import ConvolutionGraph
from facedet_mm.deploy.quantization import quantize_onnx
from facedet_mm.detectors import OnnxDetector
from facedet_mm.errors import FaceDetError, ImageError, ModelError
from facedet_mm.zoo import asset_path

YUNET = asset_path("yunet_n_dynamic.onnx")
SOLVAY = asset_path("solvay_1927.jpg")


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("int8") / "yunet.onnx"
    quantize_onnx(YUNET, path, [SOLVAY])
    return path


def run(model: onnx.ModelProto, names: list[str], blob: np.ndarray) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return dict(zip(names, session.run(names, {session.get_inputs()[0].name: blob}), strict=True))


def with_outputs(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.extend(onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in names)
    return shown


def ranges_of(path: Path) -> dict[str, tuple[float, float]]:
    """Smallest and largest value that each quantized activation of a file can have."""
    model = onnx.load(path)
    weights = {weight.name: numpy_helper.to_array(weight) for weight in model.graph.initializer}
    found = {}
    for node in model.graph.node:
        if node.op_type == "QuantizeLinear":
            scale, offset = (weights[name] for name in node.input[1:])
            found[node.input[0]] = float(scale * (0.0 - offset)), float(scale * (255.0 - offset))
    return found


def assert_same_people(path: Path, other: Path) -> None:
    """Each finds all faces of which the other is sure; rounding moves others across a threshold."""
    for first, second in ((path, other), (other, path)):
        sure = OnnxDetector(first, score_thr=0.7).detect(SOLVAY).boxes
        found = OnnxDetector(second, score_thr=0.5).detect(SOLVAY).boxes
        assert len(sure) > 20
        assert np.abs(sure[:, None] - found).max(2).min(1).max() < 8


@pytest.mark.slow
def test_a_float16_file_is_quantized_like_the_float32_file_that_it_came_from(int8: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # weights that are 0 in float16
        half = convert_float_to_float16(onnx.load(YUNET), keep_io_types=True)
    onnx.save(half, tmp_path / "half.onnx")
    result = quantize_onnx(tmp_path / "half.onnx", tmp_path / "int8.onnx", [SOLVAY])
    assert result.convolutions == 59
    model = onnx.load(result.path)
    onnx.checker.check_model(model, full_check=True)
    assert not [node for node in model.graph.node if node.op_type == "Cast"]
    assert_same_people(result.path, int8)


@pytest.mark.slow
def test_nodes_without_names_constants_as_nodes_and_newer_opsets_are_taken(tmp_path: Path) -> None:
    model = onnx.version_converter.convert_version(onnx.load(YUNET), 19)
    for node in model.graph.node:
        node.name = ""
    for tensor in list(model.graph.initializer):
        model.graph.initializer.remove(tensor)
        model.graph.node.insert(0, onnx.helper.make_node("Constant", [], [tensor.name], value=tensor))
    onnx.save(model, tmp_path / "bare.onnx")
    result = quantize_onnx(tmp_path / "bare.onnx", tmp_path / "int8.onnx", [SOLVAY])
    assert result.convolutions == 59
    assert_same_people(result.path, YUNET)


@pytest.mark.parametrize("step", ["quantize_static", "version_converter.convert_version"])
def test_what_onnx_or_the_quantizer_refuses_is_an_error_of_the_file(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("No Adapter\nfor Odd")

    monkeypatch.setattr(f"facedet_mm.deploy.quantization.{step}", refuse)
    with pytest.raises(ModelError, match=r"yunet_n_dynamic\.onnx can't be quantized: No Adapter for Odd"):
        quantize_onnx(YUNET, tmp_path / "int8.onnx", [SOLVAY], input_size=320)
    assert not (tmp_path / "int8.onnx").exists()


class TestEqualizing:
    def test_changes_nothing_that_comes_out_and_fills_the_ranges_before_depthwise_convolutions(self) -> None:
        model = onnx.load(YUNET)
        blob = next(iter(CalibrationInputs(OnnxDetector(YUNET), [SOLVAY])))
        graph = ConvolutionGraph(model)
        pairs = graph.equalizable()
        depthwise = [
            name for name, (_, second) in pairs.items() if any(a.i > 1 for a in second.attribute if a.name == "group")
        ]
        assert len(depthwise) >= 10
        outputs = [output.name for output in model.graph.output]
        before = run(model, outputs, blob)
        inner = run(with_outputs(model, list(pairs)), list(pairs), blob)
        highest = {name: np.abs(value).max(axis=(0, 2, 3)) for name, value in inner.items()}
        graph.equalize(highest)
        after = run(model, outputs, blob)
        for name in outputs:
            assert np.allclose(before[name], after[name], rtol=1e-3, atol=1e-4)
        evened = run(with_outputs(model, depthwise), depthwise, blob)
        for name in depthwise:
            channels = np.abs(evened[name]).max(axis=(0, 2, 3))
            alive = highest[name] > highest[name].max() / 64
            assert np.allclose(channels[alive], channels.max(), rtol=1e-3), name
            assert alive.sum() < 2 or np.ptp(highest[name][alive]) > 0.01

    def test_weights_that_two_convolutions_share_stay_as_they_are(self) -> None:
        model = onnx.load(YUNET)
        graph = ConvolutionGraph(model)
        name, (first, _) = next(iter(graph.equalizable().items()))
        other = next(node for node in model.graph.node if node.op_type == "Conv" and node.name != first.name)
        other.input[1] = first.input[1]
        assert name not in ConvolutionGraph(model).equalizable()

    def test_lowers_the_error_of_every_output(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(quantization, "correct_biases", lambda *_: None)
        quantize_onnx(YUNET, tmp_path / "with.onnx", [SOLVAY], input_size=320)
        monkeypatch.setattr(ConvolutionGraph, "equalize", lambda *_: None)
        quantize_onnx(YUNET, tmp_path / "without.onnx", [SOLVAY], input_size=320)
        blob = next(iter(CalibrationInputs(OnnxDetector(YUNET, input_size=320), [SOLVAY])))
        names = [output.name for output in onnx.load(YUNET).graph.output]
        exact = run(onnx.load(YUNET), names, blob)
        found = {file: run(onnx.load(tmp_path / file), names, blob) for file in ("with.onnx", "without.onnx")}
        errors = {file: [np.abs(found[file][n] - exact[n]).mean() for n in names] for file in found}
        assert (np.array(errors["with.onnx"]) < errors["without.onnx"]).all()


class TestRanges:
    """Two images, of which one has a larger range; all expected values are measured here, on the float model."""

    @pytest.fixture(scope="class")
    def images(self, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
        folder = tmp_path_factory.mktemp("images")
        image = cv2.resize(cv2.imread(str(SOLVAY)), (128, 128))
        for name, value in (("dark", image // 3), ("bright", image)):
            cv2.imwrite(str(folder / f"{name}.png"), value)
        return [folder / "dark.png", folder / "bright.png"]

    @pytest.fixture(scope="class")
    def values(self, images: list[Path]) -> dict[str, list[np.ndarray]]:
        """The input and the activations of the float model, for each image."""
        model = onnx.load(YUNET)
        types = ("Conv", "Relu", "Add", "MaxPool", "Resize")
        names = [node.output[0] for node in model.graph.node if node.op_type in types]
        shown = with_outputs(model, names)
        blobs = [cv2.imread(str(path)).transpose(2, 0, 1)[None].astype(np.float32) for path in images]
        found = [{"input": blob, **run(shown, names, blob)} for blob in blobs]
        return {name: [tensors[name] for tensors in found] for name in found[0]}

    @pytest.mark.slow
    @pytest.mark.parametrize(("ranges", "join"), [("mean", (np.mean, np.mean)), ("extremes", (np.min, np.max))])
    def test_of_inner_activations_are_means_or_extremes_and_those_of_outputs_are_never_cut(
        self, images: list[Path], values: dict[str, list[np.ndarray]], tmp_path: Path, ranges: str, join: tuple
    ) -> None:
        quantize_onnx(YUNET, tmp_path / "int8.onnx", images, input_size=128, ranges=ranges)  # type: ignore[arg-type]
        graph = ConvolutionGraph(onnx.load(YUNET))
        scaled = {name for key, pair in graph.equalizable().items() for name in (key, pair[0].output[0])}
        outputs = [node.output[0] for node in graph.last_convolutions()]
        found = ranges_of(tmp_path / "int8.onnx")
        inner = found.keys() - scaled - set(outputs)
        assert "input" in inner
        assert len(inner) > 10
        for name in inner:
            low, high = (float(f([g(v) for v in values[name]])) for f, g in zip(join, (np.min, np.max), strict=True))
            step = (found[name][1] - found[name][0]) / 255
            assert found[name] == pytest.approx((min(low, 0), max(high, 0)), abs=step), name
        for name in outputs:
            low, high = (float(f([f(v) for v in values[name]])) for f in (np.min, np.max))
            step = (found[name][1] - found[name][0]) / 255
            assert found[name] == pytest.approx((min(low, 0), max(high, 0)), abs=step), name
            assert low < -step

    def test_of_channels_and_their_means_are_those_of_all_images(
        self, images: list[Path], values: dict[str, list[np.ndarray]]
    ) -> None:
        model = onnx.load(YUNET)
        names = [node.output[0] for node in model.graph.node if node.op_type == "Conv"][:5]
        inputs = CalibrationInputs(OnnxDetector(YUNET, input_size=128), images)
        ranges, means = channel_ranges(model, names, inputs), channel_means(model, names, inputs)
        for name in names:
            stacked = np.concatenate(values[name])
            assert np.allclose(ranges[name][0], stacked.min(axis=(0, 2, 3)), atol=1e-4)
            assert np.allclose(ranges[name][1], stacked.max(axis=(0, 2, 3)), atol=1e-4)
            assert np.allclose(means[name], stacked.mean(axis=(0, 2, 3)), atol=1e-4)


class TestBiases:
    @pytest.mark.slow
    def test_the_mean_error_of_what_comes_out_falls(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        images = [SOLVAY]
        quantize_onnx(YUNET, tmp_path / "with.onnx", images)
        monkeypatch.setattr(quantization, "correct_biases", lambda *_: None)
        quantize_onnx(YUNET, tmp_path / "without.onnx", images)
        blob = next(iter(CalibrationInputs(OnnxDetector(YUNET), images)))
        names = [output.name for output in onnx.load(YUNET).graph.output if output.name.startswith(("bbox", "kps"))]
        exact = run(onnx.load(YUNET), names, blob)

        def error(file: str) -> float:
            found = run(onnx.load(tmp_path / file), names, blob)
            return max(float(np.abs((found[n] - exact[n]).mean(axis=(0, 1))).max()) for n in names)

        assert error("with.onnx") < error("without.onnx") / 3


class TestFile:
    @pytest.mark.slow
    def test_finds_the_faces_that_the_float_file_finds(self, int8: Path) -> None:
        image = cv2.imread(str(SOLVAY))
        expected, found = (
            OnnxDetector(YUNET, score_thr=0.6).detect(image),
            OnnxDetector(int8, score_thr=0.5).detect(image),
        )
        assert len(expected) == 29
        for box in expected.boxes:
            low, high = np.maximum(found.boxes[:, :2], box[:2]), np.minimum(found.boxes[:, 2:], box[2:])
            overlap = np.prod(np.maximum(high - low, 0), axis=1)
            areas = np.prod(found.boxes[:, 2:] - found.boxes[:, :2], axis=1) + np.prod(box[2:] - box[:2])
            assert (overlap / (areas - overlap)).max() > 0.7

    def test_takes_and_gives_what_the_float_file_does_and_is_int8_inside(self, int8: Path) -> None:
        before, after = onnx.load(YUNET), onnx.load(int8)
        for old, new in zip(
            [*before.graph.input, *before.graph.output], [*after.graph.input, *after.graph.output], strict=True
        ):
            assert old == new
        makers = {output: node for node in after.graph.node for output in node.output}
        convolutions = [node for node in after.graph.node if node.op_type == "Conv"]
        assert all(
            makers[node.input[0]].op_type == makers[node.input[1]].op_type == "DequantizeLinear"
            for node in convolutions
        )
        weights = {weight.name: weight for weight in after.graph.initializer}
        stored = [weights[makers[node.input[1]].input[0]] for node in convolutions]
        assert {weight.data_type for weight in stored} == {onnx.TensorProto.INT8}
        scales = [numpy_helper.to_array(weights[makers[node.input[1]].input[1]]) for node in convolutions]
        assert [scale.size for scale in scales] == [weight.dims[0] for weight in stored]

    @pytest.mark.slow
    def test_says_of_itself_what_the_float_file_said(self, tmp_path: Path) -> None:
        model = onnx.load(YUNET)
        onnx.helper.set_model_props(model, {"facedet_mm": json.dumps({"layout": "yunet"}), "author": "somebody"})
        onnx.save(model, tmp_path / "float.onnx")
        quantize_onnx(tmp_path / "float.onnx", tmp_path / "int8.onnx", [SOLVAY], input_size=128)
        said = {entry.key: entry.value for entry in onnx.load(tmp_path / "int8.onnx").metadata_props}
        assert said == {"facedet_mm": '{"layout": "yunet"}', "author": "somebody"}

    @pytest.mark.slow
    def test_symmetric_ranges_have_no_offset(self, tmp_path: Path) -> None:
        quantize_onnx(YUNET, tmp_path / "int8.onnx", [SOLVAY], input_size=128, symmetric=True)
        model = onnx.load(tmp_path / "int8.onnx")
        weights = {weight.name: numpy_helper.to_array(weight) for weight in model.graph.initializer}
        offsets = [weights[n.input[2]] for n in model.graph.node if n.op_type == "QuantizeLinear"]
        assert len(offsets) > 50
        assert all(offset.dtype == np.int8 and not offset.any() for offset in offsets)

    @pytest.mark.slow
    def test_ap_of_the_official_model_stays(self, data: Path, average_precision, tmp_path: Path) -> None:
        model = data / "weights/scrfd_500m_bnkps.onnx"
        images = sorted((data / "wider/WIDER_train/images").glob("*/*.jpg"))[::9]
        result = quantize_onnx(model, tmp_path / "int8.onnx", images)
        assert (result.convolutions, result.images) == (58, 96)
        assert result.bytes_after < result.bytes_before / 3
        found = ranges_of(result.path)
        finest, *coarse = (node.output[0] for node in ConvolutionGraph(onnx.load(model)).score_convolutions())
        assert found[finest][0] == pytest.approx(np.log(0.01 / 0.99), abs=0.05)
        assert not found.keys() & set(coarse)
        ap = average_precision(OnnxDetector(result.path, score_thr=0.02, iou_thr=0.45))
        losses = np.array([88.77, 85.99, 67.02]) - list(ap.values())
        assert (losses < [0.2, 0.2, 0.4]).all()


class TestMistakes:
    def test_are_told_and_leave_no_file(self, int8: Path, tmp_path: Path) -> None:
        out = tmp_path / "out.onnx"
        with pytest.raises(FaceDetError, match="is already quantized; start from the float file"):
            quantize_onnx(int8, out, [SOLVAY])
        with pytest.raises(FaceDetError, match="no images were given"):
            quantize_onnx(YUNET, out, [])
        with pytest.raises(ModelError, match="no such model file"):
            quantize_onnx(tmp_path / "gone.onnx", out, [SOLVAY])
        with pytest.raises(ImageError, match=r"gone\.jpg"):
            quantize_onnx(YUNET, out, [SOLVAY, tmp_path / "gone.jpg"])
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("words", "message"),
        [
            (["--annotations", "somewhere"], "--annotations and --images go together"),
            (["--out", str(YUNET)], "is the file to quantize"),
        ],
    )
    def test_of_the_command_line_too(self, words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["quantize", str(YUNET), "--calibration", str(SOLVAY), *words]) == 1
        assert message in capsys.readouterr().err


def test_the_command_reports_size_time_and_ap(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], data: Path, average_precision
) -> None:
    wider = data / "wider"
    command = ["quantize", str(YUNET), "-o", str(tmp_path / "int8.onnx"), "--calibration", str(SOLVAY), "--size", "160"]
    command += ["--annotations", str(wider / "subset/ground_truth"), "--images", str(wider / "WIDER_val/images")]
    assert main([*command, "--json", str(tmp_path / "report.json")]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["float"]["bytes"] == YUNET.stat().st_size
    assert report["int8"]["bytes"] == (tmp_path / "int8.onnx").stat().st_size
    detector = OnnxDetector(YUNET, score_thr=0.02, iou_thr=0.45, input_size=160)
    assert report["float"]["ap"] == pytest.approx(average_precision(detector))
    lines = capsys.readouterr().out.splitlines()
    change = report["int8"]["ap"]["hard"] - report["float"]["ap"]["hard"]
    assert lines[-1].split()[-1] == f"{change:+.2f}"


@pytest.mark.parametrize(("flags", "count"), [(["--recursive", "--samples", "3"], 3), (["--samples", "9"], 4)])
def test_every_option_of_the_command_reaches_the_quantization(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str], count: int
) -> None:
    (tmp_path / "nested").mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg", "d.jpg", "nested/e.jpg"):
        (tmp_path / name).write_bytes(SOLVAY.read_bytes())
    calls = []

    def record(*values: object, **options: object) -> None:
        calls.append((values, options))
        raise FaceDetError("recorded")

    monkeypatch.setattr("facedet_mm.cli.quantize.quantize_onnx", record)
    command = ["quantize", str(YUNET), "-o", str(tmp_path / "int8.onnx"), "--calibration", str(tmp_path), *flags]
    assert main([*command, "--size", "160", "--ranges", "extremes", "--symmetric"]) == 1
    ((model, out, images), options) = calls[0]
    assert (model, out) == (YUNET, tmp_path / "int8.onnx")
    assert options == {"input_size": 160, "symmetric": True, "ranges": "extremes"}
    names = [Path(image).name for image in images]
    assert len(names) == count
    assert names[0] == "a.jpg"
    assert names[-1] == ("e.jpg" if "--recursive" in flags else "d.jpg")


class TestReport:
    @pytest.mark.parametrize(
        ("before", "after", "text"),
        [(31, 10, "3.10 x faster"), (10, 10.8, "1.08 x slower"), (0.93, 1, "1.08 x slower"), (10, 10.01, "unchanged")],
    )
    def test_says_which_way_a_value_changed(self, before: float, after: float, text: str) -> None:
        assert ratio_text(before, after, "faster", "slower") == text

    @pytest.mark.slow
    def test_is_true_for_a_model_name_and_the_file_lies_in_this_folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        command = ["quantize", "yunet_n", "--calibration", str(SOLVAY), "--size", "128"]
        assert main([*command, "--json", "report.json"]) == 0
        assert sorted(path.name for path in tmp_path.iterdir()) == ["report.json", "yunet_n_int8.onnx"]
        report = json.loads(Path("report.json").read_text())
        assert report["float"]["file"] == str(YUNET)
        rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()}
        for row, key, words in (("size", "bytes", "smaller larger"), ("time", "milliseconds", "faster slower")):
            before, after = report["float"][key], report["int8"][key]
            expected = f"{max(before, after) / min(before, after):.2f} x {words.split()[after > before]}"
            assert " ".join(rows[row][4:]) == expected or expected.startswith("1.00 x")

    def test_a_model_name_without_a_file_is_named_with_the_command_that_fetches_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("FACEDET_HOME", str(tmp_path))
        assert main(["quantize", "scrfd_2.5g", "--calibration", str(SOLVAY)]) == 1
        assert "run facedet models fetch scrfd_2.5g" in capsys.readouterr().err
        assert main(["quantize", "yunet_x", "--calibration", str(SOLVAY)]) == 1
        assert "unknown model 'yunet_x'; did you mean yunet_n?" in capsys.readouterr().err
