"""Exported YuNet files stand in for the authors': names, shapes and values, in our runtime and in OpenCV."""

from __future__ import annotations

import json

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest

pytest.importorskip("torch")
pytest.importorskip("mmdet")

from facedet_mm import build_detector, cli
from facedet_mm.io.images import read_image
from facedet_mm.zoo import asset_path


@pytest.fixture(scope="module")
def solvay():
    return read_image(asset_path("solvay_1927.jpg"))


@pytest.fixture(scope="module")
def export(data, root, tmp_path_factory):
    """Exports the authors' checkpoint with the command line."""
    folder = tmp_path_factory.mktemp("yunet")

    def run(name, *options):
        path = folder / f"{name}{'_'.join(options)}.onnx"
        if not path.exists():
            config, weights = root / "configs" / f"{name}.py", data / "yunet" / f"{name}.pth"
            assert cli.main(["export", str(config), str(weights), "-o", str(path), *options]) == 0
        return path

    return run


def declared(path):
    """Name, type and shape of inputs and outputs; the sides of dynamic axes without their names."""
    graph = onnx.load(path).graph
    return [
        (value.name, value.type.tensor_type.elem_type, [d.dim_value or None for d in value.type.tensor_type.shape.dim])
        for value in (*graph.input, *graph.output)
    ]


@pytest.mark.parametrize(
    ("name", "options", "theirs"),
    [
        ("yunet_n", (), "yunet_n_dynamic.onnx"),
        ("yunet_s", (), "yunet_s_dynamic.onnx"),
        ("yunet_n", ("--static", "640"), "yunet_n_640_640.onnx"),
    ],
)
def test_inputs_and_outputs_are_those_of_the_authors_file(export, data, solvay, name, options, theirs):
    path, theirs = export(name, *options), data / "yunet" / theirs
    assert declared(path) == declared(theirs)
    batch = 1 if options else 2
    blob = np.stack([cv2.resize(solvay, (640, 640)).transpose(2, 0, 1)] * batch).astype(np.float32)
    ours, other = (onnxruntime.InferenceSession(str(file)).run(None, {"input": blob}) for file in (path, theirs))
    for mine, reference in zip(ours, other, strict=True):
        assert mine.shape == reference.shape
        assert np.abs(mine - reference).max() < 1e-4


def test_opencv_reads_it_and_finds_the_faces_of_the_torch_model(export, data, root, solvay):
    square = np.ascontiguousarray(solvay[900:1540, 400:1040])
    reader = cv2.FaceDetectorYN_create(str(export("yunet_n", "--static", "640")), "", (640, 640), 0.5, 0.4, 5000)
    rows = reader.detect(square)[1]
    rows = rows[np.argsort(-rows[:, 14], kind="stable")]
    model = build_detector(
        root / "configs" / "yunet_n.py", data / "yunet" / "yunet_n.pth", device="cpu", score_thr=0.5, close_ups=False
    )
    faces = model.detect(square)
    assert len(faces) == len(rows) > 3
    assert np.allclose(faces.scores, rows[:, 14], atol=1e-5)
    assert np.allclose(faces.boxes, np.hstack([rows[:, :2], rows[:, :2] + rows[:, 2:4]]), atol=0.01)
    assert np.allclose(faces.landmarks.reshape(-1, 10), rows[:, 4:14], atol=0.01)


@pytest.mark.parametrize("options", [(), ("--static", "640"), ("--kind", "decoded"), ("--end2end",)])
def test_the_runtime_reads_every_kind_and_finds_the_faces_of_the_torch_model(export, data, root, solvay, options):
    """The end2end file has the score threshold of the command, 0.5 for a config."""
    detector = build_detector(export("yunet_n", *options), score_thr=0.5, iou_thr=0.4)
    expected = build_detector(
        root / "configs" / "yunet_n.py", data / "yunet" / "yunet_n.pth", device="cpu", score_thr=0.5, iou_thr=0.4
    )
    for image in (solvay, solvay[:, :1500]):
        faces, others = detector.detect(image), expected.detect(image)
        assert len(faces) == len(others) > 10
        for values in ("boxes", "scores", "landmarks"):
            assert np.allclose(getattr(faces, values), getattr(others, values), atol=0.01)


def test_the_command_says_that_any_batch_fits(capsys, data, tmp_path):
    command = ["export", "yunet_n", str(data / "yunet" / "yunet_n.pth"), "-o", str(tmp_path / "n.onnx")]
    assert cli.main(command) == 0
    assert "batch x 3 x height x width" in capsys.readouterr().out
    assert cli.main([*command, "--dynamic", "height"]) == 0
    assert "1 x 3 x height x 640" in capsys.readouterr().out
    assert {name: shape for name, _, shape in declared(tmp_path / "n.onnx")}["cls_8"] == [1, None, 1]
    about = json.loads(onnx.load(tmp_path / "n.onnx").metadata_props[0].value)
    assert (about["layout"], about["num_anchors"], about["landmarks"]) == ("yunet", 1, True)
    assert (about["mean"], about["std"], about["to_rgb"]) == ([0] * 3, [1] * 3, False)
