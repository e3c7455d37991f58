"""Views of an image, which are the whole image at several sizes and its tiles, and the merging of their faces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedet_mm.detectors.nms import nms
from facedet_mm.detectors.preprocess import InputSize, Letterbox, fit
from facedet_mm.errors import FaceDetError
from facedet_mm.structures import Faces

TILE_OVERLAP = 0.2
"""Least overlap of neighboring tiles as a share of their side; a face up to this size is whole in one of them."""
_NEAR_CUT = 8.0
"""Pixels of the network's input: a box that ends this close to a cut may be a part of a face."""
_PART = 0.5
"""Share of its area that a part must have inside a whole face to belong to it."""


@dataclass(frozen=True)
class View:
    """A region of an image and its place in the network's input.

    Attributes:
        region: x1 y1 x2 y2 in pixels of the image.
        letterbox: Place of the region in the network's input.
        cuts: Whether the region's left, top, right and bottom edge cuts through the image.
    """

    region: tuple[int, int, int, int]
    letterbox: Letterbox
    cuts: tuple[bool, bool, bool, bool] = (False, False, False, False)

    def crop(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Returns the region of ``image``, without a copy."""
        x1, y1, x2, y2 = self.region
        return image[y1:y2, x1:x2]


def check_tiles(tiles: Any) -> tuple[int, int] | None:
    """Returns ``tiles`` as (width, height); ``None`` stays ``None``.

    Raises:
        FaceDetError: The value is not ``None``, an int or (width, height), or a side is below 64 pixels.
    """
    if tiles is None:
        return None
    sides = (tiles, tiles) if isinstance(tiles, (int, np.integer)) else tiles
    if not (isinstance(sides, (tuple, list)) and len(sides) == 2):
        raise FaceDetError(f"tiles must be None, a side or (width, height) in pixels, not {tiles!r}")
    if not all(isinstance(side, (int, np.integer)) and side >= 64 for side in sides):
        raise FaceDetError(f"tiles must be at least 64 pixels wide and high, not {tiles!r}")
    return int(sides[0]), int(sides[1])


def plan_views(
    width: int, height: int, sizes: Sequence[InputSize], tiles: tuple[int, int] | None, divisor: int
) -> list[View]:
    """Returns the views of an image of ``width`` × ``height``: the whole image, then its tiles, each at every size.

    The tiles cover the image evenly, each overlapping the next by at least :data:`TILE_OVERLAP` of its side. An
    image that fits into one tile has no tiles.
    """
    whole = (0, 0, width, height)
    views = [View(whole, fit(width, height, size, divisor)) for size in sizes]
    if tiles is None or (width <= tiles[0] and height <= tiles[1]):
        return views
    spans_x, spans_y = _spans(width, tiles[0]), _spans(height, tiles[1])
    regions = [(x1, y1, x2, y2) for y1, y2 in spans_y for x1, x2 in spans_x]
    for x1, y1, x2, y2 in regions:
        cuts = (x1 > 0, y1 > 0, x2 < width, y2 < height)
        views += [View((x1, y1, x2, y2), fit(x2 - x1, y2 - y1, size, divisor), cuts) for size in sizes]
    return views


def merge_views(views: Sequence[View], found: Sequence[Faces], iou_thr: float) -> Faces:
    """Merges the faces of several views of one image and returns them by descending score.

    A box that ends at a cut may be a part of a face that another view shows whole, so it is kept only where no whole
    face covers half of it. NMS keeps the best of the others.

    Args:
        views: Views of one image.
        found: Faces of each view, in pixels of its region.
        iou_thr: IoU threshold of the NMS.
    """
    faces = Faces.concatenate([_shifted(part, view.region[:2]) for view, part in zip(views, found, strict=True)])
    part = np.concatenate([_cut(view, faces) for view, faces in zip(views, found, strict=True)])
    whole, parts = faces[~part], faces[part]
    whole = whole[nms(whole.boxes, whole.scores, iou_thr)]
    parts = parts[~_covered(parts.boxes, whole.boxes)]
    parts = parts[nms(parts.boxes, parts.scores, iou_thr)]
    faces = Faces.concatenate([whole, parts])
    return faces[np.argsort(-faces.scores, kind="stable")]


def _spans(length: int, tile: int) -> list[tuple[int, int]]:
    if length <= tile:
        return [(0, length)]
    count = 1 + int(np.ceil((length - tile) / (tile * (1 - TILE_OVERLAP))))
    starts = np.linspace(0, length - tile, count).round().astype(int).tolist()
    return [(start, start + tile) for start in starts]


def _shifted(faces: Faces, origin: tuple[int, int]) -> Faces:
    if origin == (0, 0):
        return faces
    offset = np.array(origin, np.float32)
    landmarks = None if faces.landmarks is None else faces.landmarks + offset
    return Faces(faces.boxes + np.tile(offset, 2), faces.scores, landmarks)


def _cut(view: View, faces: Faces) -> NDArray[np.bool_]:
    """Returns (N,): whether each face of the view ends at a cut."""
    letterbox = view.letterbox
    margin = _NEAR_CUT / np.array(letterbox.scale * 2)
    near = np.hstack([faces.boxes[:, :2] < margin[:2], faces.boxes[:, 2:] > np.array(letterbox.source) - margin[2:]])
    result: NDArray[np.bool_] = (near & np.array(view.cuts)).any(axis=1)
    return result


def _covered(parts: NDArray[np.float32], whole: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Returns (N,): whether one of ``whole`` covers at least half of each part."""
    low = np.maximum(parts[:, None, :2], whole[None, :, :2])
    high = np.minimum(parts[:, None, 2:], whole[None, :, 2:])
    overlap = np.prod(np.maximum(high - low, 0), axis=2)
    area = np.prod(parts[:, 2:] - parts[:, :2], axis=1)
    result: NDArray[np.bool_] = (overlap >= _PART * area[:, None]).any(axis=1)
    return result
