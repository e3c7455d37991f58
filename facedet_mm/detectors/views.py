"""Views of an image: the whole of it and its tiles, at several sizes, turned and mirrored."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from facedet_mm.detectors.preprocess import InputSize, Letterbox, fit
from facedet_mm.detectors.turns import Turn
from facedet_mm.errors import FaceDetError
from facedet_mm.structures import Faces

TILE_OVERLAP = 0.2
"""Least overlap of neighboring tiles as a share of their side; a face up to this size is whole in one of them."""
WELL_SEEN = 16.0
"""Side of the smallest faces, in pixels of the network's input, that a view finds as well as a larger one.

Chosen on WIDER FACE train images; see docs/benchmarks.md."""
CLOSE_UP_SIDE = 128
"""Side of the small view that is searched for close-ups."""
CLOSE_UP_SHARE = 0.25
"""Share of the image's longer side from which on a face in that view counts."""
_NEAR_CUT = 8.0
"""Pixels of the network's input: a box that ends this close to a cut may be a part of a face."""
_NO_CUTS = (False, False, False, False)


Region: TypeAlias = tuple[int, int, int, int]
"""x1 y1 x2 y2 in pixels of the image."""


class Seen(NamedTuple):
    """What a detector found in one view.

    Attributes:
        faces: Faces in pixels of the view's region, or of its turned copy.
        close_up: Whether there may be a face that fills much of the view, too large to be found.
    """

    faces: Faces
    close_up: bool


@dataclass(frozen=True)
class View:
    """A region of an image and its place in the network's input.

    Attributes:
        region: x1 y1 x2 y2 in pixels of the image.
        letterbox: Place of the region, or of its turned copy, in the network's input.
        cuts: Whether the region's left, top, right and bottom edge cuts through the image.
        turn: How the region is turned or mirrored; ``None`` if it is not.
        least_side: Side of the smallest faces that count, in pixels of the image; a face's side is the square root of
            its area.
        coarse: Whether its boxes and landmarks are coarse, and count only where no other view shows the face well.
    """

    region: Region
    letterbox: Letterbox
    cuts: tuple[bool, bool, bool, bool] = _NO_CUTS
    turn: Turn | None = None
    least_side: float = 0.0
    coarse: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the region."""
        return self.region[2] - self.region[0], self.region[3] - self.region[1]

    @property
    def scale(self) -> tuple[float, float]:
        """Pixels of the network's input per pixel of the image, horizontally and vertically in the image."""
        if self.turn is None:
            return self.letterbox.scale
        return self.turn.size[0] / self.size[0], self.turn.size[1] / self.size[1]

    def pixels(self, image: NDArray[np.uint8], padding: tuple[int, int, int]) -> NDArray[np.uint8]:
        """Returns what ``letterbox`` places in the input: the region without a copy, or its turned copy."""
        x1, y1, x2, y2 = self.region
        crop = image[y1:y2, x1:x2]
        return crop if self.turn is None else self.turn.apply(crop, padding)

    def placed(self, faces: Faces) -> tuple[Faces, NDArray[np.bool_]]:
        """Returns the faces that count, in pixels of the image, and whether each ends at a cut.

        Args:
            faces: Faces in pixels of the region or of its turned copy.
        """
        if not len(faces):
            return faces, np.zeros(0, bool)
        if self.turn is not None:
            faces = self.turn.restore(faces)
            faces = faces.scale(1 / self.scale[0], 1 / self.scale[1])
        if self.least_side:
            area = np.prod(faces.boxes[:, 2:] - faces.boxes[:, :2], axis=1)
            faces = faces[np.sqrt(area) >= self.least_side]
        cut = np.zeros(len(faces), bool)
        if any(self.cuts):
            margin = _NEAR_CUT / np.array(self.scale)
            near = np.hstack([faces.boxes[:, :2] < margin, faces.boxes[:, 2:] > np.array(self.size) - margin])
            cut = (near & np.array(self.cuts)).any(axis=1)
        if self.region[:2] != (0, 0):
            offset = np.array(self.region[:2], np.float32)
            landmarks = None if faces.landmarks is None else faces.landmarks + offset
            faces = Faces(faces.boxes + np.tile(offset, 2), faces.scores, landmarks)
        return faces, cut


class Look(NamedTuple):
    """Views of one image to look at.

    Attributes:
        views: The views.
        score_thr: Score above which faces are seen; ``None`` means the detector's own.
    """

    views: list[View]
    score_thr: float | None = None


