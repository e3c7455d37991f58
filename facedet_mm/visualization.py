"""Drawing faces so that they stay readable from thumbnails to 4K and from one face to hundreds."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from facedet_mm.images import as_bgr
from facedet_mm.structures import Faces

_BOX = (176, 212, 38)
_TEXT = (48, 38, 16)
_LANDMARKS = ((255, 170, 60), (255, 170, 60), (80, 220, 255), (140, 100, 255), (140, 100, 255))
"""BGR, in the order of ``LANDMARK_NAMES``: eyes, nose, corners of the mouth."""

_FONT = cv2.FONT_HERSHEY_DUPLEX
_FONT_HEIGHT = 21.0
"""Height of a digit in pixels at font scale 1."""
_LEGIBLE = 7.0
"""Least height of a digit in pixels."""
_ROOM_FOR_DOTS = 12.0
"""Least side of a face in pixels: below, five dots are a blot."""
_SHIFT = 4
"""Coordinates are passed to OpenCV in sixteenths of a pixel, so that antialiased lines lie where boxes do."""


def draw_faces(image: NDArray[np.uint8], faces: Faces) -> NDArray[np.uint8]:
    """A copy of the picture with boxes, landmarks and scores.

    Lines, dots and text grow with the picture and shrink with the face; a face too small for legible text or
    separate dots gets none. Better faces are drawn over worse ones.

    Args:
        image: uint8 BGR (H, W, 3), grey or BGRA.
        faces: in pixels of ``image``.

    Returns:
        (H, W, 3) uint8, BGR.

    Raises:
        ImageError: ``image`` is no uint8 picture.
    """
    canvas = as_bgr(image).copy()
    height, width = canvas.shape[:2]
    limit = 2.0 * max(height, width)  # keeps far outliers within OpenCV's integers
    unit = max(1.0, min(height, width) / 400)
    for i in np.argsort(faces.scores, kind="stable"):
        box = np.clip(faces.boxes[i], -limit, limit)
        side = float(min(box[2] - box[0], box[3] - box[1]))
        line = max(1, round(min(unit, side / 20)))
        cv2.rectangle(canvas, _fixed(box[:2]), _fixed(box[2:]), _BOX, line, cv2.LINE_AA, _SHIFT)
        if faces.landmarks is not None and side >= _ROOM_FOR_DOTS:
            radius = max(0.8, min(1.5 * unit, side / 25))
            for point, color in zip(np.clip(faces.landmarks[i], -limit, limit), _LANDMARKS, strict=True):
                cv2.circle(canvas, _fixed(point), round(radius * (1 << _SHIFT)), color, -1, cv2.LINE_AA, _SHIFT)
        _draw_label(canvas, box, f"{faces.scores[i]:.2f}", wanted=max(_LEGIBLE, 5 * unit))
    return canvas


def _draw_label(canvas: NDArray[np.uint8], box: NDArray[np.float32], text: str, wanted: float) -> None:
    """A tag on the upper edge of the box, outside where there is room; at most as wide as the box."""
    (full_width, _), _ = cv2.getTextSize(text, _FONT, 1, 1)
    text_height = min(wanted, float(box[2] - box[0]) / (full_width / _FONT_HEIGHT + 0.8))
    if text_height < _LEGIBLE:
        return
    scale = text_height / _FONT_HEIGHT
    pad = 0.4 * text_height
    tag_width, tag_height = full_width * scale + 2 * pad, text_height + 2 * pad
    left = min(max(0.0, float(box[0])), max(0.0, canvas.shape[1] - tag_width))
    top = float(box[1]) - tag_height if box[1] >= tag_height else max(0.0, float(box[1]))
    start, end = np.array([left, top]), np.array([left + tag_width, top + tag_height])
    cv2.rectangle(canvas, _fixed(start), _fixed(end), _BOX, -1, cv2.LINE_AA, _SHIFT)
    base = (round(left + pad), round(top + pad + text_height))
    cv2.putText(canvas, text, base, _FONT, scale, _TEXT, max(1, int(1.4 * scale)), cv2.LINE_AA)


def _fixed(point: NDArray[np.floating]) -> tuple[int, int]:
    x, y = np.round(point * (1 << _SHIFT)).astype(int)
    return int(x), int(y)
