"""``FaceStream``: the faces of one video, frame by frame, with track IDs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from facedet_mm.detectors import Detector
from facedet_mm.errors import FaceDetError
from facedet_mm.imaging.low_light import LowLight
from facedet_mm.structures import Faces
from facedet_mm.system.settings import (
    FLAG,
    FRACTION,
    POSITIVE,
    POSITIVE_NUMBER,
    Kind,
    Settings,
    document,
    one_of,
    setting,
)
from facedet_mm.tracking import PRESETS, ByteTracker, TrackerSettings
from facedet_mm.tracking.counting import TrackCounter
from facedet_mm.tracking.smoothing import FaceSmoother
from facedet_mm.video.frame import Frame
from facedet_mm.video.keyframes import KeyframePolicy
from facedet_mm.video.propagation import Propagator
from facedet_mm.video.rotation_memory import RotationMemory, TurnAwareDetector


def _parse_keyframes(text: str) -> int | str:
    return text if text == "adaptive" else int(text)


def _check_keyframes(value: Any) -> Any:
    return value if value == "adaptive" else POSITIVE.check(value)


def _check_tracker(value: Any) -> Any:
    if value is not None:
        TrackerSettings.from_preset(value)
    return value


_LOW_LIGHT = ("off", "auto", "on")
KEYFRAMES = Kind("a whole number from 1 on or adaptive", _parse_keyframes, _check_keyframes)
_TRACKER = Kind(f"one of {', '.join(PRESETS)}", str, _check_tracker)


@document
@dataclass(frozen=True)
class StreamOptions(Settings):
    """Settings of the search for faces in a video.

    Raises:
        FaceDetError: A value is out of range, or keyframes are used without tracking.

    Example:
        >>> StreamOptions(keyframes=5).tracker
        'faces'
    """

    tracker: TrackerSettings | str | None = field(
        default="faces", metadata=setting("Preset of the tracker", _TRACKER, choices=tuple(PRESETS))
    )
    smoothing: bool = field(
        default=True, metadata=setting("Smoothing of the boxes and landmarks of tracked faces", FLAG)
    )
    score_thr: float | None = field(
        default=None,
        metadata=setting(
            "Score above which a face without a track is returned, with ID -1; tracked faces always are",
            FRACTION,
            metavar="T",
            default_help="the threshold of the detector's model",
        ),
    )
    keyframes: int | Literal["adaptive"] = field(
        default=1,
        metadata=setting(
            "Run the detector on every N-th frame only, or as often as the motion of the faces requires (adaptive)",
            KEYFRAMES,
            metavar="N",
        ),
    )
    optical_flow: bool = field(
        default=False,
        metadata=setting("Follow the pixels between keyframes too, which costs about 2 ms per frame", FLAG),
    )
    low_light: Literal["auto", "on", "off"] = field(
        default="off",
        metadata=setting("Brighten dark frames for the detector", one_of(*_LOW_LIGHT), choices=_LOW_LIGHT),
    )
    gamma: float | None = field(
        default=None,
        metadata=setting(
            "Gamma of the brightening", POSITIVE_NUMBER, metavar="G", default_help="chosen for each frame"
        ),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tracker is None and self.keyframes != 1:
            raise FaceDetError("keyframes need tracking: between them, faces are where their tracks predict them")

    @property
    def detector_score_thr(self) -> float | None:
        """Score threshold for the detector, which is low for trackers that also use detections with low scores."""
        if self.tracker is None:
            return self.score_thr
        low = TrackerSettings.from_preset(self.tracker).low_thr
        return low if self.score_thr is None else min(self.score_thr, low)


class FaceStream:
    """Finds and tracks the faces of one video; each video needs its own object.

    Args:
        detector: Detector with the score threshold ``options.detector_score_thr``. With ``rotations='auto'`` it
            remembers from frame to frame how faces are turned, see
            :class:`~facedet_mm.video.rotation_memory.RotationMemory`.
        options: Settings of the search.
        fps: Frames per second of the video.
        remember: Number of frames for which a missed face keeps its track ID, if the tracker's own number is smaller.

    Attributes:
        detections: Number of frames on which the detector has run.
        tracks: Counts the tracks that last for long enough.
    Example:
        >>> from facedet_mm import build_detector
        >>> stream = FaceStream(build_detector(score_thr=0.1), StreamOptions(), fps=25)
        >>> len(stream.update(Frame(np.zeros((90, 160, 3), np.uint8), number=1, time=0.0)))
        0
    """

    def __init__(self, detector: Detector, options: StreamOptions, fps: float, remember: int = 0) -> None:
        self._detector = detector
        self._options = options
        told = detector.replace(score_thr=None).options if options.score_thr is None else options
        self._score_thr = told.score_thr or 0.0  # a detector tells a number
        self._memory = None
        if isinstance(detector, TurnAwareDetector) and detector.options.rotations == "auto":
            self._memory = RotationMemory(detector, self._score_thr)
        self._tracker = ByteTracker(options.tracker or "faces", fps, keep_untracked=True)
        self._smoother = FaceSmoother() if options.smoothing else None
        self._policy = KeyframePolicy(options.keyframes)
        # Two intervals, so that a face missed at one keyframe keeps its track ID at the next.
        self._tracker.buffer = max(self._tracker.buffer, 2 * self._policy.longest, remember)
        self._propagator = Propagator(self._tracker, options.optical_flow)
        self._low_light = LowLight(options.low_light, options.gamma)
        self.detections = 0
        self.tracks = TrackCounter(fps)

    def update(self, frame: Frame) -> Faces:
        """Returns the faces of the next frame: tracked ones with their IDs, others with a good score with ID -1.

        Raises:
            FaceDetError: The detector can't run.
        """
        if self._options.tracker is None:
            return self._detect(frame)
        detect = self._policy.should_detect(frame.image)
        if self._policy.cut:
            self._tracker.forget()
            if self._memory is not None:
                self._memory.reset()
            if self._smoother is not None:  # an empty smoother is false
                self._smoother.reset()
        if detect:
            faces = self._shown(self._tracker.update(self._detect(frame), frame.number))
            self._propagator.start(frame.image, faces)
        else:
            faces = self._propagator.step(frame.image, frame.number)
        self._policy.observe(faces)
        self.tracks.update(faces, frame.time, detect)
        return self._smoother.update(faces, frame.time) if self._smoother is not None else faces

    def _shown(self, faces: Faces) -> Faces:
        """Returns the tracked faces and the untracked ones above the score threshold."""
        tracked = faces.track_ids > 0 if faces.track_ids is not None else np.zeros(len(faces), bool)
        return faces[tracked | (faces.scores > self._score_thr)]

    def _detect(self, frame: Frame) -> Faces:
        self.detections += 1
        image = self._low_light(frame.image)
        return self._detector.detect(image) if self._memory is None else self._memory.detect(image, frame.time)
