"""Reads face annotations in any of seven formats, which their content tells apart."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from facedet_mm.datasets.formats.coco import read_coco
from facedet_mm.datasets.formats.labelme import read_labelme
from facedet_mm.datasets.formats.text import read_text
from facedet_mm.datasets.formats.voc import read_voc
from facedet_mm.datasets.formats.yolo import read_yolo
from facedet_mm.datasets.formats.yolo_layouts import is_data_file, is_yolo_folder
from facedet_mm.datasets.records import ATTRIBUTE_NAMES, FaceData, ImageAnnotation, ReadOptions, crossed_eyes
from facedet_mm.errors import AnnotationError
from facedet_mm.io.images import is_image_file
from facedet_mm.system.reading import MB, read_text_file, unique_names
from facedet_mm.system.text import one_line

__all__ = ["ATTRIBUTE_NAMES", "KINDS", "ImageAnnotation", "read_annotations", "read_dataset"]

KINDS = {
    "wider": "WIDER FACE",
    "retinaface": "RetinaFace",
    "scrfd": "SCRFD",
    "coco": "COCO",
    "yolo": "YOLO",
    "voc": "Pascal VOC",
    "labelme": "labelme",
}
"""The formats and their names."""

_LARGEST_FILE = 512 * MB
"""That of COCO's training images has 450 MB."""
_IMAGE_NAME = re.compile(r"[^#]*\.[A-Za-z]\w*")
_WANTED = "expected a file of WIDER FACE, RetinaFace, SCRFD or COCO, or a folder of YOLO, Pascal VOC or labelme"


def read_annotations(path: str | os.PathLike[str]) -> list[ImageAnnotation]:
    """Reads the faces of all images of a data set; :func:`read_dataset` tells more.

    Raises:
        AnnotationError: The data set is missing or malformed; the message names file and line.

    Example:
        >>> annotations = read_annotations("wider_face_val_bbx_gt.txt")  # doctest: +SKIP
        >>> annotations[0].name, annotations[0].boxes.shape  # doctest: +SKIP
        ('0--Parade/0_Parade_marchingband_1_465.jpg', (94, 4))
    """
    return read_dataset(path).images


def read_dataset(
    path: str | os.PathLike[str],
    category: str | None = None,
    landmarks: bool = True,
    images: str | os.PathLike[str] | None = None,
) -> FaceData:
    """Reads a data set. The content tells the format:

    * WIDER FACE ``wider_face_*_bbx_gt.txt``: name, number of faces, then one line per face with ``x y w h`` and six
      attributes; an image without faces has the number 0 and then a line of zeros, which may be absent;
    * RetinaFace ``label.txt``: ``# name``, then one line ``x y w h`` per face, with or without five ``x y visible``
      and blur;
    * SCRFD ``labelv2.txt``: ``# name width height``, then one line ``x1 y1 x2 y2`` per face, with or without five
      ``x y visible``;
    * COCO JSON, with or without five keypoints;
    * YOLO: ``data.yaml``, a folder with ``images`` and ``labels``, or a folder of images such as ``images/train``;
    * Pascal VOC: a folder with ``Annotations`` and ``JPEGImages``, a folder of XML files, or
      ``ImageSets/Main/NAME.txt``;
    * labelme: a folder with JSON files.

    In the three text formats, a landmark whose three values are all −1, or whose third value is −1, is not annotated.

    Args:
        path: File or folder.
        category: Name of the category that means faces; by default the only one, or the one named ``face``.
        landmarks: Whether to read landmarks.
        images: Folder of the images of a YOLO data set, if it is not the usual one.

    Returns:
        The images in the order of the file, or sorted by name.

    Raises:
        AnnotationError: The data set is missing, of no known format, or malformed; the message names file and line, or
            the record.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = Path(folder.name, "faces.txt")
        >>> _ = path.write_text("# party/1.jpg\\n12 10 38 52\\n")
        >>> data = read_dataset(path)
        >>> data.kind, data.images[0].boxes.tolist(), data.places[0].of_face(0).rpartition("/")[2]
        ('retinaface', [[12.0, 10.0, 50.0, 62.0]], 'faces.txt, line 2')
        >>> folder.cleanup()
    """
    path = Path(path)
    options = ReadOptions(category, landmarks, None if images is None else Path(images))
    data = _read_folder(path, options) if path.is_dir() else _read_file(path, options)
    if not landmarks:
        bare = [replace(image, landmarks=None, landmark_weights=None) for image in data.images]
        data = replace(data, images=bare)
    crossed = crossed_eyes(data.images)
    return replace(data, problems=[*data.problems, crossed]) if crossed else data


