"""Draws faces so that they stay readable from thumbnails to 4K and from one face to hundreds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facedet_mm.io.images import as_bgr
from facedet_mm.structures import Faces

__all__ = ["draw_faces", "track_color"]

_BOX = (176, 212, 38)
_TRACKS = (
    *((150, 0, 255), (30, 150, 255), (255, 135, 0), (0, 240, 240), (255, 195, 225), (75, 135, 135)),
    *((30, 45, 255), (255, 210, 30), (165, 165, 255), (240, 105, 165), (45, 255, 0), (60, 165, 0)),
    *((150, 150, 0), (180, 240, 210), (135, 195, 225), (90, 120, 180)),
)
"""Colors of tracks in BGR, in the order of their IDs. Each is the farthest (CIEDE2000) from the previous ones and from
``_BOX`` among the colors light enough for dark text."""
_TEXT = (48, 38, 16)
_LANDMARKS = ((255, 170, 60), (255, 170, 60), (80, 220, 255), (140, 100, 255), (140, 100, 255))
"""Colors of landmarks in BGR, in the order of ``LANDMARK_NAMES``."""

_FONT = cv2.FONT_HERSHEY_DUPLEX
_FONT_HEIGHT = 21.0
"""Height of a digit in pixels at font scale 1."""
_LEGIBLE = 7.0
"""Smallest height of a digit in pixels."""
_ROOM_FOR_DOTS = 16.0
"""Smallest side of a face in pixels on which five dots can be told apart."""
_SHIFT = 4
"""Fractional bits: small dots need subpixel positions, passed to OpenCV in sixteenths of a pixel."""


def draw_faces(image: NDArray[np.uint8], faces: Faces) -> NDArray[np.uint8]:
    """Returns a copy of the image with boxes, landmarks, scores and track IDs.

    Lines, dots and text grow with the image and shrink with the face; a face too small for legible text or separate
    dots gets none. Faces with higher scores are drawn on top. A tracked face has the color of its track and the label
    ``#id score``, or ``#id`` if there is no room for both.

    Args:
        image: uint8 BGR (H, W, 3), gray or BGRA.
        faces: Faces, in pixels of ``image``.

    Returns:
        (H, W, 3) uint8, BGR.

    Raises:
        ImageError: ``image`` is not a uint8 image.

    Example:
        >>> image = np.zeros((90, 90, 3), np.uint8)
        >>> drawn = draw_faces(image, Faces([[20, 30, 60, 80]], [0.9], track_ids=[1]))
        >>> tuple(drawn[60, 20].tolist()) == track_color(1)
        True
    """
    canvas = as_bgr(image).copy()
    height, width = canvas.shape[:2]
    limit = 2.0 * max(height, width)  # keeps distant outliers within OpenCV's integers
    unit = max(1.0, min(height, width) / 400)
    boxes = np.clip(faces.boxes, -limit, limit)
    rows = list(zip(boxes.tolist(), faces.scores.tolist(), _ids(faces), _dots(faces, limit), strict=True))
    for i in np.argsort(faces.scores, kind="stable"):
        if not np.isnan(boxes[i]).any():
            _draw_face(canvas, unit, *rows[i])
    return canvas


def track_color(track_id: int) -> tuple[int, int, int]:
    """Returns the color of a track: always the same for an ID, and repeated after 16 IDs.

    Returns:
        Blue, green and red, from 0 to 255.

    Example:
        >>> track_color(1), track_color(1) == track_color(17)
        ((150, 0, 255), True)
    """
    return _TRACKS[(track_id - 1) % len(_TRACKS)]


def _draw_face(
    canvas: NDArray[np.uint8], unit: float, box: Sequence[float], score: float, track_id: int, dots: Sequence[Any]
) -> None:
    x1, y1, x2, y2 = box
    side = min(x2 - x1, y2 - y1)
    color = _BOX if track_id < 0 else track_color(track_id)
    line = max(1, round(min(unit, side / 20)))
    cv2.rectangle(canvas, (round(x1), round(y1)), (round(x2), round(y2)), color, line)
    if side >= _ROOM_FOR_DOTS:
        radius = round(max(0.8, min(1.5 * unit, side / 25)) * (1 << _SHIFT))
        for point, dot_color in zip(dots, _LANDMARKS, strict=False):
            cv2.circle(canvas, point, radius, dot_color, -1, cv2.LINE_AA, _SHIFT)
    texts = [f"{score:.2f}"] if track_id < 0 else [f"#{track_id} {score:.2f}", f"#{track_id}"]
    _draw_label(canvas, box, texts, color, wanted=max(_LEGIBLE, 5 * unit))


def _draw_label(
    canvas: NDArray[np.uint8], box: Sequence[float], texts: Sequence[str], color: Sequence[int], wanted: float
) -> None:
    """Draws a tag with the first text that is legible within the width of the box.

    The tag stands on the upper edge of the box, outside the box if there is room.
    """
    for text in texts:
        (full_width, _), _ = cv2.getTextSize(text, _FONT, 1, 1)
        text_height = min(wanted, (box[2] - box[0]) / (full_width / _FONT_HEIGHT + 0.8))
        if text_height >= _LEGIBLE:
            break
    else:
        return
    scale = text_height / _FONT_HEIGHT
    pad = 0.4 * text_height
    tag_width, tag_height = full_width * scale + 2 * pad, text_height + 2 * pad
    left = min(max(0.0, box[0]), max(0.0, canvas.shape[1] - tag_width))
    top = box[1] - tag_height if box[1] >= tag_height else max(0.0, box[1])
    start, end = (round(left), round(top)), (round(left + tag_width), round(top + tag_height))
    cv2.rectangle(canvas, start, end, color, -1)
    base = (round(left + pad), round(top + pad + text_height))
    cv2.putText(canvas, text, base, _FONT, scale, _TEXT, max(1, int(1.4 * scale)), cv2.LINE_AA)


def _ids(faces: Faces) -> list[int]:
    ids: list[int] = [-1] * len(faces) if faces.track_ids is None else faces.track_ids.tolist()
    return ids


def _dots(faces: Faces, limit: float) -> list[Any]:
    """Returns the landmarks of each face, if any, as OpenCV's fixed-point numbers; NaN moves outside the image."""
    if faces.landmarks is None:
        return [()] * len(faces)
    points = np.clip(np.nan_to_num(faces.landmarks, nan=-limit), -limit, limit)
    fixed: list[Any] = np.rint(points * (1 << _SHIFT)).astype(int).tolist()
    return fixed
