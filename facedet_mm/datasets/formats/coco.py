"""COCO JSON: boxes, and keypoints where each face has five."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from facedet_mm.datasets.formats.numbers import short, widths
from facedet_mm.datasets.records import (
    LANDMARK_REMEDY,
    FaceData,
    ImageAnnotation,
    ImageBuilder,
    Place,
    ReadOptions,
    choose_category,
    finish,
    image_dimension,
    landmark_index,
    number,
)
from facedet_mm.errors import AnnotationError
from facedet_mm.structures import LANDMARK_NAMES
from facedet_mm.system.files import write_text
from facedet_mm.system.text import FLOAT32_MAX

_POINTS = len(LANDMARK_NAMES)
_VISIBLE = 2
_NO_POINT = (0.0, 0.0, 0.0)


def read_coco(path: Path, document: Mapping[str, Any], options: ReadOptions) -> FaceData:
    """Reads a COCO document (https://cocodataset.org/#format-data).

    Objects with ``iscrowd`` are ignored. A keypoint with visibility 0 is not annotated; 1 and 2 are alike. If the
    category names its keypoints and all five are known, they may be in any order.

    Args:
        path: Name of the file.
        document: Its content, with the lists ``images`` and ``annotations``.
        options: What to take.

    Raises:
        AnnotationError: A record is malformed, keypoints are not five, or several categories might be faces.
    """
    categories = _categories(path, document)
    builders = _images(path, document)
    records = _list(path, document, "annotations")
    counts: Counter[str] = Counter(dict.fromkeys(categories.values(), 0))
    for index, record in enumerate(records):
        place = f"{path}, annotations[{index}]"
        if not isinstance(record, dict):
            raise AnnotationError(f"{place} must be an object, not {type(record).__name__}")
        if _key(record, "category_id") not in categories:
            raise AnnotationError(f"{place}: category_id {record.get('category_id')!r:.60} is not among the categories")
        if _key(record, "image_id") not in builders:
            raise AnnotationError(f"{place}: image_id {record.get('image_id')!r:.60} is not the id of an image")
        counts[categories[record["category_id"]]] += 1
    chosen, notes = choose_category(counts, options.category, path)
    order, order_notes = _order(path, document, chosen)
    has_points = False
    for index, record in enumerate(records):
        if categories[record["category_id"]] != chosen:
            continue
        place = f"{path}, annotations[{index}]"
        points = _points(record, place, order) if options.landmarks else None
        has_points |= points is not None
        x, y, width, height = _numbers(record.get("bbox"), 4, place, "bbox [x, y, width, height]")
        corners = (x, y, x + width, y + height)
        builders[record["image_id"]].add(index, corners, bool(record.get("iscrowd", 0)), points)
    return FaceData("coco", *finish(builders.values()), notes=notes + (order_notes if has_points else []))


def _list(path: Path, document: Mapping[str, Any], key: str) -> list[Any]:
    value = document.get(key)
    if not isinstance(value, list):
        raise AnnotationError(f"{path}: {key!r} must be a list, as in COCO's format")
    return value


def _key(record: Mapping[str, Any], key: str) -> Any:
    """Returns an ID, or an object that no ID equals."""
    value = record.get(key)
    return value if isinstance(value, (int, str)) and not isinstance(value, bool) else object()


def _categories(path: Path, document: Mapping[str, Any]) -> dict[Any, str]:
    categories: dict[Any, str] = {}
    for index, record in enumerate(_list(path, document, "categories")):
        name = record.get("name") if isinstance(record, dict) else None
        if not isinstance(name, str) or "id" not in record or not isinstance(record["id"], (int, str)):
            raise AnnotationError(f"{path}, categories[{index}] must be an object with an id and a name")
        if record["id"] in categories or name in categories.values():
            raise AnnotationError(f"{path}, categories[{index}]: the id or name {name!r:.60} comes twice")
        categories[record["id"]] = name
    return categories


def _images(path: Path, document: Mapping[str, Any]) -> dict[Any, ImageBuilder]:
    builders: dict[Any, ImageBuilder] = {}
    names: dict[str, int] = {}
    for index, record in enumerate(_list(path, document, "images")):
        place = f"{path}, images[{index}]"
        if not isinstance(record, dict) or not isinstance(record.get("file_name"), str):
            raise AnnotationError(f"{place} must be an object with a file_name")
        key = record.get("id")
        if not isinstance(key, (int, str)) or isinstance(key, bool):
            raise AnnotationError(f"{place}: id must be a whole number, not {key!r:.60}")
        if key in builders:
            raise AnnotationError(f"{place}: the id {key!r:.60} comes twice; give every image its own")
        size = None
        if record.get("width") is not None and record.get("height") is not None:
            width, height = (image_dimension(record[side], place, side) for side in ("width", "height"))
            size = (width, height)
        builders[key] = ImageBuilder(record["file_name"], Place(str(path), "annotations", index), size)
        if names.setdefault(builders[key].name, index) != index:
            raise AnnotationError(f"{place}: {builders[key].name} is also images[{names[builders[key].name]}]")
    return builders


def _order(path: Path, document: Mapping[str, Any], chosen: str | None) -> tuple[list[int], list[str]]:
    """Returns the index in ``LANDMARK_NAMES`` of each keypoint of the category, and a note if that was a guess."""
    record: Mapping[str, Any] = next((c for c in document["categories"] if c["name"] == chosen), {})
    names = record.get("keypoints") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise AnnotationError(f"{path}: the keypoints of category {chosen!r} must be a list of names")
    known = [landmark_index(name) for name in names]
    found = [index for index in known if index is not None]
    if sorted(found) == list(range(_POINTS)) == sorted(range(len(names))):
        return found, []
    what = f"the keypoints {', '.join(names)[:200]}" if names else "keypoints without names"
    return list(range(_POINTS)), [f"{what} are taken as {', '.join(LANDMARK_NAMES)}, in this order"]


def _points(record: Mapping[str, Any], place: str, order: Sequence[int]) -> list[tuple[float, float, float]] | None:
    values = record.get("keypoints")
    if values is None or values == []:
        return None
    if isinstance(values, list) and len(values) != 3 * _POINTS and len(values) % 3 == 0:
        raise AnnotationError(f"{place} has {len(values) // 3} keypoints; {LANDMARK_REMEDY}")
    flat = _numbers(values, 3 * _POINTS, place, "keypoints [x, y, visibility, …]")
    points = [_NO_POINT] * _POINTS
    for i, index in enumerate(order):
        x, y, visible = flat[3 * i : 3 * i + 3]
        points[index] = (x, y, 1.0) if visible > 0 else _NO_POINT
    return points


def _numbers(values: Any, count: int, place: str, what: str) -> list[float]:
    if not isinstance(values, list) or len(values) != count:
        raise AnnotationError(f"{place}: expected {count} numbers, {what}, found {str(values)[:60]!r}")
    if {type(value) for value in values} <= {int, float} and max(map(abs, values)) <= FLOAT32_MAX:
        return values
    return [number(value, place, what) for value in values]


def write_coco(path: Path, images: Sequence[ImageAnnotation], sizes: Sequence[tuple[int, int]]) -> None:
    """Writes a COCO document with the category ``face``; faces to ignore get ``iscrowd`` 1.

    Args:
        path: The file.
        images: Images with their faces.
        sizes: Width and height of each image in pixels.
    """
    some = any(image.landmarks is not None for image in images)
    category: dict[str, Any] = {"id": 1, "name": "face", "supercategory": "person"}
    if some:
        category["keypoints"] = list(LANDMARK_NAMES)
    document: dict[str, list[Any]] = {"images": [], "annotations": [], "categories": [category]}
    for image_id, (image, (width, height)) in enumerate(zip(images, sizes, strict=True), start=1):
        record = {"id": image_id, "file_name": image.name, "width": width, "height": height}
        document["images"].append(record)
        for i in range(len(image)):
            x, y = map(short, image.boxes[i, :2])
            w, h = widths(image.boxes[i])
            face: dict[str, Any] = {"id": len(document["annotations"]) + 1, "image_id": image_id, "category_id": 1}
            face |= {"bbox": [x, y, w, h], "area": w * h, "iscrowd": int(image.ignore[i]), "segmentation": []}
            if some:
                face |= _keypoints(image, i)
            document["annotations"].append(face)
    write_text(path, json.dumps(document) + "\n")


def _keypoints(image: ImageAnnotation, index: int) -> dict[str, Any]:
    values: list[float] = []
    if image.landmarks is not None and image.landmark_weights is not None:
        for (x, y), weight in zip(image.landmarks[index], image.landmark_weights[index], strict=True):
            values += [short(x), short(y), _VISIBLE] if weight > 0 else [0, 0, 0]
    values = values or [0] * (3 * _POINTS)
    return {"keypoints": values, "num_keypoints": sum(v > 0 for v in values[2::3])}
