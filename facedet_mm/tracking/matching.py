"""The matching stages of ByteTrack: which detection continues which track, and which tracks are duplicates."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facedet_mm.tracking.association import assign, iou_matrix
from facedet_mm.tracking.detections import Detections
from facedet_mm.tracking.kalman import state_to_boxes
from facedet_mm.tracking.settings import TrackerSettings
from facedet_mm.tracking.tracks import Tracks

Indices = NDArray[np.intp]


def match(tracks: Tracks, found: Detections, confirmed: int, settings: TrackerSettings) -> Indices:
    """Matches detections to tracks in three stages (arXiv 2110.06864, algorithm 1).

    Detections of high score are matched first, with tracked and lost tracks; those of low score then continue
    remaining tracks that were seen in the last frame; remaining ones of high score are matched with unconfirmed tracks.

    Args:
        tracks: T tracks, predicted for this frame.
        found: The detections of this frame.
        confirmed: Number of confirmed tracks, which come first.
        settings: Settings of the tracker.

    Returns:
        (T,) the detection of each track, -1 for none.
    """
    high = found.high
    matches: Indices = np.full(len(tracks), -1)
    if not matches.size or not found.index.size:
        return matches
    overlap = iou_matrix(state_to_boxes(tracks.state), found.boxes, settings.height_power)
    costs = 1 - overlap[:, :high] * found.scores[:high]
    rows, columns = assign(costs[:confirmed], settings.match_thr)
    matches[rows] = columns

    left = ((matches[:confirmed] < 0) & ~tracks.lost[:confirmed]).nonzero()[0]
    rows, columns = assign(1 - overlap[:, high:].take(left, axis=0), settings.low_match_thr)
    matches[left[rows]] = columns + high

    if confirmed < len(tracks):
        free = found.unmatched(matches)
        rows, columns = assign(costs[confirmed:, free], settings.new_match_thr)
        matches[confirmed + rows] = free[columns]
    return matches


def duplicates(tracks: Tracks, kept: NDArray[np.bool_], duplicate_thr: float) -> Indices:
    """Returns, for each pair of a tracked and a lost track on the same face, the one that was tracked for less time.

    Args:
        tracks: T tracks.
        kept: (T,) bool; lost tracks that are not kept are ignored.
        duplicate_thr: Two tracks whose boxes overlap by more than this IoU are on the same face.
    """
    active, lost = (~tracks.lost).nonzero()[0], (tracks.lost & kept).nonzero()[0]
    if not active.size or not lost.size:
        return active[:0]
    boxes = state_to_boxes(tracks.state)
    overlap = iou_matrix(boxes.take(active, axis=1), boxes.take(lost, axis=1))
    i, j = (overlap > duplicate_thr).nonzero()
    i, j = active[i], lost[j]
    age = tracks.last - tracks.born
    return np.where(age[i] > age[j], j, i)