@dataclass(frozen=True)
class ViewPlan:
    """Which views of an image a detector looks at.

    Attributes:
        sizes: Input sizes.
        tiles: (width, height) of the tiles, or ``None``.
        divisor: Both sides of the network's input are multiples of this number.
        limits: Smallest and largest (width, height) of the network's input; ``None`` if it is free.
        rotations: Angles in degrees, counterclockwise, by which the image is turned.
        mirror: Whether each view is searched mirrored, too.
    """

    sizes: Sequence[InputSize]
    tiles: tuple[int, int] | None = None
    divisor: int = 32
    limits: tuple[tuple[int, int], tuple[int, int]] | None = None
    rotations: Sequence[float] = (0.0,)
    mirror: bool = False

    def views(self, width: int, height: int) -> list[View]:
        """Returns the views of an image of ``width`` × ``height``: the whole image, then its tiles, each at every size.

        The tiles cover the image evenly, each overlapping the next by at least :data:`TILE_OVERLAP` of its side. An
        image that fits into one tile has no tiles. Of several sizes, each counts for the faces that it sees well.
        """
        places = [((0, 0, width, height), _NO_CUTS), *_tiles(width, height, self.tiles)]
        fitted = [
            View(region, fit(region[2] - region[0], region[3] - region[1], size, self.divisor), cuts)
            for region, cuts in places
            for size in self.sizes
        ]
        if len(fitted) > 1:
            fitted = limited(fitted)
        copies = [(degrees, mirrored) for degrees in self.rotations for mirrored in ((False, True)[: 1 + self.mirror])]
        if copies == [(0.0, False)]:
            return fitted
        return [self.turned(view, *copy) for copy in copies for view in fitted]

    def turned(self, view: View, degrees: float, mirrored: bool = False, shrink: bool = True) -> View:
        """Returns the view turned by ``degrees`` and perhaps mirrored.

        Args:
            view: A view that is not turned.
            degrees: Angle, counterclockwise.
            mirrored: Whether left and right are swapped before.
            shrink: Whether the copy is made small enough to take no more pixels of the network's input than ``view``;
                else it has the same scale, and at 45 degrees up to twice the pixels.
        """
        if degrees % 360 == 0 and not mirrored:
            return view
        turn = Turn(view.letterbox.resized, degrees, mirrored)
        canvas = view.letterbox.canvas
        if degrees % 180 == 90:
            canvas = canvas[1], canvas[0]
        elif degrees % 180:
            canvas = self._canvas(turn.turned_size)
            if shrink and math.prod(canvas) > math.prod(view.letterbox.canvas):
                factor = math.sqrt(math.prod(view.letterbox.canvas) / math.prod(turn.turned_size))
                canvas = self._canvas([int(side * factor) for side in turn.turned_size], up=False)
        canvas = self._within(canvas)
        turn = _shrunk(turn, canvas)
        return replace(view, turn=turn, letterbox=Letterbox(turn.turned_size, turn.turned_size, canvas))

    def _canvas(self, size: Sequence[int], up: bool = True) -> tuple[int, int]:
        width, height = (max(1, -(-side // self.divisor) if up else side // self.divisor) for side in size)
        return width * self.divisor, height * self.divisor

    def _within(self, canvas: tuple[int, int]) -> tuple[int, int]:
        """Returns the input that the network takes which is nearest to ``canvas``."""
        if self.limits is None:
            return canvas
        width, height = (max(low, min(side, high)) for side, low, high in zip(canvas, *self.limits, strict=True))
        return width, height

    def small(self, region: Region, side: int) -> View:
        """Returns an upright view of a region, whose longer side takes only ``side`` pixels of the input.

        Args:
            region: x1 y1 x2 y2 in pixels of the image.
            side: Longer side of the region in the network's input.
        """
        size = region[2] - region[0], region[3] - region[1]
        scale = side / max(size)
        if self.limits is not None:
            scale = min(scale, *(most / length for most, length in zip(self.limits[1], size, strict=True)))
        small = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
        return View(region, Letterbox(size, small, self._within(self._canvas(small))))

    def close_up(self, view: View) -> View:
        """Returns the small view in which only faces count that fill a large part of the image.

        Args:
            view: View of the whole image.
        """
        small = self.small(view.region, CLOSE_UP_SIDE)
        small = replace(small, least_side=CLOSE_UP_SHARE * max(view.size), coarse=True)
        return small if view.turn is None else self.turned(small, view.turn.degrees)


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


def limited(views: Sequence[View]) -> list[View]:
    """Returns the views of one image, each with the limit of the faces that it sees well, see :data:`WELL_SEEN`.

    Those of the largest scale have no limit, so that every face counts in at least one view.
    """
    scales = [math.sqrt(math.prod(view.scale)) for view in views]
    largest = max(scales)
    return [
        view if scale == largest else replace(view, least_side=WELL_SEEN / scale)
        for view, scale in zip(views, scales, strict=True)
    ]


def _tiles(
    width: int, height: int, tiles: tuple[int, int] | None
) -> list[tuple[Region, tuple[bool, bool, bool, bool]]]:
    if tiles is None or (width <= tiles[0] and height <= tiles[1]):
        return []
    spans_x, spans_y = _spans(width, tiles[0]), _spans(height, tiles[1])
    regions = [(x1, y1, x2, y2) for y1, y2 in spans_y for x1, x2 in spans_x]
    return [(r, (r[0] > 0, r[1] > 0, r[2] < width, r[3] < height)) for r in regions]


def _spans(length: int, tile: int) -> list[tuple[int, int]]:
    if length <= tile:
        return [(0, length)]
    count = 1 + int(np.ceil((length - tile) / (tile * (1 - TILE_OVERLAP))))
    starts = np.linspace(0, length - tile, count).round().astype(int).tolist()
    return [(start, start + tile) for start in starts]


def _shrunk(turn: Turn, canvas: tuple[int, int]) -> Turn:
    """Returns the turn with the largest size, at most its own, whose copy fits into ``canvas``."""
    factor = min(1.0, *(room / side for room, side in zip(canvas, turn.turned_size, strict=True)))
    while factor < 1:
        size = max(1, int(turn.size[0] * factor)), max(1, int(turn.size[1] * factor))
        turned = replace(turn, size=size)
        if turned.turned_size[0] <= canvas[0] and turned.turned_size[1] <= canvas[1]:
            return turned
        factor -= 1 / max(turn.size)
    return turn
