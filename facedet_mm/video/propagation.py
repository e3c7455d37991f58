"""Moves faces to frames of a video on which the detector does not run."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from facedet_mm.structures import Faces
from facedet_mm.tracking import ByteTracker
from facedet_mm.tracking.tracked_faces import join, move_landmarks, track_ids
from facedet_mm.video.optical_flow import follow_boxes, small_gray

__all__ = ["Propagator"]


class Propagator:
    """Replaces the detector between two frames on which it runs.

    Tracked faces move as the tracker's motion model predicts. With ``flow`` they follow the pixels under them, because
    a motion model cannot foresee a change of direction; this costs one small image pyramid per frame. A face with few
    points that can be followed stays where it was predicted. Faces without a track stay where they are, or follow the
    flow, so that they do not flicker.

    Args:
        tracker: Tracker that gives the faces their IDs.
        flow: Whether to use optical flow.

    Example:
        >>> import cv2
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
        """Records a frame on which the detector ran.

        Args:
            image: (H, W, 3) uint8 BGR.
            faces: Faces of the frame as the tracker returned them, without those that should not be propagated.

        Raises:
            ImageError: ``image`` is not a uint8 image.
        """
        self._faces = faces
        if self._flow:
            self._gray = small_gray(image)

    def step(self, image: NDArray[np.uint8], frame: int | None = None) -> Faces:
        """Returns the faces of the next frame, on which the detector does not run.

        Args:
            image: (H, W, 3) uint8 BGR.
            frame: Frame number, as in :meth:`ByteTracker.predict`.

        Returns:
            The tracked faces, then those without a track (ID -1).

        Raises:
            ImageError: ``image`` is not a uint8 image.
            FaceDetError: The frame is not later than the last one.
        """
        predicted, last = self._tracker.predict(frame), self._faces
        loose = (track_ids(last) < 0).nonzero()[0]
        faces = join([predicted, last[loose]])
        if self._flow:
            before, self._gray = self._gray, small_gray(image)
            _, now, then = np.intersect1d(track_ids(predicted), track_ids(last), return_indices=True)
            now = np.concatenate([now, np.arange(len(predicted), len(faces))])
            then = np.concatenate([then, loose])
            if now.size and before.shape == self._gray.shape:
                boxes, trusted = follow_boxes(before, self._gray, last.boxes[then], image.shape[1])
                faces = with_boxes(faces, now[trusted], boxes[trusted])
        self._faces = faces
        return faces


def with_boxes(faces: Faces, rows: NDArray[np.intp], boxes: NDArray[np.float32]) -> Faces:
    """Returns the faces with new boxes for some rows; landmarks keep their place within the box."""
    new = faces.boxes.copy()
    new[rows] = boxes
    landmarks = None if faces.landmarks is None else move_landmarks(faces.landmarks, faces.boxes, new)
    return Faces(new, faces.scores, landmarks, faces.track_ids)