def _read_file(path: Path, options: ReadOptions) -> FaceData:
    text = read_text_file(path, _LARGEST_FILE, "an annotation file")
    start = text[:4096].lstrip()[:1]
    if start in ("{", "["):
        document = parse_json(path, text)
        if "shapes" in document:
            return read_labelme(path, path.parent, [(path, document)], options)
        return read_coco(path, document, options)
    if start == "<":
        return read_voc(path, [(path, "")], _image_folder(path.parent), options)
    if path.parent.name == "Main" and path.parent.parent.name == "ImageSets":
        return _read_image_set(path, text, options)
    if (len(text) <= MB and is_data_file(text)) or _lists_images(text):
        return read_yolo(path, options)
    if options.category is not None:
        raise AnnotationError(f"{path} has no categories, so category={options.category!r} (--category) means nothing")
    return read_text(path, text)


def _lists_images(text: str) -> bool:
    """Returns whether text has only names of images, the first two lines at least."""
    lines = [line for line in text[:65536].splitlines()[:-1] or text.splitlines() if line.strip()]
    return len(lines) > 0 and all(_IMAGE_NAME.fullmatch(line.strip()) for line in lines)


def parse_json(path: Path, text: str) -> Mapping[str, Any]:
    """Returns the object in a JSON file.

    Raises:
        AnnotationError: It is not JSON, not an object, too deep, has a name twice or numbers that are not finite.
    """

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not a number")

    try:
        document = json.loads(text, object_pairs_hook=unique_names, parse_constant=refuse)
    except json.JSONDecodeError as error:
        raise AnnotationError(f"{path}, line {error.lineno}: not JSON: {error.msg}") from error
    except (RecursionError, ValueError) as error:
        raise AnnotationError(f"{path}: not JSON that can be read: {one_line(error)[:200]}") from error
    if not isinstance(document, dict) or not document.keys() & {"shapes", "images", "annotations"}:
        raise AnnotationError(
            f"{path}: JSON that is neither COCO's (images, annotations, categories) nor labelme's (shapes, imagePath)"
        )
    return document


def _read_folder(path: Path, options: ReadOptions) -> FaceData:
    if is_yolo_folder(path) or (options.images is not None and (path / "labels").is_dir()):
        return read_yolo(path, options)
    for folder in (path / "Annotations", path):
        if files := list(_files(folder, ".xml")):
            parents = ["/".join(file.parent.relative_to(folder).parts) for file in files]
            return read_voc(path, list(zip(files, parents, strict=True)), _image_folder(folder), options)
    if files := list(_files(path, ".json")):
        return _read_json_files(path, files, options)
    if any(is_image_file(file) and file.with_suffix(".txt").is_file() for file in path.iterdir()):
        return read_yolo(path, options)
    raise AnnotationError(f"{path}: {_WANTED}; this folder has none of their files")


def _read_json_files(path: Path, files: Sequence[Path], options: ReadOptions) -> FaceData:
    """Reads the labelme documents of a folder, or its only COCO document."""
    documents = {
        file: parse_json(file, read_text_file(file, _LARGEST_FILE, "an annotation file")) for file in files[:2]
    }
    if any("shapes" in document for document in documents.values()):
        pairs = ((f, parse_json(f, read_text_file(f, 128 * MB, "a labelme annotation"))) for f in files)
        return read_labelme(path, path, pairs, options)
    if len(files) > 1:
        listed = ", ".join(file.relative_to(path).as_posix() for file in files[:5])
        raise AnnotationError(f"{path} has several JSON files ({listed}); give the one that is meant")
    return read_coco(files[0], documents[files[0]], options)


def _read_image_set(path: Path, text: str, options: ReadOptions) -> FaceData:
    root = path.parents[2]
    stems = [line.split()[0] for line in text.splitlines() if line.strip()]
    files = []
    for number, stem in enumerate(stems, start=1):
        file = root / "Annotations" / f"{stem}.xml"
        if ".." in stem or os.path.isabs(stem) or not file.is_file():
            raise AnnotationError(f"{path}, line {number}: there is no annotation {one_line(file)}")
        files.append((file, os.path.dirname(stem)))
    return read_voc(path, files, _image_folder(root / "Annotations"), options)


def _image_folder(annotations: Path) -> Path:
    """Returns the folder of the images of VOC annotations: ``JPEGImages`` beside them, or their own."""
    beside = annotations.parent / "JPEGImages"
    return beside if annotations.name == "Annotations" else annotations


def _files(folder: Path, suffix: str) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders.sort()
        yield from (Path(place, name) for name in sorted(files) if name.lower().endswith(suffix))
