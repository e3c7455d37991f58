"""Merging of the faces found in several views of one image: one implementation for the runtime and the plugin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from facedet_mm.detectors.nms import nms, overlapping
from facedet_mm.detectors.views import View
from facedet_mm.structures import Faces

_PART = 0.5
"""Share of its area that a part must have inside a whole face to belong to it."""
_DOUBLE = 0.4
"""Share of the smaller of two boxes that lies inside the other, where turned views saw the same face twice."""
_SAME = 0.5
"""IoU above which boxes of different views vote for the same face."""
_COARSE = 0.7
"""Weight of the scores of coarse boxes."""
_PAIRS = 1 << 20
"""Number of pairs of boxes compared at a time."""
_TINY = np.finfo(np.float32).tiny


def merge_views(views: Sequence[View], found: Sequence[Faces], iou_thr: float, vote: bool = False) -> Faces:
    """Merges the faces of several views of one image.

    NMS keeps the best box of each face, and a coarse one only where the others have less than 0.7 of its score. A box
    that ends at a cut may be a part of a face that another view shows whole, so it is kept only where no whole face
    covers half of it.

    Args:
        views: Views of one image.
        found: Faces of each view, in pixels of its region.
        iou_thr: IoU threshold of the NMS.
        vote: Whether a kept box and its landmarks become the mean of all that overlap it, see :func:`vote_boxes`.
            If views are mirrored, too, every face was looked at twice, and its score is the mean of its two best.
    """
    placed = [view.placed(faces) for view, faces in zip(views, found, strict=True)]
    faces = Faces.concatenate([part for part, _ in placed])
    cut = np.concatenate([ends for _, ends in placed])
    counts = [len(part) for part, _ in placed]
    whole, parts = faces[~cut], faces[cut]
    coarse = np.repeat([view.coarse for view in views], counts)[~cut]
    ranks = np.where(coarse, _COARSE, np.float32(1)) * whole.scores
    kept = nms(whole.boxes, ranks, iou_thr)
    if any(view.turn and view.turn.degrees for view in views):
        degrees = [view.turn.degrees if view.turn else 0.0 for view in views]
        angles = np.repeat(degrees, counts)[~cut]
        kept = kept[~_seen_better(whole.boxes[kept], angles[kept])]
    merged = whole[kept]
    if vote and len(kept):
        twice = any(view.turn and view.turn.mirrored for view in views)
        merged = vote_boxes(Faces(whole.boxes, ranks, whole.landmarks), kept, max(iou_thr, _SAME), 1 + twice)
    alone = coarse[kept]
    if alone.any():
        merged = Faces(merged.boxes, np.where(alone, whole.scores[kept], merged.scores), merged.landmarks)
    if len(parts):
        parts = parts[~_covered(parts.boxes, merged.boxes)]
        merged = Faces.concatenate([merged, parts[nms(parts.boxes, parts.scores, iou_thr)]])
    return merged[np.argsort(-merged.scores, kind="stable")]


def vote_boxes(faces: Faces, kept: NDArray[np.intp], iou_thr: float, looks: int = 1) -> Faces:
    """Returns the kept faces, each at the mean of all faces that overlap it, weighted by their scores.

    Box voting of Gidaris and Komodakis, "Object detection via a multi-region & semantic segmentation-aware CNN model"
    (ICCV 2015).

    Args:
        faces: N faces.
        kept: (K,) indices of the faces to keep.
        iou_thr: Faces with an IoU above this vote.
        looks: Number of looks at each face: with 1, scores stay those of the kept faces; with 2, each becomes the mean
            of that and of the best other vote, which is 0 if a single look saw the face.
    """
    i, j = overlapping(faces.boxes, kept, iou_thr)
    others = j != kept[i]
    i, j = i[others], j[others]
    scores = faces.scores[kept]
    if looks > 1:
        second = np.zeros(len(kept), np.float32)
        np.maximum.at(second, i, faces.scores[j])
        scores = (scores + np.minimum(second, scores)) / 2
    i, j = np.append(i, np.arange(len(kept))), np.append(j, kept)
    weights = np.maximum(faces.scores[j].astype(np.float64), _TINY)
    values = faces.boxes if faces.landmarks is None else np.hstack([faces.boxes, faces.landmarks.reshape(-1, 10)])
    total = np.bincount(i, weights, len(kept))
    means = np.empty((len(kept), values.shape[1]))
    for column in range(values.shape[1]):
        means[:, column] = np.bincount(i, weights * values[j, column], len(kept)) / total
    points = None if faces.landmarks is None else means[:, 4:].reshape(-1, 5, 2)
    return Faces(means[:, :4], scores, points)


def degrees_of(faces: Faces, views: Sequence[View], found: Sequence[Faces], iou_thr: float) -> NDArray[np.float64]:
    """Returns (N,): degrees, counterclockwise, of the view that saw each of the merged faces best.

    Args:
        faces: N merged faces.
        views: Views of the image.
        found: Faces of each view, in pixels of its region.
        iou_thr: IoU above which a face of a view is the same as a merged one.
    """
    degrees = np.array([view.turn.degrees if view.turn else 0.0 for view in views])
    if not len(faces) or (degrees == degrees[0]).all():
        return np.full(len(faces), degrees[0])
    placed = [view.placed(seen)[0] for view, seen in zip(views, found, strict=True)]
    candidates = Faces.concatenate(placed)
    if not len(candidates):
        return np.zeros(len(faces))
    owners = np.repeat(degrees, [len(part) for part in placed])
    best = []
    for rows in _slices(len(faces), len(candidates)):
        overlap = _iou(faces.boxes[rows], candidates.boxes)
        best.append(np.where(overlap > iou_thr, 1 + candidates.scores, overlap).argmax(axis=1))
    return np.asarray(owners[np.concatenate(best)])


def _seen_better(boxes: NDArray[np.float32], angles: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Returns (K,): whether a better face covers much of the smaller of both boxes and was seen at another angle.

    A network that sees a face at the wrong angle puts its box beside the face, where NMS does not find it. So does one
    that sees it at an oblique angle: there, two faces of one view are compared, too.

    Args:
        boxes: (K, 4), the best first.
        angles: (K,) degrees of the view of each face.
    """
    area, order = _area(boxes), np.arange(len(boxes))
    found = np.zeros(len(boxes), bool)
    for rows in _slices(len(boxes), len(boxes)):
        double = _overlap(boxes[rows], boxes) > _DOUBLE * np.minimum(area[rows, None], area)
        double &= (angles[rows, None] != angles) | (angles % 90 != 0)
        found[rows] = (double & (order < order[rows, None])).any(axis=1)
    return found


def _covered(parts: NDArray[np.float32], whole: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Returns (N,): whether one of ``whole`` covers at least half of each part."""
    slices = _slices(len(parts), len(whole))
    covered = [(_overlap(parts[rows], whole) >= _PART * _area(parts[rows])[:, None]).any(axis=1) for rows in slices]
    return np.concatenate(covered)


def _iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    overlap = _overlap(a, b)
    result: NDArray[np.float32] = overlap / np.maximum(_area(a)[:, None] + _area(b) - overlap, _TINY)
    return result


def _overlap(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Returns (A, B): the area that each box of ``a`` shares with each of ``b``."""
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    result: NDArray[np.float32] = np.prod(np.maximum(sides, 0), axis=2)
    return result


def _area(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    result: NDArray[np.float32] = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return result


def _slices(rows: int, columns: int) -> list[slice]:
    """Returns slices of the rows of a matrix that is too large to have all its pairs of boxes in memory."""
    step = max(1, _PAIRS // max(columns, 1))
    return [slice(i, i + step) for i in range(0, rows, step)]
