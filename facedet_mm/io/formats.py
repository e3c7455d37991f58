"""Faces as rows and records of common text formats: JSON, CSV, MOTChallenge and COCO.

All functions are pure: they return text or plain values, and the caller writes the file.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from facedet_mm.structures import LANDMARK_NAMES, Faces

__all__ = [
    "CSV_COLUMNS",
    "ImageFaces",
    "coco_document",
    "csv_rows",
    "csv_text",
    "face_records",
    "json_record",
    "mot_lines",
]

CSV_COLUMNS = (
    "image",
    *("x1", "y1", "x2", "y2", "score", "track_id"),
    *(f"{name}_{axis}" for name in LANDMARK_NAMES for axis in "xy"),
)
"""Header for :func:`csv_rows`; the same for every model, so that it can be written before the first face."""

_PIXEL_DIGITS = 2
_SCORE_DIGITS = 6


_LINE_END = "\r\n"
"""What ``csv`` quotes a cell for; with a line end of ``\\n`` it would leave a carriage return in a name bare."""


class ImageFaces(NamedTuple):
    """The name and size of an image, and its faces.

    Attributes:
        name: Path, file name or other name of the image.
        width: Width in pixels.
        height: Height in pixels.
        faces: Faces, in pixels of the image.
        attributes: Further columns, one value per face, as of ``FaceAttributes.to_dict``; ``None`` if there are none.

    Example:
        >>> ImageFaces("a.jpg", 640, 480, Faces.empty()).faces
        Faces(n=0, boxes=[], scores=[])
    """

    name: str
    width: int
    height: int
    faces: Faces
    attributes: Mapping[str, Sequence[Any]] | None = None


def face_records(faces: Faces, attributes: Mapping[str, Sequence[Any]] | None = None) -> list[dict[str, Any]]:
    """Returns one dict per face, ``{"box", "score"[, "landmarks"][, "track_id"]}``, rounded to 0.01 pixels and 10⁻⁶.

    Args:
        faces: The faces.
        attributes: Further columns, which become the dict ``"attributes"`` of each face.

    Example:
        >>> face_records(Faces([[10, 20, 30, 50]], [0.9], track_ids=[3]))
        [{'box': [10.0, 20.0, 30.0, 50.0], 'score': 0.9, 'track_id': 3}]
    """
    columns: dict[str, list[Any]] = {
        "box": _rounded(faces.boxes, _PIXEL_DIGITS),
        "score": _rounded(faces.scores, _SCORE_DIGITS),
    }
    if faces.landmarks is not None:
        columns["landmarks"] = _rounded(faces.landmarks, _PIXEL_DIGITS)
    if faces.track_ids is not None:
        columns["track_id"] = faces.track_ids.tolist()
    if attributes is not None:
        rows = zip(*attributes.values(), strict=True)
        columns["attributes"] = [dict(zip(attributes, row, strict=True)) for row in rows]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def json_record(image: ImageFaces) -> dict[str, Any]:
    """Returns ``{"image", "width", "height", "faces": [...]}`` with :func:`face_records`.

    Example:
        >>> json_record(ImageFaces("a.jpg", 640, 480, Faces.empty()))
        {'image': 'a.jpg', 'width': 640, 'height': 480, 'faces': []}
    """
    return {
        "image": image.name,
        "width": image.width,
        "height": image.height,
        "faces": face_records(image.faces, image.attributes),
    }


def csv_rows(name: str, faces: Faces, more: Sequence[Sequence[Any]] = ()) -> list[tuple[Any, ...]]:
    """Returns one row per face, in the order of :data:`CSV_COLUMNS`; what a face doesn't have is an empty string.

    That is the track ID of a face without a track, and the landmarks of a model that predicts none.

    Args:
        name: First column: the name of the image or the number of the frame.
        faces: Faces of that image.
        more: Further columns, one value per face.

    Example:
        >>> csv_rows("a.jpg", Faces([[10, 20, 30, 50]], [0.9]))[0][:7]
        ('a.jpg', 10.0, 20.0, 30.0, 50.0, 0.9, '')
    """
    boxes, scores = _rounded(faces.boxes, _PIXEL_DIGITS), _rounded(faces.scores, _SCORE_DIGITS)
    ids = [""] * len(faces) if faces.track_ids is None else [i if i >= 0 else "" for i in faces.track_ids.tolist()]
    coordinates = 2 * len(LANDMARK_NAMES)
    points: list[Any] = [[""] * coordinates] * len(faces)
    if faces.landmarks is not None:
        points = _rounded(faces.landmarks.reshape(len(faces), coordinates), _PIXEL_DIGITS)
    rest: list[Any] = list(zip(*more, strict=True)) or [()] * len(faces)
    tails = [(*xy, *others) for xy, others in zip(points, rest, strict=True)]
    return [(name, *box, score, i, *tail) for box, score, i, tail in zip(boxes, scores, ids, tails, strict=True)]


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    r"""Returns rows as comma-separated text, quoted where needed, each followed by a newline.

    Bytes of a file name that are not valid Unicode are written as backslash escapes.

    Example:
        >>> csv_text([("image", "score"), ("a, b.jpg", 0.9)])
        'image,score\n"a, b.jpg",0.9\n'
    """
    lines = _Lines()
    csv.writer(lines, lineterminator=_LINE_END).writerows(rows)
    text = "".join(line.removesuffix(_LINE_END) + "\n" for line in lines)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def mot_lines(frame: int, faces: Faces, score_digits: int = _SCORE_DIGITS) -> list[str]:
    """Returns MOTChallenge lines ``frame,id,left,top,width,height,score,-1,-1,-1``; without a track the ID is −1.

    Args:
        frame: Number of the frame; the first is 1.
        faces: Faces of that frame.
        score_digits: Decimal places of the scores.

    Example:
        >>> mot_lines(1, Faces([[10, 20, 30, 50]], [0.9], track_ids=[3]))
        ['1,3,10.00,20.00,20.00,30.00,0.900000,-1,-1,-1']
    """
    ids = [-1] * len(faces) if faces.track_ids is None else faces.track_ids.tolist()
    rows = zip(ids, _xywh(faces).tolist(), faces.scores.tolist(), strict=True)
    return [
        f"{frame},{i},{x:.2f},{y:.2f},{w:.2f},{h:.2f},{score:.{score_digits}f},-1,-1,-1"
        for i, (x, y, w, h), score in rows
    ]


def coco_document(images: Iterable[ImageFaces]) -> dict[str, Any]:
    """Returns a COCO annotation file: images and annotations numbered from 1, and the category ``face``.

    Example:
        >>> document = coco_document([ImageFaces("a.jpg", 640, 480, Faces([[10, 20, 30, 50]], [0.9]))])
        >>> document["images"], document["annotations"][0]["bbox"]
        ([{'id': 1, 'file_name': 'a.jpg', 'width': 640, 'height': 480}], [10.0, 20.0, 20.0, 30.0])
    """
    records: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, (name, width, height, faces, _) in enumerate(images, start=1):
        records.append({"id": image_id, "file_name": name, "width": width, "height": height})
        annotations += faces.to_coco(image_id, len(annotations) + 1)
    category = {"id": 1, "name": "face", "supercategory": "person", "keypoints": list(LANDMARK_NAMES), "skeleton": []}
    return {"images": records, "annotations": annotations, "categories": [category]}


class _Lines(list[str]):
    """Collects what ``csv`` writes, one row at a time."""

    write = list.append


def _xywh(faces: Faces) -> NDArray[np.float64]:
    corners = faces.boxes.astype(np.float64)
    return np.hstack([corners[:, :2], corners[:, 2:] - corners[:, :2]])


def _rounded(values: NDArray[np.floating], digits: int) -> list[Any]:
    rounded: list[Any] = np.round(values.astype(np.float64), digits).tolist()
    return rounded
