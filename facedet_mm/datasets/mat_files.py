"""Reads MAT files, the official format of WIDER FACE's ground truth, from any source."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from facedet_mm.datasets.mat_format import read_variables
from facedet_mm.errors import AnnotationError
from facedet_mm.system.reading import MB, read_whole_file
from facedet_mm.system.text import FLOAT32_MAX

__all__ = ["whole_numbers"]

_LARGEST_FILE = 64 * MB
_LARGEST_CONTENT = 64 * MB
"""The official files have 0.4 MB, and about 4 MB without compression."""


@contextmanager
def official_layout(path: Path) -> Iterator[Path]:
    """Turns the errors that cells of an unexpected shape or type cause into an error that names the file.

    Raises:
        AnnotationError: The lists of the file are not in the official layout.
    """
    try:
        yield path
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise AnnotationError(f"{path}: its lists are not in the official layout ({error})") from error


def load_mat(path: Path, variables: tuple[str, ...]) -> dict[str, Any]:
    """Reads the given variables of a MAT file.

    Raises:
        AnnotationError: The file is missing, cannot be read, is too large or lacks a variable.
    """
    if not path.is_file():
        raise AnnotationError(f"{path} is missing; the ground truth needs all four MAT files")
    data = read_whole_file(path, _LARGEST_FILE, "a MAT file")
    try:
        content = read_variables(data, variables, _LARGEST_CONTENT)
    except ValueError as error:
        raise AnnotationError(f"{path} cannot be read as a MAT file: {error}") from error
    for name in variables:
        if name not in content:
            raise AnnotationError(f"{path} holds no {name}; it is cut short or not one of the official files")
    return content


def name_of(cell: Any) -> str:
    """Returns the text in a cell.

    Raises:
        ValueError: It has something else than one text.
    """
    name = cell.item()
    if not isinstance(name, str):
        raise ValueError(f"expected a name, not {str(name)[:40]}")
    return name


def image_boxes(cell: Any, image: str) -> NDArray[np.float64]:
    """Returns the boxes of one image, (n, 4) x y width height.

    Raises:
        ValueError: They have another shape or type, or one is not finite in float32.
    """
    boxes = np.asarray(cell)
    if boxes.size == 0:
        return np.zeros((0, 4))
    if boxes.dtype.kind not in "iuf" or boxes.ndim != 2 or boxes.shape[1] != 4:
        raise ValueError(f"the boxes of {image} are {boxes.dtype} {boxes.shape}, not numbers (n, 4)")
    boxes = boxes.astype(np.float64)
    if not (np.abs(boxes) <= FLOAT32_MAX).all() or not (np.abs(boxes[:, :2] + boxes[:, 2:]) <= FLOAT32_MAX).all():
        raise ValueError(f"a box of {image} is not finite in float32")
    return boxes


def whole_numbers(values: ArrayLike, what: str) -> NDArray[np.int64]:
    """Returns whole numbers of any numeric type, in one dimension, as int64.

    Raises:
        ValueError: A value is not a whole number of at most 9 digits.

    Example:
        >>> whole_numbers([[1.0, 2.0]], "index").tolist()
        [1, 2]
    """
    column = np.asarray(values).ravel()
    if column.size == 0:
        return np.zeros(0, np.int64)
    if column.dtype.kind not in "iuf":
        raise ValueError(f"{what}: expected numbers, not {column.dtype}")
    wrong = ~((np.abs(column.astype(np.float64)) < 1e9) & (column == np.trunc(column)))
    if wrong.any():
        raise ValueError(f"{what}: {column[wrong][0]} is not a whole number")
    return column.astype(np.int64)
