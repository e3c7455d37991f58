"""One image that shows many images of a data set with their boxes and landmarks."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from facedet_mm.datasets.images import image_path
from facedet_mm.datasets.records import FaceData, ImageAnnotation
from facedet_mm.errors import ImageError
from facedet_mm.io.images import read_image

FACE, IGNORED = (80, 200, 0), (150, 150, 150)
"""Colors of boxes in BGR."""
LANDMARKS = ((255, 128, 0), (0, 128, 255), (0, 255, 255), (255, 0, 255), (0, 0, 255))
"""Colors of left eye, right eye, nose, left and right corner of the mouth in BGR."""
_CAPTION = 18
_BACKGROUND = 40


def contact_sheet(
    data: FaceData, folder: Path, count: int = 24, columns: int = 6, side: int = 320
) -> NDArray[np.uint8]:
    """Draws images that are evenly spread over a data set, with their names.

    Args:
        data: The data set.
        folder: Folder of its images.
        count: Largest number of images.
        columns: Number of images beside each other.
        side: Width and height of each in pixels, without its caption.

    Returns:
        (H, W, 3) uint8, BGR. An image that can't be read is a dark field with the reason.
    """
    chosen = np.unique(np.linspace(0, len(data.images) - 1, min(count, len(data.images))).round().astype(int))
    columns = max(1, min(columns, len(chosen)))
    rows = -(-len(chosen) // columns) or 1
    height = side + _CAPTION
    sheet = np.full((rows * height, columns * side, 3), _BACKGROUND, np.uint8)
    for place, index in enumerate(chosen.tolist()):
        top, left = place // columns * height, place % columns * side
        sheet[top : top + height, left : left + side] = _tile(data.images[index], folder, side)
    return sheet


def _tile(image: ImageAnnotation, folder: Path, side: int) -> NDArray[np.uint8]:
    tile = np.full((side + _CAPTION, side, 3), _BACKGROUND, np.uint8)
    try:
        pixels = read_image(image_path(folder, image.name), notify=lambda _: None)
    except ImageError as error:
        _write(tile, str(error)[-side // 7 :], side // 2)
    else:
        scale = side / max(pixels.shape[:2])
        size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
        small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        tile[: size[1], : size[0]] = small
        draw_truth(tile[: size[1], : size[0]], image, scale)
    _write(tile, image.name[-side // 7 :], side + _CAPTION - 5)
    return tile


def draw_truth(canvas: NDArray[np.uint8], image: ImageAnnotation, scale: float = 1.0) -> None:
    """Draws boxes and landmarks of an image, in place.

    Args:
        canvas: uint8 BGR (H, W, 3), the image scaled by ``scale``.
        image: Its annotation.
        scale: Pixels of the canvas per pixel of the annotation.
    """
    limit = 4.0 * max(canvas.shape)
    for i, box in enumerate(np.clip(image.boxes * scale, -limit, limit).round().astype(int).tolist()):
        cv2.rectangle(canvas, box[:2], box[2:], IGNORED if image.ignore[i] else FACE, 1)
        if image.landmarks is None or image.landmark_weights is None:
            continue
        points = np.clip(image.landmarks[i] * scale, -limit, limit).round().astype(int).tolist()
        for point, weight, color in zip(points, image.landmark_weights[i], LANDMARKS, strict=True):
            if weight > 0:
                cv2.circle(canvas, point, 1, color, -1)


def _write(tile: NDArray[np.uint8], text: str, baseline: int) -> None:
    plain = text.encode("ascii", "replace").decode()
    cv2.putText(tile, plain, (3, baseline), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (230, 230, 230), 1, cv2.LINE_AA)
