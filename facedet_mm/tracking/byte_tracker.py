"""ByteTrack: takes the faces of one frame after the other and returns them with track IDs."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from facedet_mm.errors import FaceDetError
from facedet_mm.structures import Faces
from facedet_mm.tracking.detections import Detections
from facedet_mm.tracking.kalman import KalmanFilter, state_to_boxes
from facedet_mm.tracking.matching import duplicates, match
from facedet_mm.tracking.settings import TrackerSettings
from facedet_mm.tracking.tracks import Tracks, seen_columns

Indices = NDArray[np.intp]


class ByteTracker:
    """Gives the faces of a video IDs that stay with a face, by ByteTrack (arXiv 2110.06864, algorithm 1).

    A track is confirmed, and gets its ID, when it is seen in a second frame; the first tracks of a video are confirmed
    at once. IDs count from 1 without gaps, separately in each tracker.

    Run the detector with a ``score_thr`` near ``settings.low_thr``, because half of the method depends on detections
    of low score. Boxes that are not finite or have no area, and scores that are not finite, are ignored.

    Args:
        settings: A name in :data:`~facedet_mm.tracking.settings.PRESETS`, or settings.
        frame_rate: Frames per second, including those for which only :meth:`predict` is called.
        keep_untracked: Whether to return all usable detections; those without a confirmed track have the ID -1.

    Attributes:
        settings: Settings of the tracker.
        buffer: Number of frames for which a lost track is remembered.
        detection_index: (N,) the position in the input of each face that was returned last; -1 if it was predicted.

    Raises:
        FaceDetError: The preset is unknown, or the frame rate is not a positive number.

    Example:
        >>> tracker = ByteTracker(frame_rate=25)
        >>> for x in (10, 14, 18):
        ...     faces = tracker.update(Faces(boxes=[[x, 20, x + 40, 70]], scores=[0.9]))
        >>> faces.track_ids.tolist(), faces.boxes.tolist()
        ([1], [[18.0, 20.0, 58.0, 70.0]])
    """

    def __init__(
        self, settings: TrackerSettings | str = "faces", frame_rate: float = 30.0, keep_untracked: bool = False
    ) -> None:
        if not 0 < frame_rate < math.inf:
            raise FaceDetError(f"frame_rate must be a positive number, not {frame_rate}")
        self.settings = TrackerSettings.from_preset(settings)
        self.buffer = int(frame_rate / 30 * self.settings.track_buffer)
        self._filter = KalmanFilter(30 / frame_rate if self.settings.scale_motion else 1.0)
        self._keep_untracked = keep_untracked
        self.reset()

    def reset(self) -> None:
        """Forgets everything: the next frame is the first of another video, and IDs start at 1 again."""
        self._tracks = Tracks.empty()
        self._frame = 0
        self._started = False
        self._next_id = 1
        self._landmarks = False
        self._rows: Indices = np.zeros(0, np.intp)  # the track of each face that was returned last
        self.detection_index: Indices = np.zeros(0, np.intp)

    def forget(self) -> None:
        """Ends all tracks, because another shot begins; IDs and frame numbers continue."""
        self._tracks = Tracks.empty()
        self._rows = self.detection_index = np.zeros(0, np.intp)

    def update(self, faces: Faces, frame: int | None = None) -> Faces:
        """Returns the tracked faces with their IDs; boxes, scores and landmarks are those of the detector.

        Args:
            faces: Detected faces, possibly none; their track IDs are ignored.
            frame: Frame number; ``None`` means the next one. Tracks are predicted through missing numbers, as when a
                live source drops frames.

        Returns:
            Faces in the order of the input.

        Raises:
            FaceDetError: The frame is not later than the last one.
        """
        self._go_to(frame)
        found = Detections.from_faces(faces, self.settings)
        confirmed = int(np.count_nonzero(self._tracks.ids))
        self._predict(confirmed)
        matches = match(self._tracks, found, confirmed, self.settings)
        self._correct(faces, found, matches)
        matches = self._start(faces, found, matches)
        matches = self._end(matches)
        self._confirm()
        return self._output(faces, found, matches)

    def predict(self, frame: int | None = None) -> Faces:
        """Returns where the tracked faces should be in a frame on which the detector does not run.

        Args:
            frame: Frame number, as in :meth:`update`.

        Returns:
            Faces with IDs: boxes of the motion model, last scores, last landmarks moved along with the box.

        Raises:
            FaceDetError: The frame is not later than the last one.
        """
        self._go_to(frame)
        self._coast(self._frame)
        tracks = self._tracks
        self._rows = ((tracks.ids > 0) & ~tracks.lost).nonzero()[0]
        self.detection_index = np.full(len(self._rows), -1)
        return tracks[self._rows].predicted_faces(self._landmarks)

    def lost(self) -> Faces:
        """Returns where the lost tracks, remembered for :attr:`buffer` frames, should be now; see :meth:`predict`."""
        return self._tracks[self._tracks.lost.nonzero()[0]].predicted_faces(self._landmarks)

    def kalman_boxes(self) -> NDArray[np.float32]:
        """Returns the motion model's boxes, (N, 4) float32, of the faces returned last; NaN for the ID -1."""
        boxes = np.full((len(self._rows), 4), np.nan, np.float32)
        tracked = self._rows >= 0
        boxes[tracked] = state_to_boxes(self._tracks.state).T[self._rows[tracked]]
        return boxes

    def _go_to(self, frame: int | None) -> None:
        last = self._frame
        if frame is None:
            frame = last + 1
        if self._started and frame <= last:
            raise FaceDetError(
                f"frame {frame} after frame {last}: frames must come in order; call reset() for a new video"
            )
        for skipped in range(last + 1, min(frame, last + self.buffer + 2)):
            self._coast(skipped)
        self._frame, self._started = frame, True

    def _coast(self, frame: int) -> None:
        """Advances the tracks by a frame without detections: none becomes lost, but forgotten ones end."""
        self._predict(len(self._tracks))
        remembered = frame - self._tracks.last <= self.buffer
        if not remembered.all():
            self._tracks = self._tracks[remembered.nonzero()[0]]

    def _predict(self, count: int) -> None:
        """Advances the first ``count`` tracks by a frame; lost ones keep their size, which nothing updates."""
        state = self._tracks.state[:, :, :count]
        state[1, 3, self._tracks.lost[:count]] = 0
        self._filter.predict(state)

    def _correct(self, faces: Faces, found: Detections, matches: Indices) -> None:
        """Updates the tracks with their detections."""
        tracks = self._tracks
        np.less(matches, 0, out=tracks.lost)
        rows = (matches >= 0).nonzero()[0]
        if not rows.size:
            return
        columns = matches[rows]
        noise = np.maximum(1 - found.scores[columns], 0) if self.settings.trust_scores else None
        state = tracks.state.take(rows, axis=2)
        self._filter.correct(state, found.boxes.take(columns, axis=1), noise)
        tracks.state[:, :, rows] = state
        tracks.last[rows] = self._frame
        tracks.seen[rows] = seen_columns(faces, found.index[columns])

    def _start(self, faces: Faces, found: Detections, matches: Indices) -> Indices:
        """Adds tracks for new detections; returns the detection of each track."""
        new = found.new_tracks(matches, self.settings)
        if not new.size:
            return matches
        seen = seen_columns(faces, found.index[new])
        self._tracks += Tracks.start(self._filter.start(found.boxes[:, new]), seen, self._frame)
        return np.concatenate([matches, new])

    def _end(self, matches: Indices) -> Indices:
        """Removes tracks that have ended; returns the detection of each remaining track."""
        tracks = self._tracks
        if not tracks.lost.any():
            return matches
        # a track that was seen once and then missed has no ID and is not remembered
        kept = ~tracks.lost | ((tracks.ids > 0) & (self._frame - tracks.last <= self.buffer))
        kept[duplicates(tracks, kept, self.settings.duplicate_thr)] = False
        if kept.all():
            return matches
        left = kept.nonzero()[0]
        self._tracks = tracks[left]
        return matches[left]

    def _confirm(self) -> None:
        """Gives IDs to tracks that were seen twice, and to the first of a video."""
        tracks = self._tracks
        waiting = tracks.ids == 0
        if self._next_id > 1:
            waiting &= tracks.born < self._frame
        count = int(np.count_nonzero(waiting))
        if count:
            tracks.ids[waiting] = np.arange(self._next_id, self._next_id + count)
            self._next_id += count

    def _output(self, faces: Faces, found: Detections, matches: Indices) -> Faces:
        tracked = ((matches >= 0) & (self._tracks.ids > 0)).nonzero()[0]
        places = found.index[matches[tracked]]
        rows, ids = np.full(len(faces), -1), np.full(len(faces), -1)
        rows[places] = tracked
        ids[places] = self._tracks.ids[tracked]
        index = (found.usable if self._keep_untracked else rows >= 0).nonzero()[0]
        self._rows, self.detection_index = rows[index], index
        self._landmarks = faces.landmarks is not None
        landmarks = None if faces.landmarks is None else faces.landmarks[index]
        return Faces(faces.boxes[index], faces.scores[index], landmarks, ids[index])
