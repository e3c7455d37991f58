"""The same two faces in the formats that people bring, written by hand: no writer of the package is used."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np

SIZE = (200, 100)
"""Width and height of each image."""
BOXES = [[20, 10, 60, 50], [100, 20, 140, 80]]
POINTS = [[30, 20], [50, 20], [40, 30], [32, 40], [48, 40]]
"""Landmarks of the first face; the second one has none."""
NAMES = ("left_eye", "right_eye", "nose", "left_mouth", "right_mouth")


def draw_images(folder: Path, names: tuple[str, ...] = ("a.png", "b.jpg")) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), np.full((SIZE[1], SIZE[0], 3), 90, np.uint8))


def coco(landmarks: bool = True, **category: Any) -> dict[str, Any]:
    """Two images; the first has both faces, the second none."""
    images = [dict(id=i, file_name=name, width=200, height=100) for i, name in ((7, "a.png"), (9, "b.jpg"))]
    faces = [
        dict(id=i, image_id=7, category_id=3, bbox=[x1, y1, x2 - x1, y2 - y1], iscrowd=0)
        for i, (x1, y1, x2, y2) in enumerate(BOXES)
    ]
    if landmarks:
        faces[0]["keypoints"] = [v for i, (x, y) in enumerate(POINTS) for v in (x, y, 1 + i % 2)]
        faces[1]["keypoints"] = [0] * 15
    names = list(NAMES) if landmarks else []
    return dict(images=images, annotations=faces, categories=[dict(id=3, name="face", keypoints=names, **category)])


def write_coco(folder: Path, **options: Any) -> Path:
    draw_images(folder / "images")
    path = folder / "faces.json"
    path.write_text(json.dumps(coco(**options)))
    return path


def yolo_line(box: list[int], points: list[list[int]] | None = None, landmarks: bool = True, label: int = 0) -> str:
    (x1, y1, x2, y2), (w, h) = box, SIZE
    values: list[float] = [(x1 + x2) / 2 / w, (y1 + y2) / 2 / h, (x2 - x1) / w, (y2 - y1) / h]
    if landmarks:
        values += [v for x, y in points or () for v in (x / w, y / h, 2)] or [0] * 15
    return " ".join([str(label), *map(str, values)]) + "\n"


def write_yolo(folder: Path, landmarks: bool = True, data_file: bool = True) -> Path:
    """``images/train``, ``images/val`` and their labels; the image of val has no faces and no label file."""
    draw_images(folder / "images", ("train/a.png", "val/b.jpg"))
    (folder / "labels/train").mkdir(parents=True)
    lines = [yolo_line(BOXES[0], POINTS, landmarks), yolo_line(BOXES[1], None, landmarks)]
    (folder / "labels/train/a.txt").write_text("".join(lines))
    if data_file:
        shape = "kpt_shape: [5, 3]\n" if landmarks else ""
        text = f"# my faces\npath: .\ntrain: images/train\nval: images/val\nnames:\n  0: face\n{shape}"
        (folder / "data.yaml").write_text(text)
    return folder


def voc_xml(name: str, boxes: list[list[int]], **marks: str) -> str:
    """Corners count pixels from 1, and the last one belongs to the box."""
    objects = "".join(
        f"<object>\n<name>{marks.get('name', 'face')}</name><difficult>{marks.get('difficult', '0')}</difficult>\n"
        f"<bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>\n"
        for x1, y1, x2, y2 in boxes
    )
    size = "<size><width>200</width><height>100</height><depth>3</depth></size>"
    return f"<annotation>\n<filename>{name}</filename>{size}\n{objects}</annotation>\n"


def write_voc(folder: Path) -> Path:
    draw_images(folder / "JPEGImages")
    (folder / "Annotations").mkdir()
    (folder / "Annotations/a.xml").write_text(voc_xml("a.png", BOXES))
    (folder / "Annotations/b.xml").write_text(voc_xml("b.jpg", []))
    return folder


def labelme(name: str = "a.png", faces: bool = True) -> dict[str, Any]:
    shapes: list[dict[str, Any]] = []
    if faces:
        shapes = [
            dict(label="face", shape_type="rectangle", points=[box[:2], box[2:]], flags={}, group_id=None)
            for box in BOXES
        ]
        shapes += [
            dict(label=label, shape_type="point", points=[point], flags={}, group_id=None)
            for label, point in zip(NAMES, POINTS, strict=True)
        ]
    return dict(
        version="5.5.0", flags={}, shapes=shapes, imagePath=name, imageData=None, imageWidth=200, imageHeight=100
    )


def write_labelme(folder: Path) -> Path:
    draw_images(folder)
    (folder / "a.json").write_text(json.dumps(labelme()))
    (folder / "b.json").write_text(json.dumps(labelme("b.jpg", faces=False)))
    return folder


WRITERS = {"coco": write_coco, "yolo": write_yolo, "voc": write_voc, "labelme": write_labelme}
