"""Annotations, predictions, ground truth, MOT files and training logs with odd numbers and damaged bytes."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.random import Generator
from scipy.io import savemat

from facedet_mm.datasets import read_ground_truth, read_predictions
from facedet_mm.datasets.annotations import KINDS, read_dataset
from facedet_mm.datasets.conversion import SUFFIXES, convert
from facedet_mm.report.logs import read_rows
from facedet_mm.tracking.mot import read_detections
from fuzzing.mutations import mutate_bytes, mutate_text

_WIDER = "0--Party/a.jpg\n2\n10 20 30 40 0 0 0 0 0 0\n1 2 3 4 2 0 0 0 2 1\n0--Party/b.jpg\n0\n0 0 0 0 0 0 0 0 0 0\n"
_RETINA = "# 0--Party/a.jpg\n10 20 30 40 1 2 0 3 4 0 5 6 0 7 8 0 9 10 0 0.5\n# 0--Party/b.jpg\n1 2 3 4\n"
_LABELV2 = "# 0--Party/a.jpg 640 480\n10 20 40 60 1 2 0 3 4 0 5 6 0 7 8 0 9 10 0\n# 0--Party/b.jpg 64 48\n"
_POINTS = "[1, 2, 2, 3, 4, 1, 5, 6, 0, 7, 8, 2, 9, 10, 2]"
_DOCUMENTS = {
    "faces.json": '{"images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 48}], "annotations": [{"id": 1, '
    f'"image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40], "iscrowd": 0, "keypoints": {_POINTS}}}], '
    '"categories": [{"id": 1, "name": "face", "keypoints": ["left_eye", "right_eye", "nose", "left_mouth", '
    '"right_mouth"]}]}',
    "a.xml": "<annotation><filename>a.png</filename><size><width>64</width><height>48</height></size><object><name>face"
    "</name><difficult>0</difficult><bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>40</ymax></bndbox></object>"
    "</annotation>",
    "a.json": '{"shapes": [{"label": "face", "shape_type": "rectangle", "points": [[1, 2], [30, 40]], "group_id": 1}, '
    '{"label": "nose", "shape_type": "point", "points": [[9, 9]], "group_id": 1}], "imagePath": "a.png", '
    '"imageWidth": 64, "imageHeight": 48}',
    "labels/a.txt": "0 0.5 0.5 0.1 0.1 0.1 0.2 2 0.3 0.4 2 0.5 0.6 0 0.7 0.8 2 0.9 0.1 2\n0 0.2 0.3 0.1 0.1\n",
    "data.yaml": "path: .\ntrain: images\nnames:\n  0: face\nkpt_shape: [5, 3]\n",
}
"""Name of a file → its content."""
_ODD: list[Any] = [
    *(
        None,
        True,
        [],
        {},
        "",
        "x",
        "../x.png",
        "/etc/x.png",
        "a\x1b[2J.png",
        "..",
        ".",
        "# 1",
        "a/b/c.png",
        "nose",
        "a.png",
    ),
    *(-1, 0, 1, 2, 7, 1.5, 1e30, 3.4e38, 3.5e38, 1e308, -3e38, 10**25, [1, 2], [[1, 2]] * 5, {"id": 1}, [0] * 51),
]
_PREDICTION = "a\n2\n10.5 20 30 40 0.9\n1 2 3 4 0.25\n"
_MOT = "1,-1,10,20,30,40,0.9,-1,-1,-1\n2,3,11,21,30,40,0.8,-1,-1,-1\n"
_LOG = '{"lr": 0.01, "loss": 1.5, "epoch": 1, "iter": 50, "step": 50}\n{"wider_face/hard": 0.5, "step": 1}\n'


def read_annotation_file(folder: Path, rng: Generator) -> str:
    """Makes and reads one text or MAT file."""
    readers: list[Callable[[Path, Generator], None]] = [
        _annotations,
        _documents,
        _documents,
        _predictions,
        _ground_truth,
        _mot,
        _log,
    ]
    readers[int(rng.integers(len(readers)))](folder, rng)
    return ""


def _annotations(folder: Path, rng: Generator) -> None:
    path = folder / "faces.txt"
    path.write_bytes(mutate_text(str(rng.choice([_WIDER, _RETINA, _LABELV2])), rng))
    _read_and_convert(path, folder, rng)


def _documents(folder: Path, rng: Generator) -> None:
    """Makes and reads a file of COCO, Pascal VOC or labelme, or a label file or ``data.yaml`` of YOLO."""
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    cv2.imwrite(str(folder / "images/a.png"), np.zeros((48, 64, 3), np.uint8))
    name = str(rng.choice(list(_DOCUMENTS)))
    for other in ("labels/a.txt", "data.yaml") if name in ("labels/a.txt", "data.yaml") else ():
        (folder / other).write_text(_DOCUMENTS[other])
    path = folder / name
    content = _DOCUMENTS[name]
    if rng.random() < 0.2:
        path.write_bytes(mutate_text(content, rng))
    elif name.endswith(".json"):
        document = json.loads(content)
        _mutate_values(document, rng)
        path.write_text(json.dumps(document))
    else:
        words = re.findall(r"[\w.]+|\W", content)
        words[int(rng.integers(len(words)))] = str(rng.choice(list(map(str, _ODD))))
        path.write_text("".join(words))
    _read_and_convert(folder if name in ("labels/a.txt", "data.yaml") else path, folder, rng)


def _mutate_values(document: Any, rng: Generator) -> None:
    """Replaces, removes or repeats values of a JSON document at random places."""
    for _ in range(int(rng.integers(1, 4))):
        place = document
        while True:
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            if not keys:
                break
            key = keys[int(rng.integers(len(keys)))]
            if isinstance(place[key], (dict, list)) and rng.random() < 0.8:
                place = place[key]
                continue
            if rng.random() < 0.15:
                del place[key]
            elif isinstance(place, list) and rng.random() < 0.2:
                place.append(copy.deepcopy(place[key]))
            else:
                place[key] = copy.deepcopy(_ODD[int(rng.integers(len(_ODD)))])
            break


def _read_and_convert(path: Path, folder: Path, rng: Generator) -> None:
    """Reads annotations, writes them in another format, and reads those."""
    data = read_dataset(path)
    for image in data.images:
        assert np.isfinite(np.asarray(image.boxes, np.float32)).all()
    kind = str(rng.choice(list(KINDS)))
    out = folder / f"out{SUFFIXES.get(kind, '')}"
    convert(data, data.folder or folder / "images", kind, out)
    if kind != "yolo" and data.images:
        found = read_dataset(out).images
        assert sorted(image.name for image in found) == sorted(image.name for image in data.images)


def _predictions(folder: Path, rng: Generator) -> None:
    path = folder / "predictions" / "0--Party" / "a.txt"
    path.parent.mkdir(parents=True)
    path.write_bytes(mutate_text(_PREDICTION, rng))
    read_predictions(folder / "predictions")


def _mot(folder: Path, rng: Generator) -> None:
    path = folder / "det.txt"
    path.write_bytes(mutate_text(_MOT.replace(",", " "), rng).replace(b" ", b","))
    for faces in read_detections(path).values():
        assert np.isfinite(faces.boxes).all()


def _log(folder: Path, rng: Generator) -> None:
    path = folder / "scalars.json"
    path.write_bytes(mutate_text(_LOG, rng))
    read_rows(path)


def _ground_truth(folder: Path, rng: Generator) -> None:
    boxes = np.array([[10.0, 20, 30, 40], [1, 2, 3, 4]])
    index = np.array([[1], [2]])
    match int(rng.integers(6)):
        case 0:
            boxes[0, 0] = rng.choice([np.nan, np.inf, 3.5e38, -1])
        case 1:
            boxes = boxes.T
        case 2:
            index = np.array([[1.9], [-1]])
        case 3:
            index = np.array([[7]])
    names = np.array([["a"], ["a" if rng.random() < 0.3 else "b"]], object)
    cell = np.empty((1, 1), object)

    def events(values: list[np.ndarray]) -> np.ndarray:
        images = np.empty((len(values), 1), object)
        for i, value in enumerate(values):
            images[i, 0] = value
        outer = cell.copy()
        outer[0, 0] = images
        return outer

    event = cell.copy()
    event[0, 0] = "0--Party"
    files = cell.copy()
    files[0, 0] = names
    faces = {"event_list": event, "file_list": files, "face_bbx_list": events([boxes, np.zeros((0, 4))])}
    savemat(folder / "wider_face_val.mat", faces)
    for setting in ("easy", "medium", "hard"):
        savemat(folder / f"wider_{setting}_val.mat", {"gt_list": events([index, np.zeros((0, 1))])})
    if rng.random() < 0.4:
        path = folder / str(rng.choice(["wider_face_val.mat", "wider_easy_val.mat"]))
        path.write_bytes(mutate_bytes(path.read_bytes(), rng))
    read_ground_truth(folder)
