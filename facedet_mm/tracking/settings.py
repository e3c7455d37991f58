"""The settings of the tracker, and its presets."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from facedet_mm.errors import FaceDetError


@dataclass(frozen=True)
class TrackerSettings:
    """Settings of the tracker; the defaults are for faces.

    Scores are those of the detector, from 0 to 1. The cost of a pair of a detection and a track is 1 - IoU · score for
    detections of high score and 1 - IoU for others. Pairs whose cost exceeds the threshold are never made, so a higher
    threshold tolerates faster motion.

    Attributes:
        track_thr: A detection with at least this score is *high*: it may continue, recover or start any track.
        low_thr: A detection above this score and below ``track_thr`` is *low*: it may continue a track that was seen
            in the last frame, as blurred or half hidden faces do. Detections below are ignored.
        new_track_thr: Least score of a high detection without a track that starts one.
        match_thr: Largest cost of a high detection and a track.
        low_match_thr: Largest cost of a low detection and a track.
        new_match_thr: Largest cost of a high detection and a track that was seen only once. A second match confirms
            such a track, which then gets its ID; without one it is removed.
        duplicate_thr: If a tracked and a lost track overlap by more than this IoU, the one tracked for less time is
            removed; a detection that overlaps a better one by more starts no track.
        track_buffer: Number of frames, at 30 frames per second, for which a lost track is remembered.
        height_power: Weight of the heights in the IoU of the associations; 0 is the plain IoU. See
            :func:`~facedet_mm.tracking.association.iou_matrix`.
        trust_scores: Whether a track follows a detection more closely the higher its score: the variance of the
            measurement is multiplied by 1 - score (NSA Kalman filter; GIAOTracker, arXiv 2202.11983, section 3.3).
        scale_motion: Whether the motion model takes the frame rate into account, so that tracks survive low frame
            rates.
        drop_ties: Whether to ignore detections whose score is exactly ``track_thr``, as the authors' code does; only
            for comparison with it.

    Raises:
        FaceDetError: A value is out of range.
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

    @classmethod
    def from_preset(cls, preset: TrackerSettings | str) -> TrackerSettings:
        """Returns the settings with this name in :data:`PRESETS`; settings are returned as they are.

        Raises:
            FaceDetError: There is no such preset.

        Example:
            >>> TrackerSettings.from_preset("conservative").track_thr
            0.7
        """
        if isinstance(preset, TrackerSettings):
            return preset
        if preset not in PRESETS:
            raise FaceDetError(f"no tracker preset {preset!r}; choose one of {', '.join(PRESETS)}")
        return PRESETS[preset]


PRESETS = {
    "faces": TrackerSettings(),
    "bytetrack": TrackerSettings(
        new_match_thr=0.7, height_power=0.0, trust_scores=False, scale_motion=False, drop_ties=True
    ),
    "conservative": TrackerSettings(track_thr=0.7, new_track_thr=0.8, match_thr=0.8, new_match_thr=0.8),
    "aggressive": TrackerSettings(track_thr=0.4, new_track_thr=0.5, track_buffer=60),
}
"""Named settings. ``faces``: the default. ``bytetrack``: those of the authors' evaluation, with exactly the results of
their code. ``conservative``: fewer wrong tracks and ID switches, more faces without an ID. ``aggressive``: the
opposite."""
