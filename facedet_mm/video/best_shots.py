"""``BestShots``: the best image of each track of a video."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedet_mm.errors import FaceDetError, VideoError
from facedet_mm.imaging.attributes import ATTRIBUTE_NAMES, FaceAttributes
from facedet_mm.imaging.face_filter import FaceFilter
from facedet_mm.io.formats import csv_text
from facedet_mm.io.images import write_image
from facedet_mm.structures import Faces
from facedet_mm.system.files import write_text
from facedet_mm.tracking.counting import MIN_DETECTIONS, MIN_SECONDS
from facedet_mm.tracking.tracked_faces import track_ids
from facedet_mm.video.frame import Frame

__all__ = ["CSV_NAME", "SHOT_NAMES", "BestShots", "shot_quality"]

CSV_NAME = "best_shots.csv"
SHOT_NAMES = ("track.jpg", "aligned.jpg")
"""Names of the images of a track, before ``_`` and its ID are added."""

_MARGIN = 0.3
_FORGET_SECONDS = 10.0
"""Time after which the images of a track that is no longer seen are written, so that they need no memory."""
_GOOD_SIZE = 112.0
_CUT = 0.5
_COLUMNS = ("track_id", "frame", "time", "quality", "score", "x1", "y1", "x2", "y2")


@dataclass
class _Track:
    """What is known about one track; ``images`` are empty once they are written."""

    first: float
    last: float
    detections: int = 0
    quality: float = -1.0
    row: tuple[Any, ...] = ()
    images: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    written: bool = False


def shot_quality(attributes: FaceAttributes, scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns how good an image of each face is: (N,) from 0 to 1, high for frontal, sharp, large, uncovered faces.

    The product of the score, the sharpness, the size s as s / (s + 112), (cos yaw · cos pitch)² if the pose is known,
    and one half for a face that the border cuts. A covered face has a lower score.

    Example:
        >>> faces = Faces([[9, 9, 121, 121], [0, 9, 112, 121]], [0.8, 0.8])
        >>> image = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
        >>> whole, cut = shot_quality(faces.attributes(image), faces.scores)
        >>> bool(whole > 1.8 * cut)
        True
    """
    quality = scores.astype(np.float64) * attributes.sharpness * attributes.size / (attributes.size + _GOOD_SIZE)
    if attributes.yaw is not None and attributes.pitch is not None:
        frontal = np.cos(np.radians(attributes.yaw)) * np.cos(np.radians(attributes.pitch))
        quality = quality * np.nan_to_num(np.maximum(frontal, 0)) ** 2
    return np.asarray(np.where(attributes.cut, _CUT, 1.0) * quality)


class BestShots:
    """Keeps the best image of each track and writes it: ``track_ID.jpg``, ``aligned_ID.jpg`` and ``best_shots.csv``.

    Tracks count as in :class:`~facedet_mm.tracking.counting.TrackCounter`: from a quarter of a second on. Memory holds
    one face per track; once a track has not been seen for ten seconds, its images are on the disk only.

    Args:
        folder: Folder to write to; created if it is missing.
        face_filter: Faces that may be taken.
        fps: Frames per second of the video.

    Raises:
        VideoError: The folder can't be created.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> shots = BestShots(folder.name, FaceFilter(), fps=25)
        >>> shots.add(Frame(np.zeros((90, 90, 3), np.uint8), 1, 0.0), Faces([[9, 9, 60, 60]], [0.9], track_ids=[1]))
        >>> shots.close()
        >>> sorted(os.listdir(folder.name))
        ['best_shots.csv', 'track_1.jpg']
        >>> folder.cleanup()
    """

    def __init__(self, folder: str | os.PathLike[str], face_filter: FaceFilter, fps: float) -> None:
        self.folder = Path(folder)
        self._filter = face_filter
        self._step = 1 / fps
        self._tracks: dict[int, _Track] = {}
        self._first: float | None = None
        self._time = 0.0
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise VideoError(f"cannot write into {folder}: {error.strerror or error}") from error

    def add(self, frame: Frame, faces: Faces) -> None:
        """Considers the tracked faces of the next frame on which the detector ran.

        Raises:
            FaceDetError: The images of a track that has ended can't be written.
        """
        self._first = frame.time if self._first is None else self._first
        self._time = frame.time
        faces = faces[track_ids(faces) > 0]
        if len(faces):
            attributes = faces.attributes(frame.image)
            qualities = shot_quality(attributes, faces.scores)
            reasons = self._filter.reasons(attributes)
            for i, identity in enumerate(track_ids(faces).tolist()):
                track = self._tracks.setdefault(identity, _Track(frame.time, frame.time))
                track.last = frame.time
                track.detections += 1
                if not reasons[i] and qualities[i] > track.quality:
                    self._take(track, frame, faces[i], attributes[[i]], float(qualities[i]))
        for identity, track in self._tracks.items():
            if track.images and frame.time - track.last > _FORGET_SECONDS:
                self._write(identity, track, MIN_SECONDS, MIN_DETECTIONS)

    def close(self) -> None:
        """Writes the images that are still in memory, then the CSV file.

        Raises:
            FaceDetError: A file can't be written; the CSV file names those that were.
        """
        seconds = min(MIN_SECONDS, self._time - (self._first or 0.0) + self._step)
        failure: FaceDetError | None = None
        for identity, track in self._tracks.items():
            try:
                self._write(identity, track, seconds, 1 if seconds < MIN_SECONDS else MIN_DETECTIONS)
            except FaceDetError as error:
                failure = failure or error
        names = [f"{Path(name).stem}_image" for name in SHOT_NAMES]
        rows = [track.row for _, track in sorted(self._tracks.items()) if track.written]
        write_text(self.folder / CSV_NAME, csv_text([(*_COLUMNS, *ATTRIBUTE_NAMES, *names), *rows]))
        if failure:
            raise failure

    def _take(self, track: _Track, frame: Frame, face: Faces, attributes: FaceAttributes, quality: float) -> None:
        images = {SHOT_NAMES[0]: face.crop(frame.image, _MARGIN)[0]}
        if face.landmarks is not None:
            images[SHOT_NAMES[1]] = face.align(frame.image)[0]
        identity = int(track_ids(face)[0])
        columns = attributes.to_dict()
        track.quality, track.images = quality, {name: image for name, image in images.items() if image.size}
        track.row = (
            *(identity, frame.number, round(frame.time, 6), round(quality, 4), round(float(face.scores[0]), 6)),
            *(round(float(x), 2) for x in face.boxes[0]),
            *(columns.get(name, [""])[0] for name in ATTRIBUTE_NAMES),
            *(_numbered(name, identity) if name in track.images else "" for name in SHOT_NAMES),
        )

    def _write(self, identity: int, track: _Track, seconds: float, detections: int) -> None:
        lasts = track.last - track.first + self._step >= seconds or math.isclose(
            track.last - track.first + self._step, seconds
        )
        if not lasts or track.detections < detections:
            return
        for name, image in track.images.items():
            write_image(self.folder / _numbered(name, identity), image)
        track.written = track.written or bool(track.images)
        track.images = {}


def _numbered(name: str, identity: int) -> str:
    stem, suffix = os.path.splitext(name)
    return f"{stem}_{identity}{suffix}"
