"""``FaceStream``: the faces of one video, frame after frame, with ids."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from facedet_mm.detectors import Detector
from facedet_mm.errors import FaceDetError
from facedet_mm.imaging.low_light import LowLight
from facedet_mm.structures import Faces
from facedet_mm.tracking import ByteTracker, TrackerSettings
from facedet_mm.tracking.smoothing import FaceSmoother
from facedet_mm.video.frame import Frame
from facedet_mm.video.keyframes import KeyframePolicy
from facedet_mm.video.propagation import Propagator


@dataclass(frozen=True)
class StreamOptions:
    """How the faces of a video are found.

    Attributes:
        tracker: a preset or settings of the tracker; ``None`` is no tracking, and no ids.
        smoothing: whether boxes and landmarks of tracked faces are smoothed.
        score_thr: a face that is not tracked comes out above this score, with the id -1; one that is, always.
        keyframes: the detector runs on each so many frames, or ``'adaptive'``; the motion of the tracks fills in.
        optical_flow: whether the pixels tell the motion between keyframes, which costs about 2 ms a frame.
        low_light: whether the detector sees dark frames brightened: ``'auto'``, ``'on'`` or ``'off'``.
        gamma: of the brightening, see :class:`~facedet_mm.imaging.low_light.LowLight`.

    Raises:
        FaceDetError: keyframes without tracking, or an unknown preset of the tracker.

    Example:
        >>> StreamOptions(keyframes=5).tracker
        'faces'
    """

    tracker: TrackerSettings | str | None = "faces"
    smoothing: bool = True
    score_thr: float = 0.5
    keyframes: int | Literal["adaptive"] = 1
    optical_flow: bool = False
    low_light: Literal["auto", "on", "off"] = "off"
    gamma: float | None = None

    def __post_init__(self) -> None:
        if self.tracker is None and self.keyframes != 1:
            raise FaceDetError("keyframes need tracking: between them, faces are where their tracks predict them")
        if self.tracker is not None:
            TrackerSettings.from_preset(self.tracker)

    @property
    def detector_score_thr(self) -> float:
        """What the detector should give: the tracker follows faces by detections of low score, too."""
        if self.tracker is None:
            return self.score_thr
        return min(self.score_thr, TrackerSettings.from_preset(self.tracker).low_thr)


class FaceStream:
    """Finds and follows the faces of one video; one object a video.

    Args:
        detector: gives faces down to ``options.detector_score_thr``.
        options: how.
        fps: frames a second of the video.
        remember: frames that a face may be missed and keeps its id, if that is more than the tracker's own number.

    Attributes:
        detections: frames on which the detector ran so far.

    Example:
        >>> from facedet_mm import build_detector
        >>> stream = FaceStream(build_detector(score_thr=0.1), StreamOptions(), fps=25)
        >>> len(stream.update(Frame(np.zeros((90, 160, 3), np.uint8), number=1, time=0.0)))
        0
    """

    def __init__(self, detector: Detector, options: StreamOptions, fps: float, remember: int = 0) -> None:
        self._detector = detector
        self._options = options
        self._tracker = ByteTracker(options.tracker or "faces", fps, keep_untracked=True)
        self._smoother = FaceSmoother() if options.smoothing else None
        self._policy = KeyframePolicy(options.keyframes)
        # Two intervals: a face that one look of the detector misses is not a new one at the next.
        self._tracker.buffer = max(self._tracker.buffer, 2 * self._policy.longest, remember)
        self._propagator = Propagator(self._tracker, options.optical_flow)
        self._low_light = LowLight(options.low_light, options.gamma)
        self.detections = 0

    def update(self, frame: Frame) -> Faces:
        """The faces of the next frame: tracked ones with their ids, others of a good score with the id -1.

        Raises:
            FaceDetError: the detector can't run.
        """
        if self._options.tracker is None:
            return self._detect(frame)
        detect = self._policy.should_detect(frame.image)
        if self._policy.cut:
            self._tracker.forget()
            if self._smoother is not None:  # an empty one is false
                self._smoother.reset()
        if detect:
            faces = self._shown(self._tracker.update(self._detect(frame), frame.number))
            self._propagator.start(frame.image, faces)
        else:
            faces = self._propagator.step(frame.image, frame.number)
        self._policy.observe(faces)
        return self._smoother.update(faces, frame.time) if self._smoother is not None else faces

    def _shown(self, faces: Faces) -> Faces:
        """The tracked faces, and those good enough without a track."""
        tracked = faces.track_ids > 0 if faces.track_ids is not None else np.zeros(len(faces), bool)
        return faces[tracked | (faces.scores > self._options.score_thr)]

    def _detect(self, frame: Frame) -> Faces:
        self.detections += 1
        return self._detector.detect(self._low_light(frame.image))
