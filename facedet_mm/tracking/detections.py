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
        index: (M,) positions among the N faces of the frame.
        high: Number of detections of high score.
        usable: (N,) bool, whether a face has a finite box with an area, and a score.
    """

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]
    index: Indices
    high: int
    usable: NDArray[np.bool_]

    @classmethod
    def from_faces(cls, faces: Faces, settings: TrackerSettings) -> Detections:
        """Splits faces by score; scores are compared as float32, so that 0.6 equals a threshold of 0.6."""
        boxes, scores = faces.boxes.T.astype(np.float64, order="C"), faces.scores
        finite = np.isfinite(boxes)
        if not finite.all():
            boxes[:, ~finite.all(axis=0)] = 0
        spans = boxes[2:] > boxes[:2]
        usable = spans[0] & spans[1] & np.isfinite(scores)
        threshold = np.float32(settings.track_thr)
        sure = scores > threshold if settings.drop_ties else scores >= threshold
        high = (usable & sure).nonzero()[0]
        low = (usable & (scores < threshold) & (scores > np.float32(settings.low_thr))).nonzero()[0]
        index = np.concatenate([high, low])
        return cls(boxes.take(index, axis=1), scores.take(index).astype(np.float64), index, len(high), usable)

    def unmatched(self, matches: Indices) -> Indices:
        """Returns the unmatched detections of high score; ``matches`` has the detection of each track, or -1."""
        free = np.ones(len(self.index) + 1, bool)  # one place more, because -1 is the index of the last
        free[matches] = False
        return free[: self.high].nonzero()[0]

    def new_tracks(self, matches: Indices, settings: TrackerSettings) -> Indices:
        """Returns the detections that start a track: good enough, unmatched and not a duplicate of a better one."""
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
