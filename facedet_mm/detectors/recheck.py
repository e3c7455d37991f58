"""The second look at doubtful faces, each in a crop of its own."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from numpy.typing import NDArray

from facedet_mm.detectors.merging import Merged
from facedet_mm.detectors.views import Look, Region, Seen, ViewPlan
from facedet_mm.structures import Faces

_DOUBTFUL = (0.3, 0.75)
"""Scores of faces that are looked at again, if a single view saw them: below, they hardly count as faces."""
_MOST = 64
"""Number of faces of an image that are looked at again."""
_CROP, _CROP_SIDE = 3.0, 128
"""Side of the crop, in sides of the face, and in pixels of the network's input."""
_CONFIRMED = 0.3
"""Score in the crop from which on the face is taken for one."""
_DENIED = 0.5
"""Factor of the score of a face that the crop does not show."""
_CENTER = 0.5
"""Distance of the centers of both boxes, in sides of the face, up to which they are the same face."""


def recheck(
    plan: ViewPlan, merged: Merged, degrees: NDArray[np.float64], size: tuple[int, int]
) -> Generator[Look, list[Seen], Faces]:
    """Returns the faces, with lower scores for those that a second look does not confirm, by descending score.

    Args:
        plan: Views that the detector looks at.
        merged: N faces of an image and their votes.
        degrees: (N,) degrees, counterclockwise, by which the image was turned where each face was seen.
        size: (width, height) of the image.
    """
    faces, votes = merged
    doubtful = np.flatnonzero((votes == 1) & (faces.scores > _DOUBTFUL[0]) & (faces.scores < _DOUBTFUL[1]))[:_MOST]
    if not len(doubtful):
        return faces
    upright = [plan.small(crop_region(faces.boxes[i], _CROP, size), _CROP_SIDE) for i in doubtful]
    crops = [plan.turned(crop, float(degrees[i])) for i, crop in zip(doubtful, upright, strict=True)]
    seen = yield Look(crops, _CONFIRMED)
    scores = faces.scores.copy()
    for i, crop, found in zip(doubtful, crops, seen, strict=True):
        again, _ = crop.placed(found.faces)
        if not _shows(again, faces.boxes[i]):
            scores[i] *= _DENIED
    order = np.argsort(-scores, kind="stable")
    return Faces(faces.boxes, scores, faces.landmarks)[order]


def crop_region(box: NDArray[np.float32], share: float, size: tuple[int, int]) -> Region:
    """Returns a square region around a face, clipped to the image.

    Args:
        box: x1 y1 x2 y2 of the face.
        share: Side of the region, in sides of the face, which is the square root of its area.
        size: (width, height) of the image.
    """
    center, side = (box[:2] + box[2:]) / 2, share * float(np.sqrt(np.prod(box[2:] - box[:2])))
    x1, y1 = np.clip(center - side / 2, 0, np.array(size) - 1).astype(int).tolist()
    x2, y2 = np.clip(np.ceil(center + side / 2), (x1 + 1, y1 + 1), size).astype(int).tolist()
    return x1, y1, x2, y2


def _shows(again: Faces, box: NDArray[np.float32]) -> bool:
    if not len(again):
        return False
    side = float(np.sqrt(np.prod(box[2:] - box[:2])))
    centers = (again.boxes[:, :2] + again.boxes[:, 2:]) / 2
    return bool((np.hypot(*(centers - (box[:2] + box[2:]) / 2).T) < _CENTER * side).any())
