"""The search for turned faces: probes at low resolution tell by which angles an image is worth a full look."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from facedet_mm.detectors.views import Look, Seen, View, ViewPlan
from facedet_mm.structures import Faces

Sightings: TypeAlias = list[tuple[View, Seen]]
"""Views and what was seen in them."""

_QUARTERS = (0.0, 90.0, 180.0, 270.0)
_EIGHTHS = tuple(45.0 * i for i in range(1, 8))
_QUARTER_SIDE, _EIGHTH_SIDE = 128, 256
"""Longer side of the image in the probes: in those that all images get, and in those where nothing convinces."""
PROBE_SCORE = 0.3
"""Score above which probes report a face."""
WEAK_SCORE = 0.05
"""Score, or its square for a score of two factors, from which on the upright look may have seen a turned face."""
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
_WEAK_SAMPLED = 4
"""Number of weak sightings that are turned where the upright look shows nothing that convinces."""
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
    seen = _faces(upright)
    faces = seen[seen.scores > PROBE_SCORE]
    probes = yield from _probe(plan, whole, _QUARTERS, _QUARTER_SIDE)
    strengths = {angle: strength(found, power) for angle, found in probes.items()}
    tilts = _TILTS if len(faces) >= _CROWD else ()
    sampled = yield from _sample(plan, _best(faces), (*tilts, *_QUARTERS[1:]), whole.size)
    sampled[0.0] = _best(faces)
    best, most = _strongest(sampled, power)
    least = max(_LEAST, _UPRIGHT_SHARES[0] * strengths[0.0], _UPRIGHT_SHARES[1] * strength(faces, power))
    witnesses = {angle: probes[angle] for angle in _QUARTERS[1:] if strengths[angle] > least}
    if best and most > max(_LEAST, _BETTER * strength(sampled[0.0], power)):
        witnesses[best] = sampled[best]
    elif not witnesses and most < _CONVINCING * min(max(len(faces), 1), _SAMPLED):
        probes = yield from _sample(plan, _best(seen, _WEAK_SAMPLED), _EIGHTHS, whole.size)
        best, most = _strongest(probes, power)
        if most < _LEAST:
            probes = yield from _probe(plan, whole, _EIGHTHS, _EIGHTH_SIDE)
            best, most = _strongest(probes, power)
        witnesses = {best: probes[best]}
    looked_at = {0.0}
    result: Sightings = []
    for angle, found in witnesses.items():
        angles = [angle, *(angle + tilt for tilt in _TILTS)]
        sampled = yield from _sample(plan, _best(found), angles, whole.size)
        best, most = _strongest(sampled, power)
        if most < _BETTER * strength(sampled[angle], power):
            best = angle
        if most > _LEAST and best % 360 not in looked_at:
            looked_at.add(best % 360)
            views = [plan.turned(view, best, view.turn is not None, shrink=False) for view, _ in upright]
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
    plan: ViewPlan, faces: Faces, angles: Sequence[float], size: tuple[int, int]
) -> Generator[Look, list[Seen], dict[float, Faces]]:
    """Returns what is seen of each face, looked at alone and turned by each angle, in pixels of the image."""
    if not len(faces):
        return dict.fromkeys(angles, faces)
    crops = [_crop(plan, box, size) for box in faces.boxes]
    views = [plan.turned(crop, angle, shrink=False) for angle in angles for crop in crops]
    seen = yield Look(views, PROBE_SCORE)
    found = [view.placed(s.faces[:1])[0] for view, s in zip(views, seen, strict=True)]
    return {angle: Faces.concatenate(found[i * len(crops) :][: len(crops)]) for i, angle in enumerate(angles)}


def _strongest(found: dict[float, Faces], power: int) -> tuple[float, float]:
    """Returns the angle at which the faces are strongest, and their strength."""
    return max(((angle, strength(faces, power)) for angle, faces in found.items()), key=lambda pair: pair[1])


def _best(faces: Faces, count: int = _SAMPLED) -> Faces:
    return faces[np.argsort(-faces.scores, kind="stable")[:count]]


def _crop(plan: ViewPlan, box: NDArray[np.float32], size: tuple[int, int]) -> View:
    center, side = (box[:2] + box[2:]) / 2, _CROP * float(np.sqrt(np.prod(box[2:] - box[:2])))
    x1, y1 = np.clip(center - side / 2, 0, np.array(size) - 1).astype(int).tolist()
    x2, y2 = np.clip(np.ceil(center + side / 2), (x1 + 1, y1 + 1), size).astype(int).tolist()
    return plan.small((x1, y1, x2, y2), _CROP_SIDE)
