"""The detections of one frame, sorted as ByteTrack needs them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from facedet_mm.structures import Faces
from facedet_mm.tracking.association import iou_matrix
from facedet_mm.tracking.settings import TrackerSettings

Indices = NDArray[np.intp]


@dataclass(frozen=True)
class Detections:
    """M detections that may be matched: those of high score, then those of low score.

    Attributes:
        boxes: (4, M) float64, the rows x1 y1 x2 y2.
        scores: (M,) float64.
        index: (M,) their places among the faces of the frame.
        high: how many are of high score.
        usable: (N,) bool, which of all faces have a finite box with an area, and a score.
    """

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    index: Indices
    high: int
    usable: NDArray[np.bool_]

    @classmethod
    def of(cls, faces: Faces, settings: TrackerSettings) -> Detections:
        """Splits the faces by score; scores are compared as float32, so 0.6 equals a threshold of 0.6."""
        boxes, scores = faces.boxes.T.astype(np.float64, order="C"), faces.scores
        finite = np.isfinite(boxes)
        if not finite.all():
            boxes[:, ~finite.all(axis=0)] = 0
        spans = boxes[2:] > boxes[:2]
        usable = spans[0] & spans[1] & (scores == scores)
        threshold = np.float32(settings.track_thr)
        sure = scores > threshold if settings.drop_ties else scores >= threshold
        high = (usable & sure).nonzero()[0]
        low = (usable & (scores < threshold) & (scores > np.float32(settings.low_thr))).nonzero()[0]
        index = np.concatenate([high, low])
        return cls(boxes.take(index, axis=1), scores.take(index).astype(np.float64), index, len(high), usable)

    def unmatched(self, matches: Indices) -> Indices:
        """The detections of high score that no track has; ``matches`` holds each track's detection or -1."""
        free = np.ones(len(self.index) + 1, bool)  # the last place takes the -1
        free[matches] = False
        return free[: self.high].nonzero()[0]

    def newcomers(self, matches: Indices, settings: TrackerSettings) -> Indices:
        """The detections that start a track: good enough, no track's own, no duplicate of a better one."""
        new = self.unmatched(matches)
        new = new[self.scores[new] >= np.float32(settings.new_track_thr)]
        if not new.size:
            return new
        boxes, rank = self.boxes[:, : self.high], self.scores[: self.high].copy()
        rank[matches[(matches >= 0) & (matches < self.high)]] = np.inf
        earlier = np.arange(self.high) < new[:, None]
        better = (rank > rank[new, None]) | ((rank == rank[new, None]) & earlier)
        duplicate = better & (iou_matrix(boxes[:, new], boxes) > settings.duplicate_thr)
        kept: Indices = new[~duplicate.any(axis=1)]
        return kept
