"""``FaceDataset`` on the formats that people bring, joined, repeated, and from other storage than a disk."""

from __future__ import annotations

import json
import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest

pytest.importorskip("mmdet")

from mmdet.registry import DATASETS
from mmengine.dataset import RepeatDataset
from mmengine.registry import init_default_scope
from own_data import BOXES, POINTS, WRITERS, coco, draw_images, write_coco, write_voc, write_yolo
from torch.utils.data import DataLoader

from facedet_mm.errors import AnnotationError, ImageError
from facedet_mm.plugin.datasets import FaceDataset, WiderFaceDataset
from facedet_mm.plugin.datasets.storage import ZipBackend
from facedet_mm.plugin.datasets.transforms import LoadFaceAnnotations, LoadFaceImage, PackFaceInputs
from facedet_mm.plugin.evaluation import WiderFaceMetric

PIPELINE = [LoadFaceImage(), LoadFaceAnnotations(), PackFaceInputs()]
PLACES = {
    "coco": dict(ann_file="faces.json", data_prefix=dict(img="images")),
    "yolo": dict(ann_file="data.yaml"),
    "voc": dict(ann_file=""),
    "labelme": dict(ann_file=""),
}


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope("mmdet")


@pytest.mark.parametrize("prefix", [{}, {"data_prefix": dict(img="")}], ids=["no prefix", "empty prefix"])
@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_reaches_the_model_as_the_same_faces(tmp_path, kind, prefix):
    WRITERS[kind](tmp_path)
    dataset = FaceDataset(data_root=str(tmp_path), pipeline=PIPELINE, **{**prefix, **PLACES[kind]})
    assert len(dataset) == 2
    faces = dataset[0]["data_samples"].gt_instances
    np.testing.assert_allclose(faces.bboxes.numpy(), BOXES, atol=1e-4)
    if kind != "voc":
        np.testing.assert_allclose(faces.keypoints[0].numpy(), POINTS, atol=1e-4)
        assert faces.keypoints_visible.tolist() == [[1] * 5, [0] * 5]
    assert len(dataset[1]["data_samples"].gt_instances) == 0


def test_a_split_of_yolo_is_a_folder(tmp_path):
    write_yolo(tmp_path)
    dataset = FaceDataset(data_root=str(tmp_path), ann_file="images/train", pipeline=PIPELINE)
    assert dataset[0]["data_samples"].img_path == str(tmp_path / "images/train/a.png")


def test_a_folder_of_images_that_is_given_wins(tmp_path):
    write_voc(tmp_path)
    (tmp_path / "JPEGImages").rename(tmp_path / "elsewhere")
    with pytest.raises(AnnotationError, match=r"2 of the 2 images in .* are missing from .*JPEGImages"):
        FaceDataset(data_root=str(tmp_path), ann_file="Annotations")
    assert len(FaceDataset(data_root=str(tmp_path), ann_file="Annotations", data_prefix=dict(img="elsewhere"))) == 2


def test_the_name_of_wider_face_reads_all_formats(tmp_path):
    write_coco(tmp_path)
    assert isinstance(WiderFaceDataset(data_root=str(tmp_path), **PLACES["coco"]), FaceDataset)


def test_notes_and_problems_are_logged(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr("facedet_mm.plugin.datasets.face_dataset.print_log", lambda line, **_: lines.append(line))
    write_yolo(tmp_path)
    (tmp_path / "labels/train/lost.txt").write_text("")
    FaceDataset(data_root=str(tmp_path), ann_file="data.yaml")
    assert lines == [
        f"{tmp_path}/data.yaml: 1 of 2 images have no label file, so they have no faces",
        f"{tmp_path}/data.yaml: 1 label files belong to no image: {tmp_path}/labels/train/lost.txt; "
        "add the images or remove the files",
    ]


def test_category_and_landmarks_are_chosen_in_dataset_and_metric(tmp_path):
    document = coco()
    document["categories"] = [dict(id=3, name="head"), dict(id=4, name="hand")]
    document["annotations"][0]["keypoints"] = [1, 2, 2] * 17
    draw_images(tmp_path)
    (tmp_path / "faces.json").write_text(json.dumps(document))
    place = dict(data_root=str(tmp_path), ann_file="faces.json")
    with pytest.raises(AnnotationError, match="17 keypoints"):
        FaceDataset(**place, category="head")
    dataset = FaceDataset(**place, category="head", landmarks=False)
    assert "keypoints" not in dataset[0]["instances"][0]
    metric = WiderFaceMetric(ann_file=tmp_path / "faces.json", category="head")
    metric.check_images([dataset[i]["img_path"] for i in range(2)])
    assert metric.ground_truth.boxes.tolist() == BOXES


def test_sets_are_joined_and_repeated(tmp_path):
    write_coco(tmp_path / "a")
    write_voc(tmp_path / "b")
    first = dict(type="FaceDataset", data_root=str(tmp_path / "a"), pipeline=PIPELINE, **PLACES["coco"])
    second = dict(type="FaceDataset", data_root=str(tmp_path / "b"), pipeline=PIPELINE)
    joined = dict(type="ConcatDataset", datasets=[first, second])
    dataset = DATASETS.build(dict(type="RepeatDataset", dataset=joined, times=3))
    assert len(dataset) == 12
    roots = [dataset[i]["data_samples"].img_path.split("/")[-3] for i in range(12)]
    assert roots == ["a", "a", "b", "b"] * 3
    visible = [dataset[i]["data_samples"].gt_instances.keypoints_visible.sum().item() for i in (0, 2)]
    assert visible == [5, 0], "faces without landmarks beside those with them"


def stored(backend_args, **place):
    """A data set whose images are read by another backend, as arrays."""
    pipeline = [dict(type="LoadImageFromFile", backend_args=backend_args), LoadFaceAnnotations(), PackFaceInputs()]
    dataset = FaceDataset(pipeline=pipeline, **place)
    return [dataset[i]["inputs"].numpy().transpose(1, 2, 0) for i in range(len(dataset))]


@pytest.fixture
def stored_images(tmp_path):
    """A COCO data set whose two images differ, and the images."""
    path = write_coco(tmp_path / "web")
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (100, 200, 3), np.uint8) for _ in range(2)]
    for name, image in zip(("a.png", "b.jpg"), images, strict=True):
        cv2.imwrite(str(path.parent / "images" / name), image)
    return path.parent, [cv2.imread(str(path.parent / "images" / name)) for name in ("a.png", "b.jpg")]


