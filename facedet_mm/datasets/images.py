"""Where the images of a data set are."""

from __future__ import annotations

import os
from pathlib import Path

from facedet_mm.datasets.records import FaceData
from facedet_mm.errors import AnnotationError


def image_path(folder: Path, name: str) -> Path:
    """Returns the path of an image, which must be below the folder.

    Raises:
        AnnotationError: Its name leads out of the folder.
    """
    if ".." in name.replace("\\", "/").split("/") or os.path.isabs(name):
        raise AnnotationError(f"image {name!r} leads out of the folder of images; correct its name")
    return folder / name


def find_image_folder(data: FaceData, path: Path, given: Path | None = None) -> Path:
    """Returns the folder that the names of a data set are relative to.

    Args:
        data: The data set.
        path: Where it was read from.
        given: Folder that the user names.

    Returns:
        ``given``, else the folder that the format says, else the first of these that has the first image: the folder of
        the annotations, ``images`` in it, the folder above, ``images`` in that.

    Raises:
        AnnotationError: None of them has it.
    """
    if given is not None:
        if not given.is_dir():
            raise AnnotationError(f"{given} is not a folder; give the one that the names of the images are relative to")
        return given
    if data.folder is not None:
        return data.folder
    start = path if path.is_dir() else path.parent
    candidates = [start, start / "images", start.parent, start.parent / "images"]
    if not data.images:
        return start
    name = data.images[0].name
    for folder in candidates:
        if image_path(folder, name).is_file():
            return folder
    listed = ", ".join(str(folder) for folder in candidates)
    raise AnnotationError(f"{path}: {name} is in none of {listed}; say where the images are: images=… (--images DIR)")
