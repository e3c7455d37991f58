"""Fills the gaps of tracks: frames in which a face was missed between two that show it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from facedet_mm.errors import FaceDetError
from facedet_mm.structures import Faces
from facedet_mm.tracking.tracked_faces import join, track_ids

__all__ = ["GapFiller", "fill_gaps"]


class GapFiller:
    """Adds the missed faces of a track between two detections, to frames that pass through a window.

    A face that returns after at most ``max_gap`` frames was there in between: box, landmarks and score are interpolated
    linearly. Frames are therefore returned ``max_gap`` frames late. Only the frames of the window are kept in memory.

    Args:
        max_gap: Length of the longest gap that is filled, in frames.

    Raises:
        FaceDetError: ``max_gap`` is not a whole number of at least 1.

    Example:
        >>> filler = GapFiller(max_gap=2)
        >>> first, second = (Faces([[x, 0, x + 8, 8]], [0.9], track_ids=[1]) for x in (0, 4))
        >>> filler.push(first), filler.push(Faces.empty()), filler.push(second)
        ([], [], [Faces(n=1, boxes=[[0, 0, 8, 8]], scores=[0.9], track_ids=[1])])
        >>> [frame.boxes.tolist() for frame in filler.flush()]
        [[[2.0, 0.0, 10.0, 8.0]], [[4.0, 0.0, 12.0, 8.0]]]
    """

    def __init__(self, max_gap: int) -> None:
        if isinstance(max_gap, bool) or not isinstance(max_gap, (int, np.integer)) or max_gap < 1:
            raise FaceDetError(f"max_gap must be a whole number of frames, at least 1, not {max_gap}")
        self.max_gap = int(max_gap)
        self.reset()

    def reset(self) -> None:
        """Forgets everything, including the frames that were not returned yet."""
        self._window: deque[list[Faces]] = deque()
        self._last = Faces.empty()
        self._ages: NDArray[np.int64] = np.zeros(0, np.int64)

    def push(self, faces: Faces) -> list[Faces]:
        """Takes the next frame and returns the one ``max_gap`` frames before it.

        Args:
            faces: Faces with track IDs; those with the ID -1 stay as they are.

        Returns:
            At most one frame: the faces that were pushed, followed by those that were filled in.

        Raises:
            FaceDetError: The faces have no track IDs.
        """
        if len(faces) and faces.track_ids is None:
            raise FaceDetError("filling gaps needs faces with track IDs: pass the faces that a tracker returns")
        tracked = faces[track_ids(faces) >= 0]
        self._ages += 1
        self._fill(tracked)
        self._remember(tracked)
        self._window.append([faces])
        return [join(self._window.popleft())] if len(self._window) > self.max_gap else []

    def flush(self) -> list[Faces]:
        """Returns the frames that were not returned yet; the next one pushed begins another video."""
        frames = [join(parts) for parts in self._window]
        self.reset()
        return frames

    def _fill(self, tracked: Faces) -> None:
        _, now, before = np.intersect1d(track_ids(tracked), track_ids(self._last), return_indices=True)
        gaps = self._ages[before] - 1
        for back in range(1, int(gaps.max(initial=0)) + 1):
            wide = (gaps >= back).nonzero()[0]
            weights = back / self._ages[before[wide]]
            self._window[-back].append(_interpolate(tracked[now[wide]], self._last[before[wide]], weights))

    def _remember(self, tracked: Faces) -> None:
        kept = (self._ages <= self.max_gap) & ~np.isin(track_ids(self._last), track_ids(tracked))
        self._last = join([self._last[kept], tracked])
        self._ages = np.concatenate([self._ages[kept], np.zeros(len(tracked), np.int64)])


def fill_gaps(frames: Iterable[Faces], max_gap: int) -> Iterator[Faces]:
    """Yields the faces of each frame of a video, with the gaps of its tracks filled; see :class:`GapFiller`.

    Example:
        >>> seen = Faces([[0, 0, 8, 8]], [0.9], track_ids=[1])
        >>> [len(faces) for faces in fill_gaps([seen, Faces.empty(), seen], max_gap=5)]
        [1, 1, 1]
    """
    filler = GapFiller(max_gap)
    for faces in frames:
        yield from filler.push(faces)
    yield from filler.flush()


def _interpolate(later: Faces, earlier: Faces, weights: NDArray[np.float64]) -> Faces:
    """Returns faces on the straight line between two detections; ``weights`` (N,) are those of the earlier ones."""
    old, new = weights, 1 - weights
    landmarks = None
    if later.landmarks is not None and earlier.landmarks is not None:
        landmarks = old[:, None, None] * earlier.landmarks + new[:, None, None] * later.landmarks
    boxes = old[:, None] * earlier.boxes + new[:, None] * later.boxes
    return Faces(boxes, old * earlier.scores + new * later.scores, landmarks, later.track_ids)
