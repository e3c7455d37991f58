"""The data set, and its way from files on disk to a batch."""

from __future__ import annotations

import re

import cv2
import numpy as np
import pytest

pytest.importorskip("mmdet")

import torch
from mmdet.models import DetDataPreprocessor
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner

from facedet_mm.errors import AnnotationError, FaceDetError, ImageError
from facedet_mm.plugin.datasets.face_dataset import WiderFaceDataset
from facedet_mm.plugin.datasets.transforms import LoadFaceImage

POINTS = " ".join(f"{20 + i} {30 + i} 0" for i in range(5))
LABELS = f"# a/x.jpg\n10 20 30 40 {POINTS}\n5 5 0 9\n# a/y.jpg\n1 1 0 0\n# b/z.jpg\n"


@pytest.fixture
def root(tmp_path):
    """Three images: one face with landmarks and one to ignore, only one to ignore, none."""
    (tmp_path / "label.txt").write_text(LABELS)
    for i, name in enumerate(("a/x.jpg", "a/y.jpg", "b/z.jpg")):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((60 + i, 80, 3), 50 * i, np.uint8))
    return tmp_path


def build(root, **arguments) -> WiderFaceDataset:
    return WiderFaceDataset(
        data_root=str(root), ann_file="label.txt", **{"data_prefix": {"img": "images"}, "pipeline": [], **arguments}
    )


def subset(data, split: str) -> Config:
    """The configuration of the data, pointed to the real images at hand."""
    init_default_scope("mmdet")
    config = Config.fromfile("configs/_base_/datasets/wider_face.py")
    loader = config.train_dataloader if split == "train" else config.val_dataloader
    loader.dataset.data_root = str(data / "wider")
    loader.dataset.ann_file = f"subset/wider_face_{split}_bbx_gt.txt"
    loader.num_workers = 2
    return loader


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch, pytestconfig):
    monkeypatch.chdir(pytestconfig.rootpath)


def test_there_is_one_class():
    assert WiderFaceDataset.METAINFO["classes"] == ("face",)


def test_an_image_brings_its_faces_in_the_form_mmdet_expects(root):
    image = build(root)[0]
    assert image["img_id"] == "a/x.jpg"
    assert image["img_path"] == str(root / "images" / "a" / "x.jpg")
    first, second = image["instances"]
    assert (first["bbox"], first["bbox_label"], first["ignore_flag"]) == ([10, 20, 40, 60], 0, 0)
    assert first["keypoints"] == [[20 + i, 30 + i] for i in range(5)]
    assert first["keypoints_visible"] == [1] * 5
    assert (second["ignore_flag"], second["keypoints_visible"]) == (1, [0] * 5)


def test_all_images_stay_unless_empty_ones_are_filtered(root):
    empty = {"filter_empty_gt": True}
    assert len(build(root)) == 3
    assert [image["img_id"] for image in build(root, filter_cfg=empty)] == ["a/x.jpg"]
    assert len(build(root, filter_cfg=empty, test_mode=True)) == 3


def test_classes_of_an_image_are_those_of_its_faces(root):
    assert [build(root).get_cat_ids(i) for i in range(3)] == [[0, 0], [0], []]


def test_missing_images_are_counted_and_named_while_loading(root):
    (root / "images" / "a" / "x.jpg").unlink()
    (root / "images" / "b" / "z.jpg").unlink()
    with pytest.raises(AnnotationError) as error:
        build(root)
    text = str(error.value)
    assert "2 of the 3 images" in text
    assert "a/x.jpg, b/z.jpg" in text
    assert "a/y.jpg" not in text
    assert str(root / "images") in text
    assert len(build(root, check_images=False)) == 3


def test_a_missing_folder_means_that_all_images_are_missing(root):
    with pytest.raises(FaceDetError, match="3 of the 3 images"):
        build(root, data_prefix={"img": "elsewhere"})


def test_a_missing_annotation_file_is_named(root):
    with pytest.raises(AnnotationError, match=re.escape(str(root / "nothing.txt"))):
        WiderFaceDataset(data_root=str(root), ann_file="nothing.txt", data_prefix={"img": "images"})


def test_the_size_of_the_image_is_known_where_the_file_says_it(root):
    (root / "label.txt").write_text("# a/x.jpg 80 60\n1 2 3 4\n")
    image = build(root)[0]
    assert (image["width"], image["height"]) == (80, 60)
    assert "keypoints" not in image["instances"][0]


def test_a_damaged_image_is_named(root):
    path = root / "images" / "a" / "x.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ImageError, match=re.escape(str(path))):
        build(root, pipeline=[LoadFaceImage()])[0]


def test_a_training_batch_of_real_images_reaches_the_model_in_the_right_form(data):
    loader = subset(data, "train")
    batch = next(iter(Runner.build_dataloader(loader, seed=0)))
    batch = DetDataPreprocessor(mean=[127.5] * 3, std=[128.0] * 3, bgr_to_rgb=True, batch_augments=None)(batch, True)
    assert batch["inputs"].shape == (8, 3, 640, 640)
    assert batch["inputs"].abs().max() <= 127.5 / 128
    for sample in batch["data_samples"]:
        faces = sample.gt_instances
        assert isinstance(faces.bboxes, torch.Tensor)
        assert len(faces) == len(faces.bboxes) == len(faces.labels) == len(faces.keypoints_visible) >= 1
        assert faces.keypoints.shape[1:] == (5, 2)
        assert faces.keypoints_visible.sum() == 0
        centers = (faces.bboxes[:, :2] + faces.bboxes[:, 2:]) / 2
        assert ((centers > 0) & (centers < 640)).all()


def test_workers_draw_different_crops_and_the_same_ones_again(data):
    loader = subset(data, "train")
    loader.dataset.indices = [0] * 8  # one image eight times, over two workers
    loader.batch_size = 1
    loader.persistent_workers = False

    def run(seed: int) -> list[int]:
        return [hash(batch["inputs"][0].numpy().tobytes()) for batch in Runner.build_dataloader(loader, seed=seed)]

    first = run(1)
    assert len(set(first)) == 8
    assert run(1) == first
    assert not set(run(100)) & set(first)


def test_a_validation_image_is_fitted_into_the_input(data):
    dataset = DATASETS.build(subset(data, "val").dataset)
    assert len(dataset) == 404
    packed = dataset[0]
    sample = packed["data_samples"]
    height, width = sample.ori_shape
    assert max(packed["inputs"].shape[1:]) == 640
    assert sample.scale_factor == (packed["inputs"].shape[2] / width, packed["inputs"].shape[1] / height)
    assert sample.img_id == "0--Parade/0_Parade_Parade_0_102.jpg"
