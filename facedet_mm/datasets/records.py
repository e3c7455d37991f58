"""The faces of a data set as every annotation format gives them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedet_mm.errors import AnnotationError
from facedet_mm.structures import LANDMARK_NAMES
from facedet_mm.system.text import FLOAT32_MAX, has_control_characters, one_line

ATTRIBUTE_NAMES = ("blur", "expression", "illumination", "invalid", "occlusion", "pose")
"""Columns of :attr:`ImageAnnotation.attributes`, in the order of the WIDER FACE files."""

LANDMARK_REMEDY = (
    "the models learn five landmarks (left eye, right eye, nose, left and right corner of the mouth, left and right as "
    "seen in the image): keep those five, or read the boxes alone with landmarks=False (--no-landmarks)"
)
_NO_POINTS = ((0.0, 0.0, 0.0),) * len(LANDMARK_NAMES)
_SIDES = {"left": "left", "l": "left", "right": "right", "r": "right"}
_PARTS = {"eye": "eye", "mouth": "mouth", "lip": "mouth", "nose": "nose"}


@dataclass(frozen=True, eq=False)
class ImageAnnotation:
    """The N annotated faces of one image.

    Attributes:
        name: Path of the image below the image folder, ``event/image.jpg``.
        boxes: (N, 4) float32, x1 y1 x2 y2 in pixels; may reach beyond the image.
        ignore: (N,) bool, faces that are marked as invalid or have no area.
        landmarks: (N, 5, 2) float32, x y in pixels; ``None`` when the data set has no landmarks.
        landmark_weights: (N, 5) float32, 1 where the landmark is annotated, else 0; ``None`` like ``landmarks``.
        attributes: (N, 6) int64, columns :data:`ATTRIBUTE_NAMES`; ``None`` when the data set has none.
        size: Width and height of the image in pixels; ``None`` when the data set does not have them.

    Example:
        >>> image = ImageAnnotation("party/1.jpg", np.array([[12, 10, 50, 62]], np.float32), np.array([False]))
        >>> len(image), image.landmarks
        (1, None)
    """

    name: str
    boxes: NDArray[np.float32]
    ignore: NDArray[np.bool_]
    landmarks: NDArray[np.float32] | None = None
    landmark_weights: NDArray[np.float32] | None = None
    attributes: NDArray[np.int64] | None = None
    size: tuple[int, int] | None = None

    def __len__(self) -> int:
        return len(self.boxes)


@dataclass(frozen=True)
class Place:
    """Where an image and its faces are annotated, for messages.

    Attributes:
        file: The annotation file.
        unit: What ``image`` and ``faces`` count: ``line``, or the name of a JSON list.
        image: Line or index of the image, if there is one.
        faces: Line or index of each face.

    Example:
        >>> Place("a.txt", "line", faces=(3, 4)).of_face(1), Place("a.json", "annotations", faces=(7,)).of_face(0)
        ('a.txt, line 4', 'a.json, annotations[7]')
    """

    file: str
    unit: str
    image: int | None = None
    faces: Sequence[int] = ()

    def of_face(self, index: int) -> str:
        """Returns file and line, or file and index, of a face."""
        number = self.faces[index]
        return f"{self.file}, line {number}" if self.unit == "line" else f"{self.file}, {self.unit}[{number}]"

    def of_image(self) -> str:
        """Returns the file, and where the format has one for all images, the line or index of the image."""
        if self.image is None:
            return self.file
        return f"{self.file}, line {self.image}" if self.unit == "line" else f"{self.file}, images[{self.image}]"


@dataclass(frozen=True, eq=False)
class FaceData:
    """A data set as it was read.

    Attributes:
        kind: Name of the format: a key of :data:`~facedet_mm.datasets.annotations.KINDS`.
        images: The images in the order of the data set.
        places: Where each image is annotated.
        folder: Folder that the names are relative to; ``None`` when the format does not say.
        notes: What was chosen or left out, one line each.
        problems: What is wrong but does not keep the faces from being read, one line each.
    """

    kind: str
    images: list[ImageAnnotation]
    places: list[Place]
    folder: Path | None = None
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class ReadOptions:
    """What to take from annotations that have more than faces.

    Attributes:
        category: Name of the category that means faces; ``None`` takes the only one, or the one named ``face``.
        landmarks: Whether to read landmarks.
        images: Folder of the images, for formats that need their sizes (YOLO); ``None`` for the usual place.
    """

    category: str | None = None
    landmarks: bool = True
    images: Path | None = None


class ImageBuilder:
    """Collects the faces of one image and checks their numbers.

    Args:
        name: Path of the image below the image folder.
        place: Where the image is annotated; the places of faces are added.
        size: Width and height of the image in pixels, if known.

    Raises:
        AnnotationError: The name leads out of the folder or has control characters.
    """

    def __init__(self, name: str, place: Place, size: tuple[int, int] | None = None) -> None:
        self.name = check_name(name, place.of_image())
        self.size = size
        self.boxes: list[Sequence[float]] = []
        self.ignore: list[bool] = []
        self.points: list[Sequence[Sequence[float]] | None] = []
        self._place = place
        self._numbers: list[int] = []

    def add(
        self,
        number: int,
        corners: Sequence[float],
        ignore: bool = False,
        points: Sequence[Sequence[float]] | None = None,
    ) -> None:
        """Adds a face.

        Args:
            number: Line or index of the face.
            corners: x1 y1 x2 y2 in pixels; a box without area is ignored.
            ignore: Whether the face is to be ignored.
            points: Five times x y and weight, or ``None``.

        Raises:
            AnnotationError: A number is not finite in float32.
        """
        self._numbers.append(number)
        values = [*corners, *(value for point in points or () for value in point)]
        if not max(map(abs, values)) <= FLOAT32_MAX or math.isnan(sum(values)):
            place = replace(self._place, faces=(number,)).of_face(0)
            raise AnnotationError(f"{place}: the box or a landmark is not finite in float32; correct the number")
        self.boxes.append(corners)
        self.ignore.append(ignore or corners[2] <= corners[0] or corners[3] <= corners[1])
        self.points.append(points)

    def place(self) -> Place:
        """Returns where the image and its faces are annotated."""
        return replace(self._place, faces=tuple(self._numbers))


def finish(builders: Iterable[ImageBuilder]) -> tuple[list[ImageAnnotation], list[Place]]:
    """Returns the images and their places; landmarks are ``None`` if no face of any image has one."""
    builders = list(builders)
    some = any(point[2] for image in builders for points in image.points for point in points or ())
    images = []
    for image in builders:
        boxes = np.array(image.boxes, np.float32).reshape(-1, 4)
        ignore = np.array(image.ignore, bool)
        if not some:
            images.append(ImageAnnotation(image.name, boxes, ignore, size=image.size))
            continue
        rows = [_NO_POINTS if points is None else points for points in image.points]
        table = np.array(rows, np.float32).reshape(-1, len(LANDMARK_NAMES), 3)
        images.append(ImageAnnotation(image.name, boxes, ignore, table[..., :2], table[..., 2], size=image.size))
    return images, [image.place() for image in builders]


def check_name(name: str, place: str) -> str:
    """Returns the name of an image with ``/`` between folders.

    Raises:
        AnnotationError: It is empty or absolute, leads out of the image folder, or has control characters.

    Example:
        >>> check_name("party\\\\1.jpg", "faces.json"), check_name("./1.jpg", "faces.json")
        ('party/1.jpg', '1.jpg')
    """
    parts = [part for part in name.replace("\\", "/").split("/") if part != "."]
    absolute = parts[:1] == [""] or (parts and parts[0].endswith(":"))
    if absolute or not parts[-1:] or ".." in parts or "" in parts or has_control_characters(name):
        raise AnnotationError(
            f"{place}: image {one_line(name)[:200]!r} must be a path below the image folder, without .. and control "
            "characters; write names relative to the image folder"
        )
    return "/".join(parts)


def choose_category(counts: Mapping[str, int], wanted: str | None, path: Path) -> tuple[str | None, list[str]]:
    """Returns the category that means faces and a note on those that are left out.

    Args:
        counts: Category → number of its objects.
        wanted: Category that the user names.
        path: The data set, for messages.

    Raises:
        AnnotationError: There are several categories and none is named, or the named one does not exist.
    """
    names = ", ".join(one_line(name) for name in list(counts)[:10]) + (", …" if len(counts) > 10 else "")
    if wanted is not None and wanted not in counts:
        raise AnnotationError(f"{path} has no category {wanted!r}; it has {names or 'none'}")
    faces = [name for name in counts if name.casefold() == "face"]
    if wanted is None and len(counts) > 1 and len(faces) != 1:
        raise AnnotationError(
            f"{path} has {len(counts)} categories ({names}) and none is named face; say which one means faces: "
            "category='NAME' (--category NAME)"
        )
    chosen = wanted if wanted is not None else next(iter(faces or counts), None)
    if len(counts) < 2:
        return chosen, []
    left_out = sum(count for name, count in counts.items() if name != chosen)
    others = names if len(counts) > 10 else ", ".join(one_line(name) for name in counts if name != chosen)
    return chosen, [f"category {chosen} is taken; {left_out:,} objects of other categories are left out ({others})"]


def landmark_index(name: str) -> int | None:
    """Returns the index of a landmark in ``LANDMARK_NAMES`` by a name of any style, ``None`` if it is none of them.

    Example:
        >>> [landmark_index(name) for name in ("left_eye", "Right Eye", "nose-tip", "mouth_left", "ear")]
        [0, 1, 2, 3, None]
    """
    words = re.findall("[a-z]+", name.lower())
    sides = {_SIDES[word] for word in words if word in _SIDES}
    parts = {_PARTS[word] for word in words if word in _PARTS}
    if parts == {"nose"} and not sides:
        return LANDMARK_NAMES.index("nose")
    if len(parts) != 1 or len(sides) != 1:
        return None
    wanted = f"{sides.pop()}_{parts.pop()}"
    return LANDMARK_NAMES.index(wanted) if wanted in LANDMARK_NAMES else None


def number(value: Any, place: str, what: str) -> float:
    """Returns a JSON value that must be a finite number.

    Raises:
        AnnotationError: It is something else.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= FLOAT32_MAX:
        raise AnnotationError(f"{place}: {what} must be a finite number, not {one_line(repr(value))[:60]}")
    return float(value)


def image_dimension(value: Any, place: str, what: str) -> int:
    """Returns a width or height in pixels, a whole number from 1 on.

    Raises:
        AnnotationError: It is something else.
    """
    pixels = number(value, place, what)
    if pixels < 1 or pixels != math.floor(pixels) or pixels >= 1 << 31:
        raise AnnotationError(f"{place}: {what} must be a whole number of pixels from 1 on, not {value!r}")
    return int(pixels)


def crossed_eyes(images: Iterable[ImageAnnotation]) -> str | None:
    """Returns a line if in most faces the left eye is right of the right one, which means another convention."""
    crossed = total = 0
    for image in images:
        if image.landmarks is not None and image.landmark_weights is not None:
            both = image.landmark_weights[:, :2].all(1)
            crossed += int((both & (image.landmarks[:, 0, 0] > image.landmarks[:, 1, 0])).sum())
            total += int(both.sum())
    if 2 * crossed <= total:
        return None
    return (
        f"in {crossed:,} of {total:,} faces the left eye is right of the right eye: left and right must be those "
        "seen in the image, not those of the person; swap the eyes and the corners of the mouth"
    )
