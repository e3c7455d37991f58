"""Writes a data set in another format, with a line for everything that the format can't hold."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.io import savemat

from facedet_mm.datasets.annotations import KINDS
from facedet_mm.datasets.formats.coco import write_coco
from facedet_mm.datasets.formats.labelme import write_labelme
from facedet_mm.datasets.formats.text_writing import write_text_format
from facedet_mm.datasets.formats.voc import write_voc
from facedet_mm.datasets.formats.yolo import write_data_file, write_yolo
from facedet_mm.datasets.formats.yolo_layouts import label_of
from facedet_mm.datasets.ground_truth import FACES_FILE, GroundTruth
from facedet_mm.datasets.images import image_path
from facedet_mm.datasets.predictions import image_key
from facedet_mm.datasets.records import FaceData, ImageAnnotation, check_name
from facedet_mm.errors import AnnotationError, FaceDetError
from facedet_mm.io.dimensions import image_dimensions
from facedet_mm.system.files import atomic_path

EVALUATION = "wider-eval"
TARGETS = (*KINDS, EVALUATION)
"""Formats that can be written; ``wider-eval`` is the four MAT files of WIDER FACE's evaluation."""

SUFFIXES = {"coco": ".json", "wider": ".txt", "retinaface": ".txt", "scrfd": ".txt"}
"""Suffix of the formats that are one file; the others are folders."""

_IMAGES = {"yolo": "images", "voc": "JPEGImages", "labelme": ""}
"""Where the images belong, below the folder of a format; of a file beside it, in ``images``."""
_WITHOUT_LANDMARKS = ("wider", "voc", EVALUATION)
_WITHOUT_SIZES = ("wider", "retinaface", EVALUATION)
_WITHOUT_IGNORE = ("retinaface", "yolo")


def convert(data: FaceData, folder: Path | None, kind: str, out: Path, copy_images: bool = False) -> list[str]:
    """Writes a data set in another format.

    Args:
        data: The data set.
        folder: Folder of its images; needed for sizes that the data set does not have, and to copy images.
        kind: One of :data:`TARGETS`.
        out: File or folder to write; must not exist, or be an empty folder.
        copy_images: Whether to copy the images to where the format has them.

    Returns:
        What the format can't hold, one line each.

    Raises:
        AnnotationError: Two images would share a file, or a name leads out of the folder.
        FaceDetError: ``out`` exists, or can't be written.
        ImageError: An image whose size is needed can't be read.

    Example:
        >>> import tempfile
        >>> from facedet_mm.datasets.annotations import read_dataset
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = Path(folder.name, "faces.txt")
        >>> _ = path.write_text("# party/1.jpg 64 48\\n12 10 50 40 1\\n")
        >>> convert(read_dataset(path), None, "retinaface", path.with_name("label.txt"))
        ['1 faces to ignore are left out: RetinaFace has no mark for them']
        >>> folder.cleanup()
    """
    if out.exists() and not (out.is_dir() and kind not in SUFFIXES and not any(out.iterdir())):
        raise FaceDetError(f"{out} exists; nothing is overwritten, so choose another place")
    images = data.images
    for image, place in zip(images, data.places, strict=True):
        check_name(image.name, place.of_image())
    _refuse_shared_names(images, kind)
    sizes = [(0, 0) if kind in _WITHOUT_SIZES else _size(image, folder) for image in images]
    lost = _write(kind, images, sizes, folder, out)
    if copy_images and folder is not None and kind != EVALUATION:
        _copy_images(images, folder, out / _IMAGES[kind] if kind in _IMAGES else out.parent / "images")
    return lost


def _write(
    kind: str, images: Sequence[ImageAnnotation], sizes: Sequence[tuple[int, int]], folder: Path | None, out: Path
) -> list[str]:
    lost = _lost(images, kind)
    some = any(image.landmarks is not None for image in images)
    if kind == EVALUATION:
        write_evaluation(out, images, folder)
    elif kind == "coco":
        write_coco(out, images, sizes)
    elif kind in SUFFIXES:
        write_text_format(kind, out, images, sizes)
    elif kind == "yolo":
        cut: Counter[str] = Counter()
        for image, size in zip(images, sizes, strict=True):
            cut.update(write_yolo(label_of(out / "images" / image.name), image, size, some))
        write_data_file(out / "data.yaml", ["images"], some)
        cut.pop("faces to ignore", None)
        lost += [f"{count:,} {what} are left out: YOLO has fractions from 0 to 1" for what, count in cut.items()]
    else:
        for image, size in zip(images, sizes, strict=True):
            if kind == "voc":
                write_voc(out / "Annotations" / f"{_stem(image.name)}.xml", image, size)
            else:
                write_labelme(out / f"{_stem(image.name)}.json", image, size, image.name.rpartition("/")[2])
    return lost


