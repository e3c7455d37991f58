"""The attributes that WIDER FACE has for each face, such as blur, occlusion and pose."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facedet_mm.datasets.annotations import ATTRIBUTE_NAMES, ImageAnnotation, read_annotations
from facedet_mm.datasets.ground_truth import FACES_FILE, GroundTruth, mat_folder, read_ground_truth
from facedet_mm.datasets.mat_files import load_mat, official_layout, whole_numbers
from facedet_mm.datasets.predictions import image_key
from facedet_mm.errors import AnnotationError

__all__ = ["ATTRIBUTE_LABELS", "AnnotatedFaces", "read_annotated_faces"]

ATTRIBUTE_LABELS = {
    "blur": ("clear", "normal", "heavy"),
    "occlusion": ("none", "partial", "heavy"),
    "pose": ("typical", "atypical"),
    "illumination": ("normal", "extreme"),
    "expression": ("typical", "exaggerated"),
}
"""Attribute → the meanings of its values 0, 1, 2 (readme.txt of ``wider_face_split``)."""

_BOX_TOLERANCE = 2.0
"""Largest difference in pixels between the boxes of one face in two annotation files: one face of WIDER val is two
pixels wider in the text file than in the MAT file."""


@dataclass(frozen=True, eq=False)
class AnnotatedFaces:
    """The ground truth with the attributes of each face.

    Attributes:
        ground_truth: F faces and the settings that count them.
        attributes: Attribute → (F,) int64, values of :data:`ATTRIBUTE_LABELS`; empty when the annotation has none.
        official: Whether the settings are those of WIDER FACE rather than made from the height of the faces.

    Example:
        >>> truth = GroundTruth.from_images([("party/1.jpg", [[12, 10, 50, 62]], [False])])
        >>> AnnotatedFaces(truth, {"blur": np.array([2]), "pose": np.array([0])}).describe(0)
        'heavy blur'
    """

    ground_truth: GroundTruth
    attributes: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    official: bool = False

    def describe(self, face: int) -> str:
        """Returns in words what makes the face in a row hard to find."""
        values = {name: int(column[face]) for name, column in self.attributes.items()}
        return ", ".join(f"{ATTRIBUTE_LABELS[name][value]} {name}" for name, value in values.items() if value)


def read_annotated_faces(
    path: str | os.PathLike[str], attributes: str | os.PathLike[str] | None = None
) -> AnnotatedFaces:
    """Reads faces, settings and attributes.

    Args:
        path: Folder with the four official MAT files, or an annotation file, whose settings are made from the height
            of the faces.
        attributes: Annotation file in WIDER FACE format with the attributes of the same faces, for MAT files without
            attributes.

    Raises:
        AnnotationError: A file is missing or malformed, or ``attributes`` does not fit ``path``.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder, "faces.txt")
        ...     _ = file.write_text("party/1.jpg\\n1\\n12 10 38 52 2 0 0 0 1 0\\n")
        ...     read_annotated_faces(file).describe(0)
        'heavy blur, partial occlusion'
    """
    path = Path(path)
    if path.is_file():
        annotations = read_annotations(path)
        truth = GroundTruth.from_images((image.name, image.boxes, image.ignore) for image in annotations)
        columns = _attribute_columns(annotations, truth, path)
    else:
        truth = read_ground_truth(path)
        columns = _mat_columns(mat_folder(path) / FACES_FILE, truth)
    if attributes is not None:
        columns = _attribute_columns(read_annotations(Path(attributes)), truth, Path(attributes))
        if not columns:
            raise AnnotationError(
                f"{attributes} holds no attributes; expected WIDER FACE lines x y w h blur expression illumination "
                "invalid occlusion pose"
            )
    return AnnotatedFaces(truth, columns, official=path.is_dir())


def _attribute_columns(
    annotations: Sequence[ImageAnnotation], truth: GroundTruth, path: Path
) -> dict[str, NDArray[np.int64]]:
    """Returns the attributes of an annotation file, in the order of the faces of ``truth``."""
    by_key = {image_key(image.name): image for image in annotations}
    tables: list[NDArray[np.int64]] = [np.zeros((0, len(ATTRIBUTE_NAMES)), np.int64)]
    for i, name in enumerate(truth.names):
        boxes = truth.boxes[truth.offsets[i] : truth.offsets[i + 1]]
        image = by_key.get(name)
        if image is None:
            raise AnnotationError(f"{path} has no image {name}, which the ground truth has")
        if image.boxes.shape != boxes.shape or np.abs(image.boxes - boxes).max(initial=0) > _BOX_TOLERANCE:
            raise AnnotationError(f"{path}: the faces of {name} are not those of the ground truth")
        if image.attributes is None:
            return {}
        tables.append(image.attributes)
    table = np.concatenate(tables)
    return {name: _checked(table[:, ATTRIBUTE_NAMES.index(name)], name, path) for name in ATTRIBUTE_LABELS}


def _mat_columns(path: Path, truth: GroundTruth) -> dict[str, NDArray[np.int64]]:
    """Returns the attributes of the official MAT file; reduced copies have none."""
    try:
        lists = load_mat(path, tuple(f"{name}_label_list" for name in ATTRIBUTE_LABELS))
    except AnnotationError:
        return {}
    columns = {}
    for name in ATTRIBUTE_LABELS:
        with official_layout(path):
            events = lists[f"{name}_label_list"].ravel()
            images = [whole_numbers(image, name) for event in events for image in event.ravel()]
            column = np.concatenate([np.zeros(0, np.int64), *images])
        if len(column) != len(truth.boxes) or [len(image) for image in images] != np.diff(truth.offsets).tolist():
            raise AnnotationError(
                f"{path}: {name}_label_list has {len(column)} labels for {len(truth.boxes)} faces, or they are those "
                "of other images"
            )
        columns[name] = _checked(column, name, path)
    return columns


def _checked(column: NDArray[np.int64], name: str, path: Path) -> NDArray[np.int64]:
    highest = len(ATTRIBUTE_LABELS[name]) - 1
    if ((column < 0) | (column > highest)).any():
        wrong = column[(column < 0) | (column > highest)][0]
        raise AnnotationError(f"{path}: a face has {name} {wrong}; expected 0 to {highest}")
    return column
