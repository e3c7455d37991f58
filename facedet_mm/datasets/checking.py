"""Finds what is wrong with a data set, each fault with its file and line or record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from facedet_mm.datasets.images import image_path
from facedet_mm.datasets.predictions import image_key
from facedet_mm.datasets.records import FaceData, ImageAnnotation, Place
from facedet_mm.errors import FaceDetError
from facedet_mm.io.dimensions import image_dimensions
from facedet_mm.io.images import read_image

MISSING = "image is missing"
KINDS_OF_FAULTS = {
    MISSING: "put the images there, or say where they are (--images DIR)",
    "image can't be read": "repair or remove the images",
    "image has another size": "boxes may be those of another version of the images; correct the size or the boxes",
    "image is listed twice": "join the faces of an image in one place",
    "images have one name for the evaluation": "rename one: folder and name without suffix must differ",
    "box has no area": "remove or correct the boxes; they are ignored in training",
    "box is outside of the image": "remove or correct the boxes; training would learn what can't be seen",
    "box comes twice": "remove one of the boxes",
    "landmarks are outside of the box": "correct the landmarks, or remove them",
    "whole data set": "",
}
"""Kind of fault → what to do."""


def find_faults(data: FaceData, folder: Path, decode: bool = False) -> Iterator[tuple[str, str]]:
    """Yields the faults of a data set.

    Args:
        data: The data set.
        folder: Folder of its images.
        decode: Whether to decode every image, which finds truncated ones; otherwise only headers are read.

    Yields:
        A key of :data:`KINDS_OF_FAULTS`, and a line that names the place.
    """
    for problem in data.problems:
        yield "whole data set", problem
    if not any(len(image) for image in data.images):
        yield "whole data set", f"none of the {len(data.images):,} images has a face"
    names: dict[str, Place] = {}
    keys: dict[str, str] = {}
    for image, place in zip(data.images, data.places, strict=True):
        where = place.of_image()
        if image.name in names:
            yield "image is listed twice", f"{where}: {image.name} is also in {names[image.name].of_image()}"
            continue
        names[image.name] = place
        key = image_key(image.name)
        if keys.setdefault(key, image.name) != image.name:
            yield "images have one name for the evaluation", f"{where}: {image.name} and {keys[key]} are both {key}"
        size, fault = _measure(image, place, folder, decode)
        if fault:
            yield fault
        yield from _faults_of_faces(image, place, image.size or size)


def _measure(
    image: ImageAnnotation, place: Place, folder: Path, decode: bool
) -> tuple[tuple[int, int] | None, tuple[str, str] | None]:
    """Returns the size of the image file and what is wrong with it."""
    try:
        path = image_path(folder, image.name)
        if not path.is_file():
            return None, (MISSING, f"{place.of_image()}: {path} does not exist")
        if decode:
            height, width = read_image(path, notify=lambda _: None).shape[:2]
        else:
            width, height = image_dimensions(path)
    except FaceDetError as error:
        return None, ("image can't be read", f"{place.of_image()}: {error}")
    if image.size not in (None, (width, height)):
        line = f"{path} has {width} x {height} pixels, the annotation says {image.size[0]} x {image.size[1]}"
        return (width, height), ("image has another size", f"{place.of_image()}: {line}")
    return (width, height), None


def _faults_of_faces(image: ImageAnnotation, place: Place, size: tuple[int, int] | None) -> Iterator[tuple[str, str]]:
    seen: dict[tuple[float, ...], int] = {}
    for i, box in enumerate(image.boxes.tolist()):
        say: Callable[[str], str] = f"{place.of_face(i)}: {image.name}: box {_shown(box)}{{}}".format
        if box[2] <= box[0] or box[3] <= box[1]:
            yield "box has no area", say("")
            continue
        if size and (box[2] <= 0 or box[3] <= 0 or box[0] >= size[0] or box[1] >= size[1]):
            yield "box is outside of the image", say(f" in an image of {size[0]} x {size[1]}")
        if (first := seen.setdefault(tuple(box), i)) != i:
            yield "box comes twice", say(f", also {place.of_face(first)}")
        if _landmarks_are_elsewhere(image, i):
            yield "landmarks are outside of the box", say("")


def _landmarks_are_elsewhere(image: ImageAnnotation, index: int) -> bool:
    """Returns whether the center of a face's landmarks is not in its box."""
    if image.landmarks is None or image.landmark_weights is None or not image.landmark_weights[index].any():
        return False
    center = image.landmarks[index][image.landmark_weights[index] > 0].astype(np.float64).mean(0)
    box = image.boxes[index]
    return bool((center < box[:2]).any() or (center > box[2:]).any())


def _shown(box: list[float]) -> str:
    return " ".join(f"{value:.6g}" for value in box)
