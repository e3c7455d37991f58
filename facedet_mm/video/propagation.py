"""Finding faces again on frames of a video on which the detector doesn't run."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from facedet_mm.io.images import as_bgr
from facedet_mm.structures import Faces
from facedet_mm.tracking import ByteTracker
from facedet_mm.tracking.tracks import ids_of

__all__ = ["Propagator"]

_FLOW_SIDE = 320
"""Longest side in pixels of the images that points are followed in."""
_RETURN = 1.0
"""Pixels by which a point that is followed there and back may miss itself."""
_GROWTH = 1.1
"""Most that a face grows or shrinks from one frame to the next."""
_GRID = np.stack(np.meshgrid(*[np.linspace(-0.35, 0.35, 5, dtype=np.float32)] * 2), axis=-1).reshape(-1, 2)
"""The points followed, in face widths and heights from the center."""


class Propagator:
    """Stands in for the detector between two frames on which it runs.

    Tracked faces go on as the tracker's motion model predicts. With ``flow`` they go where the pixels under them went
    (pyramidal Lucas-Kanade), which costs a small image pyramid a frame: a motion model knows nothing of a turn. Points
    that don't come back when followed backwards are left out, and a face with few good ones stays as predicted.
    Faces without a track stay where they are, or go with the flow, so that they don't blink.

    Args:
        tracker: the one that gives the faces their ids.
        flow: follow the pixels.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> image = cv2.GaussianBlur(rng.integers(0, 256, (120, 160, 3), np.uint8), (0, 0), 2)
        >>> tracker = ByteTracker()
        >>> propagator = Propagator(tracker, flow=True)
        >>> propagator.start(image, tracker.update(Faces([[40, 40, 80, 80]], [0.9])))
        >>> [round(x) for x in propagator.step(np.roll(image, 3, axis=1)).boxes[0].tolist()]
        [43, 40, 83, 80]
    """

    def __init__(self, tracker: ByteTracker, flow: bool = False) -> None:
        self._tracker = tracker
        self._flow = flow
        self._faces = Faces.empty()
        self._gray: NDArray[np.uint8] = np.zeros((0, 0), np.uint8)

    def start(self, image: NDArray[np.uint8], faces: Faces) -> None:
        """Takes note of a frame on which the detector ran.

        Args:
            image: uint8 BGR (H, W, 3).
            faces: of the frame, as the tracker gave them, without those that shall not be carried on.

        Raises:
            ImageError: ``image`` is no uint8 image.
        """
        self._faces = faces
        if self._flow:
            self._gray = _small_gray(image)

    def step(self, image: NDArray[np.uint8], frame: int | None = None) -> Faces:
        """The faces of the next frame, on which the detector doesn't run.

        Args:
            image: uint8 BGR (H, W, 3).
            frame: its number, as in :meth:`ByteTracker.predict`.

        Returns:
            The tracked faces, then those without a track (id -1).

        Raises:
            ImageError: ``image`` is no uint8 image.
            FaceDetError: the frame isn't later than the last one.
        """
        predicted, last = self._tracker.predict(frame), self._faces
        loose = (ids_of(last) < 0).nonzero()[0]
        faces = _joined(predicted, last[loose])
        if self._flow:
            before, self._gray = self._gray, _small_gray(image)
            _, now, then = np.intersect1d(ids_of(predicted), ids_of(last), return_indices=True)
            now = np.concatenate([now, np.arange(len(predicted), len(faces))])
            then = np.concatenate([then, loose])
            if now.size and before.shape == self._gray.shape:
                boxes, trusted = _follow(before, self._gray, last.boxes[then], image.shape[1])
                faces = _with_boxes(faces, now[trusted], boxes[trusted])
        self._faces = faces
        return faces


def _small_gray(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    gray = cv2.cvtColor(as_bgr(image), cv2.COLOR_BGR2GRAY)
    scale = min(1.0, _FLOW_SIDE / max(gray.shape))
    small = cv2.resize(gray, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else gray
    return np.asarray(small, np.uint8)


def _follow(
    before: NDArray[np.uint8], after: NDArray[np.uint8], boxes: NDArray[np.float32], width: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(N, 4) boxes in the frame after, and which of them, (N,), can be trusted."""
    to_small = after.shape[1] / width
    centers, sizes = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    points = (centers[:, None] + _GRID * sizes[:, None]).reshape(-1, 1, 2) * np.float32(to_small)
    ahead, found = _lucas_kanade(before, after, points)
    back, returned = _lucas_kanade(after, before, ahead)
    good = (found & returned & (np.abs(back - points).max(axis=2) < _RETURN)).reshape(len(boxes), -1)
    trusted = good.sum(axis=1) >= len(_GRID) / 2

    places = np.where(good[..., None], ahead.reshape(*good.shape, 2) / to_small, np.nan)[trusted]
    grid = np.where(good[trusted][..., None], _GRID, np.nan)
    middle, origin = np.nanmedian(places, axis=1), np.nanmedian(grid, axis=1)
    spread = np.nanmedian(np.abs(places - middle[:, None]), axis=1)
    expected = np.nanmedian(np.abs(grid - origin[:, None]), axis=1) * sizes[trusted]
    growth = np.clip(spread.sum(axis=1) / np.maximum(expected.sum(axis=1), 1e-6), 1 / _GROWTH, _GROWTH)[:, None]
    half = sizes[trusted] * growth / 2
    center = middle - origin * 2 * half
    moved = boxes.copy()
    moved[trusted] = np.concatenate([center - half, center + half], axis=1)
    return moved, trusted


def _lucas_kanade(
    before: NDArray[np.uint8], after: NDArray[np.uint8], points: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """(K, 1, 2) places of the points in the image after, and which, (K, 1), were found."""
    # OpenCV's type stubs don't know that the output may be None
    places, found, _ = cv2.calcOpticalFlowPyrLK(before, after, points, None, winSize=(15, 15), maxLevel=3)  # type: ignore[call-overload,unused-ignore]
    return places, found > 0


def _with_boxes(faces: Faces, rows: NDArray[np.intp], boxes: NDArray[np.float32]) -> Faces:
    """The faces with new boxes for some rows; landmarks keep their place within the box."""
    old, new = faces.boxes, faces.boxes.copy()
    new[rows] = boxes
    if faces.landmarks is None:
        return Faces(new, faces.scores, None, faces.track_ids)
    scale = (new[:, 2:] - new[:, :2]) / np.maximum(old[:, 2:] - old[:, :2], 1e-6)
    landmarks = (faces.landmarks - old[:, None, :2]) * scale[:, None] + new[:, None, :2]
    return Faces(new, faces.scores, landmarks, faces.track_ids)


def _joined(a: Faces, b: Faces) -> Faces:
    """Faces of one frame; a part without faces has no say in which columns there are."""
    return Faces.concatenate([a, b]) if len(a) and len(b) else a if len(a) else b
