"""Testing through the Runner: the same faces as the detectors, at every size, and several views."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmdet")

from facedet_mm import build_detector  # noqa: E402
from facedet_mm.datasets import GroundTruth, Predictions, read_predictions  # noqa: E402
from facedet_mm.datasets.annotations import read_annotations  # noqa: E402
from facedet_mm.errors import ModelError  # noqa: E402
from facedet_mm.evaluation import evaluate  # noqa: E402
from facedet_mm.io.images import read_image  # noqa: E402
from facedet_mm.plugin.apis.convert import convert  # noqa: E402
from facedet_mm.plugin.apis.latency import latency_table  # noqa: E402
from facedet_mm.plugin.apis.runner import evaluate_checkpoint, prepare_config  # noqa: E402
from facedet_mm.zoo import asset_path, config_path  # noqa: E402

EVENTS = ("54--Rescue", "45--Balloonist")


@pytest.fixture(scope="module")
def checkpoint(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "kps.pth"
    convert(data / "weights" / "scrfd_500m_bnkps.pth", path, read_image(asset_path("solvay_1927.jpg")))
    return path


@pytest.fixture(scope="module")
def images(data, tmp_path_factory):
    """Two events of real images in the documented layout."""
    root = tmp_path_factory.mktemp("wider_face")
    lines = []
    for image in read_annotations(data / "wider" / "subset" / "wider_face_val_bbx_gt.txt"):
        if image.name.startswith(EVENTS):
            boxes = np.concatenate([image.boxes[:, :2], image.boxes[:, 2:] - image.boxes[:, :2]], 1)
            rows = [f"{' '.join(f'{v:g}' for v in box)} 0 0 0 {int(i)} 0 0" for box, i in zip(boxes, image.ignore)]  # noqa: B905
            lines += [image.name, str(len(rows)), *rows]
            target = root / "WIDER_val" / "images" / image.name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(data / "wider" / "WIDER_val" / "images" / image.name, target)
    (root / "wider_face_split").mkdir()
    (root / "wider_face_split" / "wider_face_val_bbx_gt.txt").write_text("\n".join(lines) + "\n")
    return root


def config(images, work_dir):
    options = {"data_root": str(images), "test_dataloader.num_workers": 0, "visualizer.vis_backends": []}
    cfg = prepare_config(config_path("scrfd_0.5g_kps"), work_dir, options)
    cfg.test_dataloader.persistent_workers = False
    annotations = f"{images}/wider_face_split/wider_face_val_bbx_gt.txt"
    cfg.test_evaluator = dict(type="WiderFaceMetric", ann_file=annotations)
    return cfg


@pytest.mark.parametrize("size", [None, 320, "original"])
def test_the_runner_predicts_and_scores_what_the_onnx_detector_does(size, checkpoint, images, data, tmp_path):
    cfg = config(images, tmp_path / "work")
    result = evaluate_checkpoint(cfg, checkpoint, size=size, out=tmp_path / "out")
    detector = build_detector(
        data / "weights" / "scrfd_500m_bnkps.onnx", score_thr=0.02, iou_thr=0.45, input_size=size or 640
    )
    written = read_predictions(tmp_path / "out")
    annotations = read_annotations(cfg.test_evaluator.ann_file)
    assert len(annotations) == 10
    found = []
    for image in annotations:
        faces = detector.detect(images / "WIDER_val" / "images" / image.name)
        found.append((image.name, faces.boxes, faces.scores))
    ap = evaluate(
        Predictions.from_images(found), GroundTruth.from_images((a.name, a.boxes, a.ignore) for a in annotations)
    )
    for setting, value in ap.ap.items():
        assert result[f"wider_face_ann/{setting}"] == pytest.approx(value, abs=2e-3)
        assert value > 0.3
    assert sum(len(boxes) for _, boxes, _ in found) == len(written.scores)


def test_several_views_are_joined_and_find_small_faces(checkpoint, images, tmp_path):
    one = evaluate_checkpoint(config(images, tmp_path / "a"), checkpoint)
    joined = evaluate_checkpoint(config(images, tmp_path / "b"), checkpoint, tta=True)
    assert joined["wider_face_ann/hard"] > one["wider_face_ann/hard"] + 0.01


@pytest.mark.parametrize("size", ["huge", "100", "0"])
def test_a_size_that_cannot_be_is_refused(size, checkpoint, images, tmp_path):
    with pytest.raises(ModelError, match="multiple of 32"):
        evaluate_checkpoint(config(images, tmp_path), checkpoint, size=size)


def test_weights_of_another_model_are_refused(images, tmp_path, checkpoint):
    cfg = config(images, tmp_path)
    cfg.model.neck.out_channels = cfg.model.bbox_head.in_channels = 32
    with pytest.raises(ModelError, match="do not fit the config"):
        evaluate_checkpoint(cfg, checkpoint)


def test_the_latency_table_has_a_line_for_each_size(checkpoint, images, tmp_path):
    lines = latency_table(config(images, tmp_path), checkpoint, sides=(64, 128)).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["64", "128"]
    assert all(float(line.split()[3]) > 0 for line in lines[1:])
