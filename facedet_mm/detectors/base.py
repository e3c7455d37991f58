"""The one interface of all detectors."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from facedet_mm.detectors.letterbox import InputSize, Letterbox, Normalization, fit, make_blob
from facedet_mm.errors import FaceDetError
from facedet_mm.images import load_image
from facedet_mm.structures import Faces

Image: TypeAlias = str | os.PathLike[str] | NDArray[np.uint8]
"""A path, or a uint8 array: grey (H, W), BGR (H, W, 3) or BGRA (H, W, 4)."""


class Detector(Protocol):
    """Finds faces in pictures; keeps nothing between calls and may be called from several threads.

    Attributes:
        score_thr: only faces with a score above it come out.
        iou_thr: of two faces that overlap by more, the one with the lower score is dropped.
        input_size: what the network sees: an int (square), (width, height), ``'auto'`` or ``'original'``.
    """

    score_thr: float
    iou_thr: float
    input_size: InputSize

    def detect(self, image: Image) -> Faces:
        """Faces of one picture in its pixels, by descending score.

        Raises:
            ImageError: the picture can't be read or is no uint8 picture.
        """
        ...

    def detect_batch(self, images: Sequence[Image]) -> list[Faces]:
        """Faces of each picture, in the order of ``images``; raises as :meth:`detect` does."""
        ...


def detect_fitted(
    images: Sequence[Image],
    size: InputSize,
    normalization: Normalization,
    run: Callable[[NDArray[np.float32], Sequence[Letterbox]], Iterable[Faces]],
    divisor: int = 32,
) -> list[Faces]:
    """Faces of each picture; those that share an input size go through ``run`` together.

    Args:
        images: the pictures.
        size: what the network sees.
        normalization: of the network.
        run: from the network's input, (N, 3, H, W) float32, and where each of the N pictures lies in it to the
            faces of each, in pixels of the picture.
        divisor: the network's input is a multiple of it.

    Raises:
        ImageError: a picture can't be read or is no uint8 picture.
    """
    pictures = [load_image(image) for image in images]
    boxes = [fit(p.shape[1], p.shape[0], size, divisor) for p in pictures]
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for i, box in enumerate(boxes):
        groups[box.canvas].append(i)
    faces: dict[int, Faces] = {}
    for group in groups.values():
        fitted = [boxes[i] for i in group]
        blob = make_blob([pictures[i] for i in group], fitted, normalization)
        faces.update(zip(group, run(blob, fitted), strict=True))
    return [faces[i] for i in range(len(images))]


def check_thresholds(score_thr: float, iou_thr: float) -> None:
    """Raises :class:`FaceDetError` unless both are in [0, 1]."""
    for name, value in (("score_thr", score_thr), ("iou_thr", iou_thr)):
        if not 0 <= value <= 1:
            raise FaceDetError(f"{name} must be between 0 and 1, not {value}")
