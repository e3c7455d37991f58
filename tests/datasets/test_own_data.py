"""COCO, YOLO, Pascal VOC and labelme: read as what they are, and refused with file, record and remedy."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from own_data import (
    BOXES,
    NAMES,
    POINTS,
    WRITERS,
    coco,
    draw_images,
    labelme,
    voc_xml,
    write_labelme,
    write_voc,
    write_yolo,
    yolo_line,
)
from PIL import Image

from facedet_mm.datasets.annotations import read_dataset
from facedet_mm.errors import AnnotationError, ImageError, MissingDependencyError
from facedet_mm.io.dimensions import image_dimensions
from facedet_mm.io.images import read_image

FIVE = re.escape("the models learn five landmarks (left eye, right eye, nose")


def save(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@pytest.mark.parametrize("kind", WRITERS)
def test_the_content_tells_the_format_and_the_faces_are_the_same(tmp_path: Path, kind: str) -> None:
    data = read_dataset(WRITERS[kind](tmp_path))
    assert data.kind == kind
    first, second = data.images
    np.testing.assert_allclose(first.boxes, BOXES, atol=1e-4)
    assert (len(second), first.ignore.tolist()) == (0, [False, False])
    assert [image.name.rpartition("/")[2] for image in data.images] == ["a.png", "b.jpg"]
    if kind == "voc":
        assert first.landmarks is None
    else:
        assert first.landmarks is not None
        assert first.landmark_weights is not None
        np.testing.assert_allclose(first.landmarks[0], POINTS, atol=1e-4)
        assert first.landmark_weights.tolist() == [[1] * 5, [0] * 5]
    assert first.size == (200, 100)
    assert data.problems == []


@pytest.mark.parametrize("kind", WRITERS)
def test_places_name_the_line_or_record_of_a_face(tmp_path: Path, kind: str) -> None:
    data = read_dataset(WRITERS[kind](tmp_path))
    expected = {
        "coco": "faces.json, annotations[1]",
        "yolo": "labels/train/a.txt, line 2",
        "voc": "Annotations/a.xml, line 6",
        "labelme": "a.json, shapes[1]",
    }
    assert data.places[0].of_face(1) == str(tmp_path / expected[kind])


@pytest.mark.parametrize("kind", WRITERS)
def test_landmarks_can_be_left_out(tmp_path: Path, kind: str) -> None:
    data = read_dataset(WRITERS[kind](tmp_path), landmarks=False)
    assert data.images[0].landmarks is None
    assert len(data.images[0]) == 2


def test_landmarks_of_text_files_can_be_left_out(tmp_path: Path) -> None:
    path = save(tmp_path / "faces.txt", "# a.jpg\n1 2 30 40 " + "5 6 0 " * 5 + "\n")
    assert read_dataset(path).images[0].landmarks is not None
    assert read_dataset(path, landmarks=False).images[0].landmarks is None


class TestCoco:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda d: d["annotations"][1].update(bbox=[1, 2, 3]), r"annotations\[1\]: expected 4 numbers, bbox"),
            (lambda d: d["annotations"][1].update(bbox=[1, 2, 3, "4"]), r"annotations\[1\]: bbox .* must be a finite"),
            (lambda d: d["annotations"][1].update(bbox=[1, 2, 3, 1e39]), r"annotations\[1\]: bbox .* must be a finite"),
            (
                lambda d: d["annotations"][1].update(bbox=[3e38, 2, 3e38, 4]),
                r"annotations\[1\]: .* not finite in float",
            ),
            (lambda d: d["annotations"][0].update(image_id=1), r"annotations\[0\]: image_id 1 is not the id"),
            (lambda d: d["annotations"][0].update(image_id=[7]), r"annotations\[0\]: image_id \[7\] is not the id"),
            (lambda d: d["annotations"][0].update(category_id=1), r"annotations\[0\]: category_id 1 is not among"),
            (lambda d: d["annotations"].append(3), r"annotations\[2\] must be an object, not int"),
            (lambda d: d["annotations"][0].update(keypoints=[1, 2, 2] * 17), rf"\[0\] has 17 keypoints; {FIVE}"),
            (lambda d: d["annotations"][0].update(keypoints=[1, 2]), r"annotations\[0\]: expected 15 numbers"),
            (lambda d: d["images"][1].update(id=7), r"images\[1\]: the id 7 comes twice"),
            (lambda d: d["images"][1].update(file_name="./a.png"), r"images\[1\]: a.png is also images\[0\]"),
            (
                lambda d: d["images"][1].update(file_name="../b.jpg"),
                r"images\[1\]: image '../b.jpg' must be a path below",
            ),
            (lambda d: d["images"][1].update(file_name="/etc/b.jpg"), r"images\[1\]: image '/etc/b.jpg' must be"),
            (lambda d: d["images"][1].update(file_name="a\x1b[2J.png"), r"images\[1\]: image .* control characters"),
            (lambda d: d["images"][1].update(width=0), r"images\[1\]: width must be a whole number of pixels"),
            (
                lambda d: d["categories"].append(dict(id=3, name="x")),
                r"categories\[1\]: the id or name 'x' comes twice",
            ),
            (lambda d: d.pop("categories"), r"'categories' must be a list"),
            (lambda d: d.update(images={}), r"'images' must be a list"),
        ],
    )
    def test_a_wrong_record_is_named(self, tmp_path: Path, change: Any, message: str) -> None:
        document = coco()
        change(document)
        path = save(tmp_path / "faces.json", document)
        with pytest.raises(AnnotationError, match=re.escape(str(path)) + ".*" + message):
            read_dataset(path)

    def test_other_keypoints_are_no_obstacle_to_boxes_alone(self, tmp_path: Path) -> None:
        document = coco()
        document["annotations"][0]["keypoints"] = [1, 2, 2] * 17
        data = read_dataset(save(tmp_path / "faces.json", document), landmarks=False)
        assert len(data.images[0]) == 2

    def test_crowds_and_boxes_without_area_are_ignored(self, tmp_path: Path) -> None:
        document = coco()
        document["annotations"][0]["iscrowd"] = 1
        document["annotations"][1]["bbox"] = [5, 5, 0, 9]
        assert read_dataset(save(tmp_path / "faces.json", document)).images[0].ignore.tolist() == [True, True]

    def test_a_keypoint_without_visibility_has_no_weight(self, tmp_path: Path) -> None:
        document = coco()
        document["annotations"][0]["keypoints"][8] = 0  # the nose
        weights = read_dataset(save(tmp_path / "faces.json", document)).images[0].landmark_weights
        assert weights is not None
        assert weights[0].tolist() == [1, 1, 0, 1, 1]

    def test_named_keypoints_may_be_in_another_order(self, tmp_path: Path) -> None:
        document = coco()
        order = [2, 1, 0, 4, 3]
        document["categories"][0]["keypoints"] = [
            ["Left Eye", "reye", "nose", "mouth_left", "mouth-right"][i] for i in order
        ]
        document["categories"][0]["keypoints"][1] = "eye.right"
        values = document["annotations"][0]["keypoints"]
        document["annotations"][0]["keypoints"] = [v for i in order for v in values[3 * i : 3 * i + 3]]
        data = read_dataset(save(tmp_path / "faces.json", document))
        assert data.images[0].landmarks is not None
        assert data.images[0].landmarks[0].tolist() == POINTS
        assert data.notes == []

    def test_keypoints_without_known_names_are_taken_in_order_with_a_note(self, tmp_path: Path) -> None:
        document = coco()
        document["categories"][0]["keypoints"] = list("vwxyz")
        data = read_dataset(save(tmp_path / "faces.json", document))
        assert data.notes == [f"the keypoints v, w, x, y, z are taken as {', '.join(NAMES)}, in this order"]
        assert data.images[0].landmarks is not None
        assert data.images[0].landmarks[0].tolist() == POINTS

    def test_the_category_named_face_is_taken_and_the_rest_is_counted(self, tmp_path: Path) -> None:
        document = coco()
        document["categories"].insert(0, dict(id=1, name="person"))
        document["annotations"][1]["category_id"] = 1
        data = read_dataset(save(tmp_path / "faces.json", document))
        assert len(data.images[0]) == 1
        assert data.notes == ["category face is taken; 1 objects of other categories are left out (person)"]

    def test_one_of_several_other_categories_must_be_named(self, tmp_path: Path) -> None:
        document = coco()
        document["categories"] = [dict(id=3, name="head"), dict(id=4, name="hand")]
        path = save(tmp_path / "faces.json", document)
        with pytest.raises(
            AnnotationError, match=r"has 2 categories \(head, hand\) and none is named face.*--category"
        ):
            read_dataset(path)
        assert len(read_dataset(path, category="head").images[0]) == 2
        assert len(read_dataset(path, category="hand").images[0]) == 0
        with pytest.raises(AnnotationError, match=r"has no category 'foot'; it has head, hand"):
            read_dataset(path, category="foot")

    def test_the_only_category_may_have_any_name(self, tmp_path: Path) -> None:
        document = coco()
        document["categories"][0]["name"] = "Gesicht"
        assert len(read_dataset(save(tmp_path / "faces.json", document)).images[0]) == 2

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ('{"images": [\n}', "line 2: not JSON"),
            ('{"images": NaN}', "NaN is not a number"),
            ('{"images": [], "images": []}', "a name comes twice"),
            ("[" * 100_000, "not JSON that can be read"),
            ('{"images": ' + "9" * 5000 + "}", "not JSON that can be read"),
            ('{"boxes": []}', "neither COCO's .* nor labelme's"),
            ("[1, 2]", "neither COCO's"),
        ],
    )
    def test_other_json_is_refused(self, tmp_path: Path, text: str, message: str) -> None:
        with pytest.raises(AnnotationError, match=r"faces\.json.*" + message):
            read_dataset(save(tmp_path / "faces.json", text))

    def test_a_folder_with_one_document_is_that_document(self, tmp_path: Path) -> None:
        save(tmp_path / "annotations/faces.json", coco())
        assert read_dataset(tmp_path).kind == "coco"
        save(tmp_path / "annotations/val.json", coco())
        with pytest.raises(
            AnnotationError, match=r"several JSON files \(annotations/faces.json, annotations/val.json\)"
        ):
            read_dataset(tmp_path)

    def test_eyes_that_are_those_of_the_person_are_a_problem(self, tmp_path: Path) -> None:
        document = coco()
        points = document["annotations"][0]["keypoints"]
        document["annotations"][0]["keypoints"] = points[3:6] + points[:3] + points[6:]
        (problem,) = read_dataset(save(tmp_path / "faces.json", document)).problems
        assert problem.startswith("in 1 of 1 faces the left eye is right of the right eye")


class TestYolo:
    def test_a_split_is_its_folder_of_images(self, tmp_path: Path) -> None:
        write_yolo(tmp_path)
        train, val = (read_dataset(tmp_path / "images" / split) for split in ("train", "val"))
        assert [image.name for image in train.images] == ["a.png"]
        assert (train.folder, len(train.images[0])) == (tmp_path / "images/train", 2)
        assert [image.name for image in val.images] == ["b.jpg"]
        assert val.notes == ["1 of 1 images have no label file, so they have no faces"]

    @pytest.mark.parametrize("where", ["", "data.yaml"])
    def test_data_yaml_and_its_folder_are_all_splits(self, tmp_path: Path, where: str) -> None:
        data = read_dataset(write_yolo(tmp_path) / where)
        assert [image.name for image in data.images] == ["images/train/a.png", "images/val/b.jpg"]
        assert data.folder == tmp_path

    def test_data_yaml_is_not_needed(self, tmp_path: Path) -> None:
        data = read_dataset(write_yolo(tmp_path, data_file=False))
        assert [image.name for image in data.images] == ["train/a.png", "val/b.jpg"]
        assert data.images[0].landmarks is not None

    def test_splits_may_be_the_upper_folders_and_one_level_too_high(self, tmp_path: Path) -> None:
        draw_images(tmp_path / "train/images")
        save(tmp_path / "train/labels/a.txt", yolo_line(BOXES[0], landmarks=False))
        save(tmp_path / "data.yaml", "train: ../train/images\nnames: ['face']\nnc: 1\n")
        for place in (tmp_path, tmp_path / "train/images"):
            assert [len(image) for image in read_dataset(place).images] == [1, 0]

    def test_a_list_of_images_may_stand_for_a_folder(self, tmp_path: Path) -> None:
        write_yolo(tmp_path)
        path = save(tmp_path / "train.txt", "./images/train/a.png\n")
        data = read_dataset(path)
        assert [(image.name, len(image)) for image in data.images] == [("images/train/a.png", 2)]
        save(tmp_path / "data.yaml", "train: train.txt\nnames: [face]\nkpt_shape: [5, 3]\n")
        assert [image.name for image in read_dataset(tmp_path).images] == ["images/train/a.png"]

    def test_labels_may_lie_beside_the_images(self, tmp_path: Path) -> None:
        draw_images(tmp_path / "faces")
        save(tmp_path / "faces/a.txt", yolo_line(BOXES[0], landmarks=False))
        assert [len(image) for image in read_dataset(tmp_path / "faces").images] == [1, 0]

    def test_images_may_be_elsewhere(self, tmp_path: Path) -> None:
        draw_images(tmp_path / "elsewhere")
        save(tmp_path / "mine/labels/a.txt", yolo_line(BOXES[0], landmarks=False))
        data = read_dataset(tmp_path / "mine", images=tmp_path / "elsewhere")
        assert [(image.name, len(image)) for image in data.images] == [("a.png", 1), ("b.jpg", 0)]

    def test_a_landmark_is_missing_without_visibility_below_zero_or_in_the_corner(self, tmp_path: Path) -> None:
        write_yolo(tmp_path)
        fields = yolo_line(BOXES[0], POINTS).split()
        fields[7], fields[8], fields[11], fields[12] = "0", "-1", "0", "0"
        save(tmp_path / "labels/train/a.txt", " ".join(fields))
        weights = read_dataset(tmp_path).images[0].landmark_weights
        assert weights is not None
        assert weights.tolist() == [[0, 0, 0, 1, 1]]

    def test_two_values_per_landmark_must_be_announced(self, tmp_path: Path) -> None:
        write_yolo(tmp_path)
        points = " ".join(f"{x / 200} {y / 100}" for x, y in POINTS)
        line = f"{yolo_line(BOXES[0], landmarks=False).strip()} {points}\n"
        save(tmp_path / "labels/train/a.txt", line)
        with pytest.raises(AnnotationError, match=r"a\.txt, line 1: .* found 15: write the shape of landmarks"):
            read_dataset(tmp_path)
        save(tmp_path / "data.yaml", "train: images/train\nnames: [face]\nkpt_shape: [5, 2]\n")
        landmarks = read_dataset(tmp_path).images[0].landmarks
        assert landmarks is not None
        np.testing.assert_allclose(landmarks[0], POINTS, atol=1e-4)

    def test_another_number_of_keypoints_is_refused_unless_boxes_are_enough(self, tmp_path: Path) -> None:
        write_yolo(tmp_path)
        save(tmp_path / "data.yaml", "train: images/train\nnames: [face]\nkpt_shape: [17, 3]\n")
        save(tmp_path / "labels/train/a.txt", yolo_line(BOXES[0], [[1, 1]] * 17))
        with pytest.raises(AnnotationError, match=rf"data\.yaml: kpt_shape has 17 keypoints; {FIVE}"):
            read_dataset(tmp_path)
        np.testing.assert_allclose(read_dataset(tmp_path, landmarks=False).images[0].boxes, BOXES[:1], atol=1e-4)

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("0 0.5 0.5 0.1", r"found 4: write the shape"),
            ("0 0.5 0.5 0.1 0.1 0.9", r"found 6, as in predictions with a confidence"),
            ("0 0.1 0.1 0.2 0.1 0.2 0.2 0.1 0.2", "found 9: .*turn polygons into boxes"),
            ("0 50 50 10 10", "fractions of the image from 0 to 1, not pixels"),
            ("0 0.5 0.5 nan 0.1", "'nan' is not a finite number"),
            ("0 0.5 0.5 0.1 1_0", "'1_0' is not a plain decimal"),
            ("0.5 0.5 0.5 0.1 0.1", "'0.5' is not a whole number"),
            ("face 0.5 0.5 0.1 0.1", "'face' is not a number"),
            ("3 0.5 0.5 0.1 0.1", r"class 3 is not among the names of .*data\.yaml"),
            ("0 0.5 0.5 0.1 0.1 " + "30 20 2 " * 5, "landmarks must be fractions"),
        ],
    )
    def test_a_wrong_line_is_named(self, tmp_path: Path, line: str, message: str) -> None:
        write_yolo(tmp_path)
        save(tmp_path / "labels/train/a.txt", f"{yolo_line(BOXES[0], POINTS)}\n{line}\n")
        with pytest.raises(AnnotationError, match=r"labels/train/a\.txt, line 3: .*" + message):
            read_dataset(tmp_path)

    def test_labels_without_image_are_a_problem(self, tmp_path: Path) -> None:
        write_yolo(tmp_path)
        save(tmp_path / "labels/train/lost.txt", "")
        save(tmp_path / "labels/classes.txt", "face\n")
        (problem,) = read_dataset(tmp_path).problems
        assert problem.startswith(f"1 label files belong to no image: {tmp_path}/labels/train/lost.txt; add")

    def test_a_class_must_be_chosen_by_its_name(self, tmp_path: Path) -> None:
        write_yolo(tmp_path, landmarks=False)
        save(tmp_path / "labels/train/a.txt", yolo_line(BOXES[0], None, False) + yolo_line(BOXES[1], None, False, 1))
        save(tmp_path / "data.yaml", "train: images/train\nnames: [hand, head]\n")
        with pytest.raises(AnnotationError, match=r"has 2 categories \(hand, head\)"):
            read_dataset(tmp_path)
        np.testing.assert_allclose(read_dataset(tmp_path, category="head").images[0].boxes, BOXES[1:], atol=1e-4)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("train: /etc\nnames: [face]\n", "'/etc' leads out of its folder"),
            ("train: ../../x\nnames: [face]\n", "'../../x' leads out of its folder"),
            ("path: /etc\ntrain: .\nnames: [face]\n", "'/etc' leads out of its folder"),
            ("train: images/none\nnames: [face]\n", "images/none does not exist"),
            ("train:\nnames: [face]\n", "names no images; add 'train: images/train'"),
            ("train: images/train\nnames: [face\n", r"line \d+: not YAML"),
            ("train: images/train\nnames: !!python/object/apply:os.system ['touch {0}/ran']\n", "not YAML"),
            ("train: images/train\nnames: [1]\n", "names must be a list of names"),
            ("train: images/train\nnames: [a, a]\n", "a name comes twice"),
            ("train: images/train\nnames: [face]\nkpt_shape: 5\n", "kpt_shape must be two numbers"),
            ("names: [face]\ntrain: " + "[" * 5000, "not YAML"),
            ("names: [face]\ntrain: evil.txt\n", "leads out of its folder"),
        ],
    )
    def test_a_wrong_data_file_is_refused(self, tmp_path: Path, text: str, message: str) -> None:
        write_yolo(tmp_path)
        save(tmp_path / "evil.txt", "../../x.png\n")
        save(tmp_path / "data.yaml", text.replace("{0}", str(tmp_path)))
        with pytest.raises(AnnotationError, match=message):
            read_dataset(tmp_path)
        assert not (tmp_path / "ran").exists()

    def test_without_pyyaml_the_command_that_installs_it_is_told(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write_yolo(tmp_path)
        monkeypatch.setitem(sys.modules, "yaml", None)
        with pytest.raises(MissingDependencyError, match=r"data\.yaml needs PyYAML: pip install 'facedet-mm\[data\]'"):
            read_dataset(tmp_path)

    def test_a_damaged_image_is_named(self, tmp_path: Path) -> None:
        write_yolo(tmp_path)
        save(tmp_path / "images/train/a.png", "no image")
        with pytest.raises(ImageError, match=r"images/train/a\.png: not an image"):
            read_dataset(tmp_path)


class TestVoc:
    def test_difficult_objects_are_ignored(self, tmp_path: Path) -> None:
        path = save(tmp_path / "a.xml", voc_xml("a.png", BOXES, difficult="1"))
        assert read_dataset(path).images[0].ignore.tolist() == [True, True]

    def test_folders_below_annotations_are_those_of_the_images(self, tmp_path: Path) -> None:
        write_voc(tmp_path)
        save(tmp_path / "Annotations/party/c.xml", voc_xml("c.png", BOXES))
        data = read_dataset(tmp_path)
        assert [image.name for image in data.images] == ["a.png", "b.jpg", "party/c.png"]
        assert data.folder == tmp_path / "JPEGImages"

    def test_an_image_set_lists_stems(self, tmp_path: Path) -> None:
        write_voc(tmp_path)
        path = save(tmp_path / "ImageSets/Main/val.txt", "b\n")
        assert [image.name for image in read_dataset(path).images] == ["b.jpg"]
        save(path, "b\n../../etc/c\n")
        with pytest.raises(AnnotationError, match=r"val\.txt, line 2: there is no annotation"):
            read_dataset(path)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                lambda t: t.replace("<xmin>21</xmin>", "<xmin>x</xmin>"),
                "line 5: xmin, ymin, xmax, ymax must be numbers",
            ),
            (lambda t: t.replace("<xmin>21</xmin>", ""), r"line 5: <bndbox> must have a <xmin>"),
            (lambda t: t.replace("<xmin>21</xmin>", "<xmin>1e39</xmin>"), "line 5: .*not a finite number"),
            (lambda t: t.replace("bndbox", "box"), r"line 3: <object> must have a <bndbox>"),
            (lambda t: t.replace("<name>face</name>", ""), r"line 3: <object> must have a <name>"),
            (lambda t: t.replace("<filename>a.png</filename>", ""), r"line 1: <annotation> must have a <filename>"),
            (lambda t: t.replace("a.png", "../a.png"), r"image '../a.png' must be a path below"),
            (lambda t: t.replace("<width>200", "<width>wide"), r"line 2: the size must be whole numbers"),
            (lambda t: t.replace("</annotation>", ""), r"line 10: not XML"),
            (lambda t: t.replace("annotation>", "html>"), r"expected <annotation> of Pascal VOC, found <html>"),
            (lambda t: '<!DOCTYPE x [<!ENTITY a "b">]>' + t, "line 1: a document type or entity is declared"),
            (lambda t: t.replace("face", "&a;"), "line 4: not XML: undefined entity"),
            (lambda _: "<annotation>" * 100_000, "line 1: elements are nested too deeply"),
        ],
    )
    def test_a_wrong_element_is_named(self, tmp_path: Path, change: Any, message: str) -> None:
        path = save(tmp_path / "a.xml", change(voc_xml("a.png", BOXES)))
        with pytest.raises(AnnotationError, match=r"a\.xml.*" + message):
            read_dataset(path)

    def test_an_entity_bomb_takes_no_memory(self, tmp_path: Path) -> None:
        entities = "".join(f'<!ENTITY e{i} "{f"&e{i - 1};" * 10}">' for i in range(1, 12))
        bomb = (
            f'<!DOCTYPE annotation [<!ENTITY e0 "lol">{entities}]><annotation><filename>&e11;</filename></annotation>'
        )
        path = save(tmp_path / "a.xml", bomb)
        with pytest.raises(AnnotationError, match=r"a document type or entity is declared.*remove the declaration"):
            read_dataset(path)

    def test_an_image_that_two_files_annotate_is_refused(self, tmp_path: Path) -> None:
        write_voc(tmp_path)
        save(tmp_path / "Annotations/b.xml", voc_xml("a.png", BOXES))
        with pytest.raises(AnnotationError, match=r"b\.xml: its image a\.png is annotated in two files"):
            read_dataset(tmp_path)


class TestLabelme:
    def test_group_ids_and_the_smallest_rectangle_decide_whose_a_point_is(self, tmp_path: Path) -> None:
        document = labelme()
        around = dict(label="face", shape_type="rectangle", points=[[0, 0], [199, 99]], flags={})
        document["shapes"].insert(0, around)
        weights = read_dataset(save(tmp_path / "a.json", document)).images[0].landmark_weights
        assert weights is not None
        assert weights.sum(1).tolist() == [0, 5, 0]
        document["shapes"][0]["group_id"] = 4
        for shape in document["shapes"][3:]:
            shape["group_id"] = 4
        weights = read_dataset(save(tmp_path / "a.json", document)).images[0].landmark_weights
        assert weights is not None
        assert weights.sum(1).tolist() == [5, 0, 0]

    def test_corners_may_be_drawn_in_any_order_and_flags_ignore(self, tmp_path: Path) -> None:
        document = labelme()
        document["shapes"][0].update(points=[[60, 10], [20, 50]], flags={"ignore": True})
        (image,) = read_dataset(save(tmp_path / "a.json", document)).images
        assert (image.boxes.tolist(), image.ignore.tolist()) == (BOXES, [True, False])

    def test_other_shapes_are_counted(self, tmp_path: Path) -> None:
        document = labelme()
        document["shapes"].append(dict(label="face", shape_type="polygon", points=[[0, 0], [1, 1], [0, 1]]))
        document["shapes"].append(dict(label="ear", shape_type="point", points=[[30, 30]]))
        (note,) = read_dataset(save(tmp_path / "a.json", document)).notes
        assert note.endswith("are left out: 1 points, 1 polygons")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda d: d.update(imagePath="../../a.png"), r"imagePath '../../a.png' leads out of .*give the folder"),
            (lambda d: d.update(imagePath="/etc/a.png"), "imagePath '/etc/a.png' leads out of"),
            (lambda d: d.pop("imagePath"), "imagePath must be the path of the image"),
            (lambda d: d["shapes"][0].update(points=[[1, 2]]), r"shapes\[0\]: a rectangle must have 2 points, not 1"),
            (lambda d: d["shapes"][0].update(points=[[1, 2], [3, "x"]]), r"shapes\[0\]: a coordinate must be a finite"),
            (lambda d: d["shapes"][0].pop("label"), r"shapes\[0\] must be an object with a label"),
            (lambda d: d["shapes"][2].update(points=[[199, 99]]), r"shapes\[2\]: left_eye is in no face; give it"),
            (lambda d: d["shapes"][2].update(group_id=5), r"shapes\[2\]: 0 faces have its group_id 5"),
            (
                lambda d: d["shapes"][3].update(label="left_eye"),
                r"shapes\[3\]: the face shapes\[0\] has a second left_eye",
            ),
            (lambda d: d.update(imageWidth=1.5), "imageWidth must be a whole number of pixels"),
        ],
    )
    def test_a_wrong_shape_is_named(self, tmp_path: Path, change: Any, message: str) -> None:
        document = labelme()
        change(document)
        path = save(tmp_path / "a.json", document)
        with pytest.raises(AnnotationError, match=re.escape(str(path)) + ".*" + message):
            read_dataset(path)

    def test_images_may_be_in_another_folder_of_the_data_set(self, tmp_path: Path) -> None:
        save(tmp_path / "json/a.json", labelme("..\\images\\a.png"))
        data = read_dataset(tmp_path)
        assert (data.images[0].name, data.folder) == ("images/a.png", tmp_path)


def test_a_folder_of_something_else_is_refused_with_what_is_expected(tmp_path: Path) -> None:
    save(tmp_path / "notes.txt", "hello")
    with pytest.raises(AnnotationError, match=r"expected a file of WIDER FACE, .*; this folder has none"):
        read_dataset(tmp_path)


def test_a_category_of_a_format_without_categories_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"has no categories, so category='head'"):
        read_dataset(save(tmp_path / "faces.txt", "# a.jpg\n1 2 3 4\n"), category="head")


def test_reading_needs_no_torch(tmp_path: Path) -> None:
    write_labelme(tmp_path)
    code = "import sys; from facedet_mm.datasets.annotations import read_dataset; read_dataset(sys.argv[1]); "
    code += "assert not {'torch', 'mmdet', 'mmengine'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".gif", ".webp", ".tif", ".ppm"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_dimensions_are_those_of_the_image_as_it_is_read(tmp_path: Path, suffix: str, orientation: int) -> None:
    image = Image.fromarray(np.zeros((30, 50, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a{suffix}"
    image.save(path, **({"exif": exif} if suffix in (".jpg", ".png", ".webp", ".tif") else {}))
    height, width = read_image(path).shape[:2]
    assert image_dimensions(path) == (width, height)


def test_dimensions_of_damaged_and_missing_files(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((30, 50, 3), np.uint8))
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:30])
    for name, message in (("a.jpg", "a.jpg"), ("b.jpg", "no such file")):
        with pytest.raises(ImageError, match=message):
            image_dimensions(tmp_path / name)
