"""The search for turned faces: probes at low resolution tell by which angles an image is worth a full look."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TypeAlias

import numpy as np

from facedet_mm.detectors.recheck import crop_region
from facedet_mm.detectors.views import Look, Seen, View, ViewPlan
from facedet_mm.structures import Faces

Sightings: TypeAlias = list[tuple[View, Seen]]
"""Views and what was seen in them."""

_QUARTERS = (0.0, 90.0, 180.0, 270.0)
_EIGHTHS = tuple(45.0 * i for i in range(1, 8))
_QUARTER_SIDE, _EIGHTH_SIDE = 128, 384
"""Longer side of the image in the probes: in those that all images get, and in those where nothing convinces."""
PROBE_SCORE = 0.3
"""Score above which probes report a face."""
_CONVINCING = 0.15
"""Strength from which on a face is certainly there: an SCRFD score of 0.62, a YuNet score of 0.79."""
_UPRIGHT_SHARES = 0.7, 0.2
"""Shares of the strength of the upright probe, and of the upright faces, that a turned probe must exceed."""
_LEAST = 0.06
"""Least strength of a turned probe."""
_TILTS = (22.0, -22.0)
"""Degrees by which single faces are turned to see whether the whole image is tilted."""
_CROWD = 3
"""Number of faces from which on a tilt is looked for; with fewer, there is hardly anything to gain."""
_SAMPLED = 2
"""Number of faces that tell by which angle the image is turned."""
_CROP, _CROP_SIDE = 2.2, 64
"""Side of the crop around such a face, in sides of the face, and in pixels of the network's input."""
_BETTER = 1.1
"""Factor by which the faces' strength must grow."""


def find_turned(plan: ViewPlan, upright: Sightings, score_factors: int) -> Generator[Look, list[Seen], Sightings]:
    """Looks at the image turned by those angles at which there is something to see, beside the upright one.

    Args:
        plan: Views that the detector looks at.
        upright: What was seen in them.
        score_factors: Number of factors in a score: scores of one factor are lower.
    """
    power = 4 * score_factors
    whole = upright[0][0]
    faces = _faces(upright)
    probes = yield from _probe(plan, whole, _QUARTERS, _QUARTER_SIDE)
    strengths = {angle: strength(found, power) for angle, found in probes.items()}
    tilts = _TILTS if len(faces) >= _CROWD else ()
    sampled = yield from _sample(plan, faces, (*tilts, *_QUARTERS[1:]), whole.size, power)
    sampled[0.0] = strength(_best(faces), power)
    best = max(sampled, key=lambda angle: sampled[angle])
    least = max(_LEAST, _UPRIGHT_SHARES[0] * strengths[0.0], _UPRIGHT_SHARES[1] * strength(faces, power))
    witnesses = {angle: probes[angle] for angle in _QUARTERS[1:] if strengths[angle] > least}
    if best and sampled[best] > max(_LEAST, _BETTER * sampled[0.0]):
        witnesses[best] = faces
    elif not witnesses and sampled[best] < _CONVINCING * min(max(len(faces), 1), _SAMPLED):
        probes = yield from _probe(plan, whole, _EIGHTHS, _EIGHTH_SIDE)
        best = max(probes, key=lambda angle: strength(probes[angle], power))
        witnesses = {best: probes[best]}
    result: Sightings = []
    for angle, found in witnesses.items():
        sampled = yield from _sample(plan, found, (angle, *(angle + tilt for tilt in _TILTS)), whole.size, power)
        best = max(sampled, key=lambda angle: sampled[angle])
        if sampled[best] > _LEAST:
            views = [plan.turned(view, best, shrink=False) for view, _ in upright if view.turn is None]
            result += zip(views, (yield Look(views)), strict=True)
    return result


def strength(faces: Faces, power: int) -> float:
    """Returns the sum of all scores raised to a power, so that a good face outweighs many bad ones."""
    scores = faces.scores
    return float((scores[scores > PROBE_SCORE].astype(np.float64) ** power).sum())


def _faces(sightings: Sightings) -> Faces:
    return Faces.concatenate([view.placed(seen.faces)[0] for view, seen in sightings])


def _probe(
    plan: ViewPlan, whole: View, angles: Sequence[float], side: int
) -> Generator[Look, list[Seen], dict[float, Faces]]:
    """Returns the faces in the image turned by each angle, in pixels of the image."""
    probes = [plan.turned(plan.small(whole.region, side), angle, shrink=False) for angle in angles]
    seen = yield Look(probes, PROBE_SCORE)
    return {angle: view.placed(s.faces)[0] for angle, view, s in zip(angles, probes, seen, strict=True)}


def _sample(
    plan: ViewPlan, faces: Faces, angles: Sequence[float], size: tuple[int, int], power: int
) -> Generator[Look, list[Seen], dict[float, float]]:
    """Returns the strength of a few of the best faces, each looked at alone and turned by each angle."""
    best = _best(faces)
    if not len(best):
        return dict.fromkeys(angles, 0.0)
    crops = [plan.small(crop_region(box, _CROP, size), _CROP_SIDE) for box in best.boxes]
    seen = yield Look([plan.turned(crop, angle, shrink=False) for angle in angles for crop in crops], PROBE_SCORE)
    strengths = [strength(s.faces[:1], power) for s in seen]
    return {angle: sum(strengths[i * len(crops) : (i + 1) * len(crops)]) for i, angle in enumerate(angles)}


def _best(faces: Faces) -> Faces:
    return faces[np.argsort(-faces.scores, kind="stable")[:_SAMPLED]]
