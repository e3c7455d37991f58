"""Data sets written in every format, read back, and read by programs of others."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from own_data import BOXES, WRITERS, draw_images, write_coco, write_labelme, write_voc, write_yolo

from facedet_mm.datasets import GroundTruth, read_ground_truth
from facedet_mm.datasets.annotations import KINDS, read_dataset
from facedet_mm.datasets.conversion import EVALUATION, SUFFIXES, convert
from facedet_mm.datasets.formats.labelme import read_labelme
from facedet_mm.datasets.records import FaceData, ImageAnnotation, Place, ReadOptions
from facedet_mm.datasets.splitting import split
from facedet_mm.datasets.statistics import measure
from facedet_mm.errors import AnnotationError, FaceDetError

SIZE = (320, 240)


def random_data(folder: Path, landmarks: bool = True, ignored: bool = True) -> FaceData:
    """Three images in two folders, the last without faces, with fractions, missing landmarks and faces to ignore."""
    rng = np.random.default_rng(1)
    names = ("party/a.png", "party/b & c.jpg", "beach/d.png")
    images, places = [], []
    for name, count in zip(names, (4, 2, 0), strict=True):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), np.zeros((SIZE[1], SIZE[0], 3), np.uint8))
        corners = rng.uniform(1, 120, (count, 2))
        boxes = np.hstack([corners, corners + rng.uniform(5, 100, (count, 2))]).round(3).astype(np.float32)
        points = rng.uniform(1, 200, (count, 5, 2)).round(2).astype(np.float32)
        weights = (rng.random((count, 5)) < 0.7).astype(np.float32)
        weights[1:2] = 0
        ignore = np.arange(count) == (2 if ignored else -1)
        points[weights == 0] = 0
        points[ignore] = 0
        weights[ignore] = 0
        tables = (points, weights) if landmarks else (None, None)
        images.append(ImageAnnotation(name, boxes, ignore, *tables))
        places.append(Place("made.json", "annotations", faces=tuple(range(count))))
    return FaceData("coco", images, places)


def assert_equal(found: FaceData, wanted: FaceData, landmarks: bool = True, atol: float = 0.0) -> None:
    """Checks that two data sets have the same faces, whatever the order of images."""
    by_name = {image.name.removeprefix("images/"): image for image in found.images}
    assert sorted(by_name) == sorted(image.name for image in wanted.images)
    for image in wanted.images:
        other = by_name[image.name]
        np.testing.assert_allclose(other.boxes, image.boxes, rtol=0, atol=atol)
        np.testing.assert_array_equal(other.ignore, image.ignore)
        if not landmarks:
            assert other.landmarks is None
        elif image.landmarks is not None and image.landmark_weights is not None:
            assert other.landmarks is not None
            assert other.landmark_weights is not None
            np.testing.assert_array_equal(other.landmark_weights, image.landmark_weights)
            seen = image.landmark_weights > 0
            np.testing.assert_allclose(other.landmarks[seen], image.landmarks[seen], rtol=0, atol=atol)


@pytest.mark.parametrize("landmarks", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_round_trip_gives_the_same_faces(tmp_path: Path, kind: str, landmarks: bool) -> None:
    ignored = kind not in ("retinaface", "yolo")
    data = random_data(tmp_path / "photos", landmarks, ignored)
    out = tmp_path / f"out{SUFFIXES.get(kind, '')}"
    lost = convert(data, tmp_path / "photos", kind, out, copy_images=True)
    read = read_dataset(out)
    assert read.kind == kind
    keeps = landmarks and kind not in ("wider", "voc")
    assert_equal(read, data, keeps, 1e-4 if kind == "yolo" else 0.0)
    assert lost == ([] if keeps or not landmarks else [f"landmarks of 3 faces are left out: {KINDS[kind]} has none"])
    folder = read.folder or tmp_path / "images"
    assert all((folder / image.name).is_file() for image in read.images)


@pytest.mark.parametrize("kind", KINDS)
def test_any_format_becomes_any_other(tmp_path: Path, kind: str) -> None:
    """From the hand-written files; VOC has no landmarks, and neither has what is made of it."""
    for source, write in WRITERS.items():
        write(tmp_path / source) if source != "coco" else write_coco(tmp_path / source)
    for source in WRITERS:
        place = tmp_path / source / ("faces.json" if source == "coco" else "")
        data = read_dataset(place)
        folder = data.folder or tmp_path / source / "images"
        out = tmp_path / f"{source}-{kind}{SUFFIXES.get(kind, '')}"
        convert(data, folder, kind, out, copy_images=kind == "yolo")
        (first,) = [image for image in read_dataset(out).images if len(image)]
        np.testing.assert_allclose(first.boxes, BOXES, atol=1e-3)
        expects = source != "voc" and kind not in ("voc", "wider")
        assert (first.landmark_weights is not None and first.landmark_weights.sum() == 5) == expects


def test_pycocotools_reads_what_is_written(tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    data = random_data(tmp_path)
    convert(data, tmp_path, "coco", tmp_path / "faces.json")
    document = coco.COCO(str(tmp_path / "faces.json"))
    (face,) = document.loadCats(document.getCatIds())
    assert (face["name"], len(face["keypoints"])) == ("face", 5)
    for image, record in zip(data.images, document.loadImgs(sorted(document.getImgIds())), strict=True):
        assert (record["file_name"], record["width"], record["height"]) == (image.name, *SIZE)
        faces = document.loadAnns(document.getAnnIds(imgIds=record["id"]))
        assert [bool(face["iscrowd"]) for face in faces] == image.ignore.tolist()
        boxes = np.array([face["bbox"] for face in faces]).reshape(-1, 4)
        np.testing.assert_allclose(boxes[:, 2:], image.boxes[:, 2:] - image.boxes[:, :2], atol=1e-4)
        assert image.landmark_weights is not None
        assert [face["num_keypoints"] for face in faces] == image.landmark_weights.sum(1).tolist()
    crowds = document.getAnnIds(iscrowd=True)
    assert len(crowds) == 1


def test_voc_files_count_pixels_from_one_and_escape_names(tmp_path: Path) -> None:
    data = read_dataset(write_voc(tmp_path / "a"))
    convert(data, data.folder, "voc", tmp_path / "b")
    tree = ElementTree.parse(tmp_path / "b/Annotations/a.xml")
    corners = [[int(box.findtext(n) or 0) for n in ("xmin", "ymin", "xmax", "ymax")] for box in tree.iter("bndbox")]
    assert corners == [[x1 + 1, y1 + 1, x2, y2] for x1, y1, x2, y2 in BOXES]
    convert(random_data(tmp_path), tmp_path, "voc", tmp_path / "c")
    assert ElementTree.parse(tmp_path / "c/Annotations/party/b & c.xml").findtext("filename") == "b & c.jpg"


def test_yolo_files_have_centers_and_sizes_as_fractions(tmp_path: Path) -> None:
    data = read_dataset(write_labelme(tmp_path / "a"))
    convert(data, data.folder, "yolo", tmp_path / "b")
    first, second = (tmp_path / "b/labels/a.txt").read_text().splitlines()
    assert first.startswith("0 0.2 0.3 0.2 0.4 0.15 0.2 2 0.25 0.2 2 0.2 0.3 2 0.16 0.4 2 0.24 0.4 2")
    assert second == "0 0.6 0.5 0.2 0.6" + " 0" * 15
    assert (tmp_path / "b/labels/b.txt").read_text() == ""
    assert "flip_idx: [1, 0, 2, 4, 3]" in (tmp_path / "b/data.yaml").read_text()


def test_yolo_cuts_at_the_border_and_says_so(tmp_path: Path) -> None:
    text = f"# a.png 200 100\n-20 -20 40 40 {'-5 3 0 ' + '6 7 0 ' * 4}\n300 10 340 50\n5 5 9 9 1\n7 7 7 7\n"
    (tmp_path / "faces.txt").write_text(text)
    draw_images(tmp_path)
    lost = convert(read_dataset(tmp_path / "faces.txt"), tmp_path, "yolo", tmp_path / "b", copy_images=True)
    assert lost == [
        "1 faces to ignore are left out: YOLO has no mark for them",
        "1 faces without area are left out: YOLO has none",
        "1 parts of faces outside of their image are left out: YOLO has fractions from 0 to 1",
        "1 landmarks outside of their image are left out: YOLO has fractions from 0 to 1",
        "1 faces outside of their image are left out: YOLO has fractions from 0 to 1",
    ]
    (image,) = read_dataset(tmp_path / "b").images
    assert image.boxes.tolist() == [[0, 0, 40, 40]]
    assert image.landmark_weights is not None
    assert image.landmark_weights.tolist() == [[0, 1, 1, 1, 1]]


def test_attributes_survive_in_wider_face_only(tmp_path: Path) -> None:
    (tmp_path / "faces.txt").write_text("a/x.jpg\n2\n10 20 30 40 2 0 1 0 2 1\n5 6 7 8 0 1 0 1 0 0\n")
    data = read_dataset(tmp_path / "faces.txt")
    assert convert(data, None, "wider", tmp_path / "b.txt") == []
    assert (tmp_path / "b.txt").read_text() == (tmp_path / "faces.txt").read_text()
    lost = convert(data, None, "retinaface", tmp_path / "c.txt")
    assert lost[0] == "attributes of 2 faces (blur, pose and others) are left out: RetinaFace has none"


def test_the_evaluation_files_are_those_that_the_metric_makes_of_the_annotations(tmp_path: Path) -> None:
    data = random_data(tmp_path / "photos")
    convert(data, tmp_path / "photos", EVALUATION, tmp_path / "ground_truth")
    found = read_ground_truth(tmp_path / "ground_truth")
    wanted = GroundTruth.from_images((image.name, image.boxes, image.ignore) for image in data.images)
    assert sorted(found.names) == sorted(wanted.names)
    for i, name in enumerate(found.names):
        j = wanted.names.index(name)
        rows, others = (slice(t.offsets[k], t.offsets[k + 1]) for t, k in ((found, i), (wanted, j)))
        np.testing.assert_allclose(found.boxes[rows], wanted.boxes[others], atol=1e-4)
        for setting, counted in wanted.settings.items():
            np.testing.assert_array_equal(found.settings[setting][rows], counted[others])
    assert found.settings["hard"].any()


def test_images_in_no_folder_belong_to_the_event_named_like_their_folder(tmp_path: Path) -> None:
    path = write_coco(tmp_path)
    convert(read_dataset(path), tmp_path / "images", EVALUATION, tmp_path / "truth")
    convert(read_dataset(path), None, EVALUATION, tmp_path / "other")
    for name in ("truth", "other"):
        assert read_ground_truth(tmp_path / name).names == ("images/a", "images/b")


@pytest.mark.parametrize("kind", [*KINDS, EVALUATION])
def test_nothing_is_overwritten(tmp_path: Path, kind: str) -> None:
    path = write_coco(tmp_path)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    for out in (path, tmp_path / "out"):
        before = sorted(tmp_path.rglob("*"))
        with pytest.raises(FaceDetError, match="exists; nothing is overwritten"):
            convert(read_dataset(path), tmp_path / "images", kind, out)
        assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(FaceDetError, match=r"images/a\.png exists; nothing is overwritten"):
        convert(read_dataset(path), tmp_path / "images", "coco", tmp_path / "other.json", copy_images=True)


@pytest.mark.parametrize("kind", [*KINDS, EVALUATION])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, kind: str) -> None:
    (tmp_path / "faces.txt").write_text("# ../../x.jpg 10 10\n1 2 3 4\n")
    with pytest.raises(AnnotationError, match=r"faces\.txt, line 1: image '../../x\.jpg' must be a path below"):
        convert(read_dataset(tmp_path / "faces.txt"), tmp_path, kind, tmp_path / "a/b/out")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["faces.txt"]


def test_images_that_would_share_a_file_are_named(tmp_path: Path) -> None:
    (tmp_path / "faces.txt").write_text("# a.jpg 10 10\n1 2 3 4\n# a.png 10 10\n1 2 3 4\n")
    data = read_dataset(tmp_path / "faces.txt")
    with pytest.raises(AnnotationError, match=r"a\.jpg and a\.png would share a file"):
        convert(data, None, "voc", tmp_path / "out")
    convert(data, None, "coco", tmp_path / "out.json")


def test_a_name_that_a_text_format_can_not_hold_is_refused(tmp_path: Path) -> None:
    document = json.loads(write_coco(tmp_path).read_text())
    document["images"][0]["file_name"] = "# a.png"
    (tmp_path / "faces.json").write_text(json.dumps(document))
    with pytest.raises(AnnotationError, match=r"can't be written"):
        convert(read_dataset(tmp_path / "faces.json"), None, "wider", tmp_path / "wider.txt")
    assert not (tmp_path / "wider.txt").exists()


def test_boxes_that_end_before_they_begin_become_boxes_without_area(tmp_path: Path) -> None:
    document = json.loads(write_coco(tmp_path).read_text())
    for face in document["annotations"]:
        face["bbox"][2] = -5
    (tmp_path / "faces.json").write_text(json.dumps(document))
    for kind in ("scrfd", "wider", "retinaface"):
        convert(read_dataset(tmp_path / "faces.json"), None, kind, tmp_path / f"{kind}.txt")
        (first, _) = read_dataset(tmp_path / f"{kind}.txt").images
        assert first.ignore.tolist() == [True, True]


def test_sizes_that_are_not_known_need_the_images(tmp_path: Path) -> None:
    (tmp_path / "faces.txt").write_text("# a.png\n1 2 3 4\n")
    with pytest.raises(AnnotationError, match=r"the size of a\.png is not known; say where the images are"):
        convert(read_dataset(tmp_path / "faces.txt"), None, "coco", tmp_path / "out.json")


def test_labelme_documents_are_those_of_their_folder(tmp_path: Path) -> None:
    data = random_data(tmp_path / "photos")
    convert(data, tmp_path / "photos", "labelme", tmp_path / "out")
    path = tmp_path / "out/party/a.json"
    document = json.loads(path.read_text())
    assert (document["imagePath"], document["imageWidth"], document["imageHeight"]) == ("a.png", *SIZE)
    assert read_labelme(path, path.parent, [(path, document)], ReadOptions()).images[0].name == "a.png"


class TestSplit:
    @pytest.fixture
    def data(self, tmp_path: Path) -> FaceData:
        path = tmp_path / "faces.txt"
        path.write_text("".join(f"# {e}/clip{i % 5}_{i}.jpg\n1 2 30 40\n" for e in "abcd" for i in range(25)))
        return read_dataset(path)

    @pytest.mark.parametrize("by", ["image", "folder", r"clip(\d+)_"])
    def test_parts_are_whole_and_apart_and_no_group_is_torn(self, data: FaceData, by: str) -> None:
        train, val = split(data, 0.25, by)
        names = [{image.name for image in part.images} for part in (train, val)]
        assert len(names[0] | names[1]) == 100
        assert not names[0] & names[1]
        assert abs(len(names[1]) - 25) <= 5
        key = {"image": str, "folder": lambda n: n[0]}.get(by, lambda n: n[6])
        assert not {key(n) for n in names[0]} & {key(n) for n in names[1]}
        assert [place.image for place in val.places] == [data.places[data.images.index(i)].image for i in val.images]

    def test_the_order_has_no_influence_and_the_seed_has(self, data: FaceData) -> None:
        turned = FaceData(data.kind, data.images[::-1], data.places[::-1])
        names = [
            sorted(i.name for i in split(d, 0.2, seed=s)[1].images) for d, s in ((data, 0), (turned, 0), (data, 1))
        ]
        assert names[0] == names[1] != names[2]

    @pytest.mark.parametrize(
        ("by", "message"),
        [
            ("(", "nor a regular expression"),
            ("x(.)", "does not match the image 'a/clip0_0.jpg'"),
            ("jpg", "at least two"),
        ],
    )
    def test_groups_that_do_not_work_are_refused(self, data: FaceData, by: str, message: str) -> None:
        with pytest.raises(FaceDetError, match=message):
            split(data, by=by)


def test_statistics_count_what_trains(tmp_path: Path) -> None:
    data = read_dataset(write_yolo(tmp_path))
    numbers = measure(data, [(200, 100), (1280, 100)])
    assert (numbers.images, numbers.empty_images, numbers.faces, numbers.with_landmarks) == (2, 1, 2, 1)
    np.testing.assert_allclose(numbers.face_sizes, [40, np.sqrt(40 * 60)], rtol=1e-5)
    np.testing.assert_allclose(numbers.fitted_sizes, np.array([40, np.sqrt(40 * 60)]) * 3.2, rtol=1e-5)
    assert numbers.to_dict()["faces_per_image"] == [0, 0.1, 0.5, 1, 1.5, 1.9, 2]