def assert_same(found, images):
    assert len(found) == len(images)
    for a, b in zip(found, images, strict=True):
        np.testing.assert_array_equal(a, b)


def test_images_and_annotations_come_from_a_server(stored_images):
    folder, images = stored_images
    handler = partial(SimpleHTTPRequestHandler, directory=str(folder))
    handler.log_message = lambda *_: None
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        place = dict(ann_file=f"{url}/faces.json", data_prefix=dict(img=f"{url}/images"))
        assert_same(stored(dict(backend="http"), **place), images)
        (folder / "faces.json").write_text('{"images": 3}')
        with pytest.raises(AnnotationError, match=f"^{url}/faces.json: 'categories' must be a list"):
            FaceDataset(**place)
        server.shutdown()


def zipped(folder):
    path = folder.parent / "images.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for image in sorted((folder / "images").iterdir()):
            archive.write(image, f"images/{image.name}")
    return path


def test_images_come_from_an_archive(stored_images):
    folder, images = stored_images
    place = dict(ann_file=str(folder / "faces.json"), data_prefix=dict(img="images"))
    path = zipped(folder)
    (folder / "images").rename(folder / "gone")
    assert_same(stored(dict(backend="zip", path=str(path)), **place), images)
    with pytest.raises(ImageError, match=r"images\.zip has no elsewhere/a\.png; names in it must be"):
        stored(dict(backend="zip", path=str(path)), **{**place, "data_prefix": dict(img="elsewhere")})


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_read_the_archive_each_for_itself(stored_images, start):
    folder, images = stored_images
    pipeline = [
        dict(type="LoadImageFromFile", backend_args=dict(backend="zip", path=str(zipped(folder)))),
        dict(type="LoadFaceAnnotations"),
        dict(type="PackFaceInputs"),
    ]
    dataset = FaceDataset(ann_file=str(folder / "faces.json"), data_prefix=dict(img="images"), pipeline=pipeline)
    _ = dataset[0]  # the archive is open when workers start
    repeated = RepeatDataset(dataset, 20)
    loader = DataLoader(repeated, batch_size=None, num_workers=2, multiprocessing_context=start)
    assert_same([item["inputs"].numpy().transpose(1, 2, 0) for item in loader], images * 20)


@pytest.mark.parametrize("content", [None, b"no archive"])
def test_a_damaged_archive_is_named(tmp_path, content):
    path = tmp_path / "images.zip"
    if content:
        path.write_bytes(content)
    with pytest.raises(AnnotationError, match=r"images\.zip is not an intact ZIP archive"):
        ZipBackend(path)


def test_a_damaged_member_is_named(stored_images):
    path = zipped(stored_images[0])
    data = bytearray(path.read_bytes())
    data[200] ^= 255
    path.write_bytes(data)
    with pytest.raises(ImageError, match=r"images\.zip: images/a\.png can't be read"):
        ZipBackend(path).get("images/a.png")


def test_images_come_from_a_database(stored_images):
    lmdb = pytest.importorskip("lmdb")
    folder, images = stored_images
    with lmdb.open(str(folder / "db"), map_size=1 << 24) as database, database.begin(write=True) as transaction:
        for name in ("a.png", "b.jpg"):
            transaction.put(f"images/{name}".encode(), (folder / "images" / name).read_bytes())
    place = dict(ann_file=str(folder / "faces.json"), data_prefix=dict(img="images"))
    (folder / "images").rename(folder / "gone")
    assert_same(stored(dict(backend="lmdb", db_path=str(folder / "db")), **place), images)
