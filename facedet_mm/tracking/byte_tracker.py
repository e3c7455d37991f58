"""ByteTrack: faces of one frame after the other in, the same faces with ids out."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from facedet_mm.errors import FaceDetError
from facedet_mm.structures import Faces
from facedet_mm.tracking.association import assign, iou_matrix
from facedet_mm.tracking.detections import Detections
from facedet_mm.tracking.kalman import KalmanFilter, boxes_of
from facedet_mm.tracking.settings import TrackerSettings, settings_of
from facedet_mm.tracking.tracks import Tracks, seen_columns

Indices = NDArray[np.intp]


class ByteTracker:
    """Gives the faces of a video ids that stay with a face, by ByteTrack (arXiv 2110.06864, algorithm 1).

    Detections of high score are matched first, with tracked and with lost tracks; those of low score then continue
    tracks that are left over. A track is confirmed, and gets its id, when it is seen in a second frame; the first
    ones of a video are at once. Ids count from 1 without gaps, in each tracker anew.

    Run the detector with a ``score_thr`` near ``settings.low_thr``: without low detections half of the method is
    missing. Boxes that aren't finite or have no area, and scores that are NaN, are left out.

    Args:
        settings: a name of :data:`~facedet_mm.tracking.settings.PRESETS`, or settings of your own.
        frame_rate: frames a second, those included for which only :meth:`predict` is called.
        keep_untracked: return all usable detections; those without a confirmed track have the id -1.

    Attributes:
        settings: the settings.
        buffer: frames for which a lost track is remembered.
        detection_index: (N,) for each face that came out last its place among those that went in; -1 when it was
            predicted.

    Raises:
        FaceDetError: an unknown preset, or a frame rate that isn't a positive number.

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
        self.settings = settings_of(settings)
        self.buffer = int(frame_rate / 30 * self.settings.track_buffer)
        self._filter = KalmanFilter(30 / frame_rate if self.settings.scale_motion else 1.0)
        self._keep_untracked = keep_untracked
        self.reset()

    def reset(self) -> None:
        """Forgets everything: the next frame is the first of another video, ids start at 1 again."""
        self._tracks = Tracks.none()
        self._frame = 0
        self._started = False
        self._next_id = 1
        self._landmarks = False
        self._rows: Indices = np.zeros(0, np.intp)  # the track of each face that came out last
        self.detection_index: Indices = np.zeros(0, np.intp)

    def forget(self) -> None:
        """Ends all tracks, as where another shot begins; ids and frame numbers go on."""
        self._tracks = Tracks.none()
        self._rows = self.detection_index = np.zeros(0, np.intp)

    def update(self, faces: Faces, frame: int | None = None) -> Faces:
        """The tracked among the faces, with their ids; boxes, scores and landmarks are the detector's own.

        Args:
            faces: what the detector found, possibly nothing; ids that they have are ignored.
            frame: its number; ``None`` is the next one. Through numbers left out, as by a live source that drops
                frames, tracks are predicted.

        Returns:
            Faces in the order in which they went in.

        Raises:
            FaceDetError: the frame isn't later than the last one.
        """
        self._go_to(frame)
        found = Detections.of(faces, self.settings)
        confirmed = int(np.count_nonzero(self._tracks.ids))
        self._predict(confirmed)
        matches = self._associate(found, confirmed)
        self._correct(faces, found, matches)
        matches = self._start(faces, found, matches)
        matches = self._end(matches)
        self._confirm()
        return self._output(faces, found, matches)

    def predict(self, frame: int | None = None) -> Faces:
        """Where the tracked faces should be in a frame in which the detector isn't run.

        Args:
            frame: as in :meth:`update`.

        Returns:
            Faces with ids: boxes of the motion model, last scores, last landmarks moved along with the box.

        Raises:
            FaceDetError: the frame isn't later than the last one.
        """
        self._go_to(frame)
        self._coast(self._frame)
        tracks = self._tracks
        self._rows = ((tracks.ids > 0) & ~tracks.lost).nonzero()[0]
        self.detection_index = np.full(len(self._rows), -1)
        return tracks[self._rows].faces(self._landmarks)

    def lost(self) -> Faces:
        """Where the lost tracks, remembered for :attr:`buffer` frames, should be now; like :meth:`predict`."""
        return self._tracks[self._tracks.lost.nonzero()[0]].faces(self._landmarks)

    def kalman_boxes(self) -> NDArray[np.float32]:
        """(N, 4) float32: the motion model's boxes of the faces that came out last; NaN for the id -1."""
        boxes = np.full((len(self._rows), 4), np.nan, np.float32)
        tracked = self._rows >= 0
        boxes[tracked] = boxes_of(self._tracks.state).T[self._rows[tracked]]
        return boxes

    def _go_to(self, frame: int | None) -> None:
        last = self._frame
        if frame is None:
            frame = last + 1
        if self._started and frame <= last:
            raise FaceDetError(f"frame {frame} after frame {last}: frames must come in order; reset() for a new video")
        for skipped in range(last + 1, min(frame, last + self.buffer + 2)):
            self._coast(skipped)
        self._frame, self._started = frame, True

    def _coast(self, frame: int) -> None:
        """Lets a frame pass without detections: no track is lost by it, but forgotten ones end."""
        self._predict(len(self._tracks))
        remembered = frame - self._tracks.last <= self.buffer
        if not remembered.all():
            self._tracks = self._tracks[remembered.nonzero()[0]]

    def _predict(self, count: int) -> None:
        """Moves the first tracks on by a frame; lost ones keep their size, of which nothing is known."""
        state = self._tracks.state[:, :, :count]
        state[1, 3, self._tracks.lost[:count]] = 0
        self._filter.predict(state)

    def _associate(self, found: Detections, confirmed: int) -> Indices:
        """(T,) the detection of each track, -1 for none."""
        tracks, settings, high = self._tracks, self.settings, found.high
        matches: Indices = np.full(len(tracks), -1)
        if not matches.size or not found.index.size:
            return matches
        overlap = iou_matrix(boxes_of(tracks.state), found.boxes, settings.height_power)
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

    def _correct(self, faces: Faces, found: Detections, matches: Indices) -> None:
        """Takes what was seen into the tracks."""
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
        """Adds tracks for new detections; gives the detection of each track."""
        new = found.newcomers(matches, self.settings)
        if not new.size:
            return matches
        seen = seen_columns(faces, found.index[new])
        self._tracks += Tracks.start(self._filter.start(found.boxes[:, new]), seen, self._frame)
        return np.concatenate([matches, new])

    def _end(self, matches: Indices) -> Indices:
        """Removes tracks that are over; gives the detection of each track that is left."""
        tracks = self._tracks
        if not tracks.lost.any():
            return matches
        # a track seen once and then missed has no id yet, and no second chance
        kept = ~tracks.lost | ((tracks.ids > 0) & (self._frame - tracks.last <= self.buffer))
        kept[self._duplicates(kept)] = False
        if kept.all():
            return matches
        left = kept.nonzero()[0]
        self._tracks = tracks[left]
        return matches[left]

    def _duplicates(self, kept: NDArray[np.bool_]) -> Indices:
        """Of each tracked and lost track on the same face the one that was followed for less time."""
        tracks = self._tracks
        active, lost = (~tracks.lost).nonzero()[0], (tracks.lost & kept).nonzero()[0]
        if not active.size or not lost.size:
            return active[:0]
        boxes = boxes_of(tracks.state)
        overlap = iou_matrix(boxes.take(active, axis=1), boxes.take(lost, axis=1))
        i, j = (overlap > self.settings.duplicate_thr).nonzero()
        i, j = active[i], lost[j]
        age = tracks.last - tracks.born
        return np.where(age[i] > age[j], j, i)

    def _confirm(self) -> None:
        """Gives ids to tracks that were seen twice, and to the first of a video."""
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
