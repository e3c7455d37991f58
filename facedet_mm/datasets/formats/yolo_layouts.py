"""Finds images and label files of a YOLO data set, with and without ``data.yaml``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facedet_mm.errors import AnnotationError
from facedet_mm.io.images import is_image_file
from facedet_mm.system.dependencies import missing_dependency
from facedet_mm.system.reading import MB, read_text_file
from facedet_mm.system.text import one_line

_SPLITS = ("train", "val", "test")
_DATA_FILE = re.compile(r"^names\s*:", re.MULTILINE)
_IMAGES, _LABELS = "images", "labels"
_NO_LABELS = frozenset(("classes.txt", "notes.txt", "readme.txt"))
"""Text files that tools leave beside labels."""


@dataclass(frozen=True)
class YoloLayout:
    """Where the parts of a data set are.

    Attributes:
        root: Folder that the names are relative to.
        entries: Name, image and label file of each image; the label file may be missing.
        data_file: ``data.yaml``, if there is one.
        names: Class → name, or ``None`` without ``data.yaml``.
        shape: ``kpt_shape``, number of keypoints and values of each; ``None`` if it is not given.
    """

    root: Path
    entries: list[tuple[str, Path, Path]]
    data_file: Path | None = None
    names: dict[int, str] | None = None
    shape: tuple[int, int] | None = None

    def orphans(self) -> list[Path]:
        """Returns the label files that belong to no image, below the folders ``labels`` that images refer to."""
        known = {label for _, _, label in self.entries}
        folders = {_top(label) for label in known} - {None}
        files = {path for folder in folders if folder for path in _walk(folder) if path.suffix == ".txt"}
        return sorted(path for path in files - known if path.name.lower() not in _NO_LABELS)


def is_data_file(text: str) -> bool:
    """Returns whether text is that of a ``data.yaml``.

    Example:
        >>> is_data_file("train: images\\nnames: [face]\\n"), is_data_file("# a.jpg\\n1 2 3 4\\n")
        (True, False)
    """
    return _DATA_FILE.search(text) is not None


def is_yolo_folder(path: Path) -> bool:
    """Returns whether a folder is a YOLO data set or the folder of images of one."""
    if _data_file(path) or (path / _LABELS).is_dir() or any(path.glob(f"*/{_LABELS}")):
        return True
    top = _top(label_of(path / "x")) if _IMAGES in path.parts else None
    return top is not None and top.is_dir()


def find_yolo(path: Path, images: Path | None) -> YoloLayout:
    """Returns the layout of a data set.

    Args:
        path: See :func:`~facedet_mm.datasets.formats.yolo.read_yolo`.
        images: Folder of the images, if it is not the usual one; ``path`` then has the labels, or a folder ``labels``.

    Raises:
        AnnotationError: A folder is missing, there are no images, or a path leads out of the data set.
    """
    data_file = path if path.suffix.lower() in (".yaml", ".yml") else _data_file(path if path.is_dir() else path.parent)
    if data_file is None and path.is_dir():
        data_file = next((found for folder in path.parents[:2] if (found := _data_file(folder))), None)
    content = _read(data_file) if data_file else {}
    root = path if path.is_dir() else path.parent
    if images is not None:
        labels = root / _LABELS if (root / _LABELS).is_dir() else root
        root, files = images, list(_images(images))
        entries = [(image, labels / image.relative_to(images).with_suffix(".txt")) for image in files]
    else:
        if path.is_file() and path != data_file:
            files = _listed(path, path.parent)
        elif data_file and path in (data_file, data_file.parent):
            files = _split_images(data_file, content)
        elif (path / _IMAGES).is_dir():
            root, files = path / _IMAGES, list(_images(path / _IMAGES))
        else:
            files = list(_images(path))
        entries = [(image, label_of(image)) for image in files]
    if not entries:
        raise AnnotationError(f"{path}: a YOLO data set without images; put them into {root} or say where they are")
    named = [(image.relative_to(root).as_posix(), image, label) for image, label in entries]
    return YoloLayout(root, named, data_file, _names(data_file, content), _shape(data_file, content))


def _data_file(folder: Path) -> Path | None:
    """Returns the ``data.yaml`` of a folder, whatever its name."""
    if not folder.is_dir():
        return None
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() in (".yaml", ".yml") and p.is_file())
    found = [file for file in files[:20] if is_data_file(read_text_file(file, MB, "a data.yaml"))]
    if len(found) > 1:
        listed = ", ".join(file.name for file in found)
        raise AnnotationError(f"{folder} has several files like data.yaml ({listed}); give the one that is meant")
    return found[0] if found else None


def _read(path: Path) -> Mapping[str, Any]:
    try:
        import yaml
    except ImportError as error:
        raise missing_dependency(f"{path}: data.yaml needs PyYAML", "data", error) from error
    try:
        content = yaml.safe_load(read_text_file(path, MB, "a data.yaml"))
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise AnnotationError(
            f"{path}{line}: not YAML: {one_line(getattr(error, 'problem', None) or error)}"
        ) from error
    if not isinstance(content, dict):
        raise AnnotationError(f"{path}: expected entries such as 'train: images/train' and 'names: [face]'")
    return content


def _names(path: Path | None, content: Mapping[str, Any]) -> dict[int, str] | None:
    names = content.get("names")
    if path is None or names is None:
        return None
    pairs = dict(enumerate(names)) if isinstance(names, list) else names
    if not isinstance(pairs, dict) or not all(isinstance(k, int) and isinstance(v, str) for k, v in pairs.items()):
        raise AnnotationError(f"{path}: names must be a list of names, or numbers and names")
    if len(set(pairs.values())) < len(pairs):
        raise AnnotationError(f"{path}: a name comes twice in names")
    return pairs


def _shape(path: Path | None, content: Mapping[str, Any]) -> tuple[int, int] | None:
    shape = content.get("kpt_shape")
    if shape is None:
        return None
    whole = isinstance(shape, list) and all(isinstance(value, int) for value in shape)
    if not whole or len(shape) != 2 or shape[0] < 0 or shape[1] not in (2, 3):
        raise AnnotationError(f"{path}: kpt_shape must be two numbers, [5, 3] for five landmarks with visibility")
    return shape[0], shape[1]


def _split_images(path: Path, content: Mapping[str, Any]) -> list[Path]:
    base = _inside(path, str(content.get("path") or "."), path.parent)
    found: dict[Path, None] = {}
    places = [content.get(split) for split in _SPLITS]
    for place in (item for value in places for item in (value if isinstance(value, list) else [value]) if item):
        entry = _inside(path, str(place), base)
        if entry.is_file():
            found.update(dict.fromkeys(_listed(entry, path.parent)))
        elif entry.is_dir():
            found.update(dict.fromkeys(_images(entry)))
        else:
            raise AnnotationError(f"{path}: {entry} does not exist; correct its entries path, train, val and test")
    if not any(places):
        raise AnnotationError(f"{path} names no images; add 'train: images/train' and 'val: images/val'")
    return list(found)


def _inside(source: Path, place: str, base: Path) -> Path:
    """Returns the path of an entry, which must be in the folder of the file that has it.

    Files of Roboflow have one ``..`` too many, which Ultralytics drops, too.
    """
    top = os.path.abspath(source.parent)
    for candidate in (place, place.removeprefix("../") if place.startswith("../") else place):
        full = os.path.abspath(os.path.join(base, candidate))
        if full == top or full.startswith(top.rstrip(os.sep) + os.sep):
            return source.parent / os.path.relpath(full, top)
    raise AnnotationError(
        f"{source}: {one_line(place)[:200]!r} leads out of its folder; write paths relative to {source.name}, or "
        "give the folder that has images and labels"
    )


def _listed(path: Path, top: Path) -> list[Path]:
    """Returns the images that a text file lists, one a line, relative to the file."""
    images = []
    for number, line in enumerate(read_text_file(path, 64 * MB, "a list of images").splitlines(), start=1):
        if name := line.strip():
            image = _inside(top / path.name, os.path.relpath(os.path.join(path.parent, name), top), top)
            if not is_image_file(image):
                raise AnnotationError(f"{path}, line {number}: expected the path of an image, found {name[:80]!r}")
            images.append(image)
    return images


def _images(folder: Path) -> Iterator[Path]:
    if not folder.is_dir():
        raise AnnotationError(f"{folder} is not a folder; say where the images are")
    return (path for path in _walk(folder) if is_image_file(path))


def _walk(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders.sort()
        yield from (Path(place, name) for name in sorted(files))


def label_of(image: Path) -> Path:
    """Returns the label file of an image: below ``labels`` instead of the last folder ``images``, or beside it."""
    parts = list(image.parts)
    if _IMAGES in parts[:-1]:
        parts[len(parts) - 2 - parts[-2::-1].index(_IMAGES)] = _LABELS
    return Path(*parts).with_suffix(".txt")


def _top(label: Path) -> Path | None:
    """Returns the folder ``labels`` that a label file is in, or ``None`` if it lies beside its image."""
    return next((folder for folder in label.parents if folder.name == _LABELS), None)