def _lost(images: Sequence[ImageAnnotation], kind: str) -> list[str]:
    name = KINDS.get(kind, "the evaluation")
    landmarks = sum(int(i.landmark_weights.any(1).sum()) for i in images if i.landmark_weights is not None)
    attributes = sum(int((i.attributes != 0).any(1).sum()) for i in images if i.attributes is not None)
    ignored = sum(int((i.ignore & (i.boxes[:, 2:] > i.boxes[:, :2]).all(1)).sum()) for i in images)
    empty = sum(int((i.boxes[:, 2:] <= i.boxes[:, :2]).any(1).sum()) for i in images)
    lines = []
    if landmarks and kind in _WITHOUT_LANDMARKS:
        lines.append(f"landmarks of {landmarks:,} faces are left out: {name} has none")
    if attributes and kind != "wider":
        lines.append(f"attributes of {attributes:,} faces (blur, pose and others) are left out: {name} has none")
    if ignored and kind in _WITHOUT_IGNORE:
        lines.append(f"{ignored:,} faces to ignore are left out: {name} has no mark for them")
    if empty and kind == "yolo":
        lines.append(f"{empty:,} faces without area are left out: YOLO has none")
    return lines


def write_evaluation(out: Path, images: Sequence[ImageAnnotation], folder: Path | None) -> None:
    """Writes the four MAT files of WIDER FACE's evaluation.

    Which faces are easy, medium and hard is decided by their height; see
    :data:`~facedet_mm.datasets.ground_truth.MIN_HEIGHTS`.

    Args:
        out: Folder for ``wider_face_val.mat`` and ``wider_{easy,medium,hard}_val.mat``.
        images: Images with their faces.
        folder: Folder of the images; its name is the event of images that are in no other folder.
    """
    keys = [image_key(str(image_path(folder, image.name)) if folder else image.name) for image in images]
    keys = [key if "/" in key else f"images/{key}" for key in keys]
    truth = GroundTruth.from_images((k, i.boxes, i.ignore) for k, i in zip(keys, images, strict=True))
    events = sorted({key.partition("/")[0] for key in keys})
    rows = [[i for i, key in enumerate(keys) if key.partition("/")[0] == event] for event in events]
    boxes = [np.column_stack([i.boxes[:, :2], i.boxes[:, 2:] - i.boxes[:, :2]]).astype(np.float64) for i in images]
    faces = {
        "event_list": _cell(events),
        "file_list": _cell([_cell([keys[i].partition("/")[2] for i in row]) for row in rows]),
        "face_bbx_list": _cell([_cell([boxes[i] for i in row]) for row in rows]),
    }
    contents: dict[str, dict[str, object]] = {FACES_FILE: dict(faces)}
    for setting, counted in truth.settings.items():
        parts = np.split(counted, truth.offsets[1:-1])
        index = [_cell([np.flatnonzero(parts[i])[:, None] + 1 for i in row]) for row in rows]
        contents[f"wider_{setting}_val.mat"] = {"gt_list": _cell(index)}
    for name, content in contents.items():
        with atomic_path(out / name) as temporary, temporary.open("wb") as file:
            savemat(file, content)


def _cell(items: Sequence[object]) -> np.ndarray[tuple[int, ...], np.dtype[np.object_]]:
    """Returns a MATLAB cell column."""
    cell = np.empty((len(items), 1), object)
    for i, item in enumerate(items):
        cell[i, 0] = item
    return cell


def _size(image: ImageAnnotation, folder: Path | None) -> tuple[int, int]:
    if image.size is not None:
        return image.size
    if folder is None:
        raise AnnotationError(
            f"the size of {image.name} is not known; say where the images are: images=… (--images DIR)"
        )
    return image_dimensions(image_path(folder, image.name))


def _refuse_shared_names(images: Sequence[ImageAnnotation], kind: str) -> None:
    """Checks that no two images would have one annotation file, or one name."""
    first: dict[str, str] = {}
    for image in images:
        key = _stem(image.name) if kind in _IMAGES else image.name
        if key in first:
            other = first[key]
            what = f"{other} and {image.name} would share a file" if other != image.name else f"{other} comes twice"
            raise AnnotationError(f"{what}; rename or remove one of the images")
        first[key] = image.name


def _copy_images(images: Sequence[ImageAnnotation], folder: Path, target: Path) -> None:
    for image in images:
        copy = target / image.name
        if copy.exists():
            raise FaceDetError(f"{copy} exists; nothing is overwritten, so choose another place")
        with atomic_path(copy) as temporary:
            shutil.copyfile(image_path(folder, image.name), temporary)


def _stem(name: str) -> str:
    root, dot, suffix = name.rpartition(".")
    return root if dot and "/" not in suffix else name
