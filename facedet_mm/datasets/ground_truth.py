"""Ground truth from the official WIDER FACE MAT files or from annotated boxes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facedet_mm.datasets.mat_files import image_boxes, load_mat, name_of, official_layout, whole_numbers
from facedet_mm.datasets.predictions import image_key, refuse_duplicates
from facedet_mm.errors import AnnotationError
from facedet_mm.system.text import FLOAT32_MAX

SETTINGS = ("easy", "medium", "hard")
"""The three settings of WIDER FACE; each counts a subset of the faces."""

MIN_HEIGHTS = {"easy": 50, "medium": 30, "hard": 10}
"""Smallest face height in pixels of the settings that are made from annotated boxes."""

FACES_FILE = "wider_face_val.mat"


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """F annotated faces of M images in flat columns.

    Attributes:
        names: M image keys ``event/image``, see :func:`~facedet_mm.datasets.predictions.image_key`.
        offsets: (M + 1,) int64; the rows of image ``i`` are ``offsets[i]:offsets[i + 1]``.
        boxes: (F, 4) float64, x1 y1 x2 y2 in pixels, where x2 = x1 + width.
        settings: Setting → (F,) bool, the faces that count in it; all others are ignored there.

    Example:
        >>> boxes = [[0, 0, 40, 60], [0, 0, 20, 20]]
        >>> GroundTruth.from_images([("party/1.jpg", boxes, [False, False])]).settings["medium"].tolist()
        [True, False]
    """

    names: tuple[str, ...]
    offsets: NDArray[np.int64]
    boxes: NDArray[np.float64]
    settings: dict[str, NDArray[np.bool_]]

    @classmethod
    def from_images(cls, images: Iterable[tuple[str, ArrayLike, ArrayLike]]) -> GroundTruth:
        """Makes settings from the height of the faces, see :data:`MIN_HEIGHTS`, for data without official settings.

        Report them under another name. On WIDER FACE val, their AP is 0.1 points below the official one in easy and
        medium and 0.8 points below in hard (two detectors).

        Args:
            images: Name, boxes (n, 4) x1 y1 x2 y2 in pixels, and ignore (n,) bool of each image; faces to ignore
                count in no setting.

        Raises:
            AnnotationError: An image comes twice, or a box is not finite in float32.
        """
        names: list[str] = []
        counts: list[int] = [0]
        boxes: list[NDArray[np.float64]] = [np.zeros((0, 4))]
        ignore: list[NDArray[np.bool_]] = [np.zeros(0, bool)]
        for name, given_boxes, given_ignore in images:
            names.append(image_key(name))
            boxes.append(np.asarray(given_boxes, np.float64).reshape(-1, 4))
            ignore.append(np.asarray(given_ignore, bool))
            counts.append(len(boxes[-1]))
        refuse_duplicates(names, names)
        all_boxes = np.concatenate(boxes)
        heights = all_boxes[:, 3] - all_boxes[:, 1]
        valid = ~np.concatenate(ignore)
        settings = {name: valid & (heights >= least) for name, least in MIN_HEIGHTS.items()}
        return cls(tuple(names), np.cumsum(counts, dtype=np.int64), all_boxes, settings)

    def __post_init__(self) -> None:
        usable = (np.abs(self.boxes) <= FLOAT32_MAX).all(1)
        if not usable.all():  # an area would overflow, and every IoU of the image would be NaN
            row = int(np.argmin(usable))
            image = self.names[int(np.searchsorted(self.offsets, row, side="right")) - 1]
            raise AnnotationError(f"{image}: a face is not finite in float32: {self.boxes[row].tolist()}")

    def __len__(self) -> int:
        return len(self.names)


def read_ground_truth(folder: str | os.PathLike[str]) -> GroundTruth:
    """Reads the four official MAT files.

    Args:
        folder: Folder with ``wider_face_val.mat`` and ``wider_{easy,medium,hard}_val.mat``, or a folder whose
            subfolder ``ground_truth`` has them.

    Raises:
        AnnotationError: A file is missing, is not a MAT file, or does not fit the others.
    """
    folder = mat_folder(Path(folder))
    with official_layout(folder / FACES_FILE) as path:
        names, offsets, boxes = _read_faces(path)
    settings = {}
    for setting in SETTINGS:
        with official_layout(folder / f"wider_{setting}_val.mat") as path:
            settings[setting] = _read_setting(path, offsets)
    return GroundTruth(names, offsets, boxes, settings)


def mat_folder(folder: Path) -> Path:
    """Returns the folder with the official MAT files: ``folder`` itself or its subfolder ``ground_truth``.

    Raises:
        AnnotationError: Neither has them.
    """
    for candidate in (folder, folder / "ground_truth"):
        if (candidate / FACES_FILE).is_file():
            return candidate
    if not folder.is_dir():
        raise AnnotationError(f"{folder} is not a folder; give the one with {FACES_FILE}")
    raise AnnotationError(
        f"{folder} holds no {FACES_FILE}; give the folder with the four MAT files of the official "
        "eval_tools (ground_truth)"
    )


def _read_faces(path: Path) -> tuple[tuple[str, ...], NDArray[np.int64], NDArray[np.float64]]:
    faces = load_mat(path, ("event_list", "file_list", "face_bbx_list"))
    names: list[str] = []
    boxes: list[NDArray[np.float64]] = []
    for event, files, events_boxes in zip(
        faces["event_list"].ravel(), faces["file_list"].ravel(), faces["face_bbx_list"].ravel(), strict=True
    ):
        for file, faces_of_image in zip(files.ravel(), events_boxes.ravel(), strict=True):
            names.append(image_key(f"{name_of(event)}/{name_of(file)}"))
            boxes.append(image_boxes(faces_of_image, names[-1]))
    refuse_duplicates(names, [f"{path}, image {i}" for i in range(1, len(names) + 1)])
    offsets = np.cumsum([0, *map(len, boxes)], dtype=np.int64)
    corners = np.concatenate(boxes)
    corners[:, 2:] += corners[:, :2]
    return tuple(names), offsets, corners


def _read_setting(path: Path, offsets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Returns (F,) bool, the faces whose 1-based index within their image is in the file."""
    lists = [image for event in load_mat(path, ("gt_list",))["gt_list"].ravel() for image in event.ravel()]
    if len(lists) != len(offsets) - 1:
        raise AnnotationError(f"{path} lists {len(lists)} images, {FACES_FILE} has {len(offsets) - 1}")
    counts = [image.size for image in lists]
    index = np.concatenate([np.zeros(0, np.int64), *(whole_numbers(image, "gt_list") for image in lists)]) - 1
    images = np.repeat(np.arange(len(lists)), counts)
    outside = (index < 0) | (index >= np.diff(offsets)[images])
    if outside.any():
        image = images[np.argmax(outside)]
        raise AnnotationError(f"{path}: a face of image {image + 1} does not exist in {FACES_FILE}")
    counted = np.zeros(offsets[-1], bool)
    counted[offsets[images] + index] = True
    return counted
