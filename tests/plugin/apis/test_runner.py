"""Testing through the Runner: the same faces as the detectors, at every size, and several views."""

from __future__ import annotations

import shutil

import cv2
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
from facedet_mm.plugin.apis.overrides import use_close_ups  # noqa: E402
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
        data / "weights" / "scrfd_500m_bnkps.onnx",
        score_thr=0.02, iou_thr=0.45, input_size=size or 640, close_ups=False,
    )  # fmt: skip
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


def assert_same_faces(folder, detector, root):
    """Compares written predictions with a detector's faces; where two are equally good, rounding may choose another."""
    for name, boxes, scores in read_predictions(folder):
        faces = detector.detect(root / "WIDER_val" / "images" / f"{name}.jpg")
        assert len(scores) == len(faces) > 0
        found = np.column_stack([faces.boxes, 100 * faces.scores])[faces.scores > 0.05]
        written = np.column_stack([boxes, 100 * scores])[scores > 0.05]
        assert len(found) == len(written) > 0
        nearest = np.abs(found[:, None] - written[None]).max(axis=2).min(axis=1)
        assert (nearest > 0.01).mean() < 0.002


@pytest.fixture(scope="module")
def close_ups(tmp_path_factory):
    """Three faces that fill their images, and one image that is too small for a second look."""
    root = tmp_path_factory.mktemp("close_ups")
    folder = root / "WIDER_val" / "images" / "0--Portraits"
    folder.mkdir(parents=True)
    solvay = read_image(asset_path("solvay_1927.jpg"))
    faces = build_detector(score_thr=0.8).detect(solvay)[:3]
    lines = []
    for i, face in enumerate([*faces.crop(solvay), faces.crop(solvay)[0]]):
        side = 900 if i < 3 else 200
        image = cv2.resize(face, None, fx=side / face.shape[0], fy=side / face.shape[0])
        cv2.imwrite(str(folder / f"{i}.jpg"), image)
        lines += [f"0--Portraits/{i}.jpg", "1", f"0 0 {image.shape[1]} {image.shape[0]} 0 0 0 0 0 0"]
    (root / "wider_face_split").mkdir()
    (root / "wider_face_split" / "wider_face_val_bbx_gt.txt").write_text("\n".join(lines) + "\n")
    return root


def test_several_views_give_the_faces_of_the_onnx_detector(checkpoint, images, data, tmp_path):
    """Sizes, mirrored views, size limits, voting and padding are those of the runtime."""
    weights, out = data / "weights" / "scrfd_500m_bnkps.onnx", tmp_path / "out"
    evaluate_checkpoint(config(images, tmp_path / "work"), checkpoint, tta=True, out=out)
    several = build_detector(
        weights, score_thr=0.02, iou_thr=0.45, input_size=[640, 960, 1280, 1600], mirror=True, close_ups=False
    )
    assert_same_faces(out, several, images)


@pytest.mark.parametrize("tta", [False, True])
def test_a_second_look_gives_the_faces_of_the_torch_detector(tta, checkpoint, close_ups, tmp_path):
    cfg, out = config(close_ups, tmp_path / "work"), tmp_path / "out"
    evaluate_checkpoint(cfg, checkpoint, tta=tta, close_ups=True, out=out)
    sizes = [640, 960, 1280, 1600] if tta else 640
    detector = build_detector(
        "scrfd_0.5g_kps", checkpoint, device="cpu", score_thr=0.02, iou_thr=0.45, input_size=sizes, mirror=tta
    )
    assert_same_faces(out, detector, close_ups)


def test_the_second_look_finds_faces_that_fill_the_image(checkpoint, close_ups, tmp_path):
    best = []
    for second in (False, True):
        out = tmp_path / f"{second}"
        evaluate_checkpoint(config(close_ups, out / "work"), checkpoint, close_ups=second, out=out)
        best.append([max(scores, default=0) for _, _, scores in read_predictions(out)])
    without, with_ = np.array(best)
    assert (without[:3] < 0.3).all()
    assert (with_[:3] > 0.5).all()


@pytest.mark.parametrize("size", [192, "original"])
def test_a_small_input_gets_no_second_look(size, checkpoint, close_ups, tmp_path):
    """At 192 pixels faces that fill the image are large enough already; at their own size one image of four is."""
    for second in (False, True):
        out = tmp_path / f"{second}"
        evaluate_checkpoint(config(close_ups, out / "work"), checkpoint, size=size, close_ups=second, out=out)
    same = [np.array_equal(a[2], b[2]) for a, b in zip(*map(read_predictions, (tmp_path / "False", tmp_path / "True")))]  # noqa: B905
    assert same == ([True] * 4 if size == 192 else [False] * 3 + [True])


def test_a_config_that_allows_no_second_look_is_tested_without(images, tmp_path):
    cfg = config(images, tmp_path)
    cfg.test_dataloader.dataset.pipeline[1] = dict(type="Resize", scale=(640, 640), keep_ratio=True)
    before = cfg.pretty_text
    assert not use_close_ups(cfg)
    assert cfg.pretty_text == before


def test_a_size_and_several_views_exclude_each_other(checkpoint, images, tmp_path):
    with pytest.raises(ModelError, match="exclude each other"):
        evaluate_checkpoint(config(images, tmp_path), checkpoint, size=320, tta=True)


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
