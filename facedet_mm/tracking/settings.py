"""The settings of the tracker, and named sets of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from facedet_mm.errors import FaceDetError


@dataclass(frozen=True)
class TrackerSettings:
    """What the tracker may do; the defaults are for faces.

    Scores are those of the detector, from 0 to 1. Costs are 1 - IoU · score (detections of high score) or
    1 - IoU (others); a pair is made up to a cost of the threshold, so a higher one tolerates faster motion.

    Attributes:
        track_thr: a detection of this score or more is *high*: it may continue, find again or start any track.
        low_thr: a detection above this score and below ``track_thr`` is *low*: it may continue a track that was
            seen in the last frame, as faces do that are blurred or half hidden. Others are left out.
        new_track_thr: a high detection that belongs to no track starts one from this score on.
        match_thr: largest cost of a high detection and a track.
        low_match_thr: largest cost of a low detection and a track.
        new_match_thr: largest cost of a high detection and a track that was seen only once; it is confirmed, and
            gets its id, by this second sight, and is given up without it.
        duplicate_thr: of a tracked and a lost track that overlap by more than this IoU, the one followed for less
            time is given up; a detection that overlaps a better one by more starts no track.
        track_buffer: frames, at 30 a second, for which a lost track is remembered.
        height_power: how much the heights count in the IoU of the associations; 0 is the plain IoU. See
            :func:`~facedet_mm.tracking.association.iou_matrix`.
        trust_scores: the surer a detection, the closer its track follows it: the variance of the measurement is
            multiplied by 1 - score (NSA Kalman filter; GIAOTracker, arXiv 2202.11983, section 3.3).
        scale_motion: the motion model knows the frame rate, so that tracks live on at few frames a second.
        drop_ties: leave out detections with exactly the score ``track_thr``, as the authors' code does; for the
            comparison with it.

    Raises:
        FaceDetError: a value is out of range.
    """

    track_thr: float = 0.6
    low_thr: float = 0.1
    new_track_thr: float = 0.7
    match_thr: float = 0.9
    low_match_thr: float = 0.5
    new_match_thr: float = 0.9
    duplicate_thr: float = 0.85
    track_buffer: int = 30
    height_power: float = 0.5
    trust_scores: bool = True
    scale_motion: bool = True
    drop_ties: bool = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_thr") and not 0 <= value <= 1:
                raise FaceDetError(f"{field.name} must be between 0 and 1, not {value}")
        for name in ("match_thr", "low_match_thr", "new_match_thr"):
            if getattr(self, name) == 1:
                raise FaceDetError(f"{name} must be below 1: boxes that do not touch have a cost of 1")
        if self.low_thr > self.track_thr:
            raise FaceDetError(f"low_thr ({self.low_thr}) must not exceed track_thr ({self.track_thr})")
        if not 0 <= self.track_buffer < math.inf:
            raise FaceDetError(f"track_buffer must be a number of frames, not {self.track_buffer}")
        if not 0 <= self.height_power < math.inf:
            raise FaceDetError(f"height_power must be 0 or more, not {self.height_power}")


PRESETS = {
    "faces": TrackerSettings(),
    "bytetrack": TrackerSettings(
        new_match_thr=0.7, height_power=0.0, trust_scores=False, scale_motion=False, drop_ties=True
    ),
    "conservative": TrackerSettings(track_thr=0.7, new_track_thr=0.8, match_thr=0.8, new_match_thr=0.8),
    "aggressive": TrackerSettings(track_thr=0.4, new_track_thr=0.5, track_buffer=60),
}
"""Named settings: ``faces``, the default; ``bytetrack``, what the authors evaluate with and exactly what their code
gives; ``conservative``, fewer wrong tracks and switched ids, more faces without one; ``aggressive``, the opposite."""


def settings_of(settings: TrackerSettings | str) -> TrackerSettings:
    """The settings, or those of a preset's name.

    Raises:
        FaceDetError: there is no such preset.
    """
    if isinstance(settings, TrackerSettings):
        return settings
    if settings not in PRESETS:
        raise FaceDetError(f"no tracker preset {settings!r}; there are {', '.join(PRESETS)}")
    return PRESETS[settings]
