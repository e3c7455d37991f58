"""The search for turned faces: probes at low resolution tell by which angles an image is worth a full look."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from facedet_mm.detectors.views import Look, Region, Seen, View, ViewPlan
from facedet_mm.structures import Faces

Sightings: TypeAlias = list[tuple[View, Seen]]
"""Views and what was seen in them."""

_QUARTERS = (90.0, 180.0, 270.0)
_STEPS = (_QUARTERS, 0.7), ((45.0, 135.0, 225.0, 315.0), 0.5)
"""Angles tried one after the other where nothing convinces, and the share of each side of the image, around its center,
that is looked at."""
_QUARTER_SIDE, _CENTER_SIDE = 128, 384
"""Longer side of the image in the probes: in those that all images get, and in those where nothing convinces."""
PROBE_SCORE = 0.3
"""Score above which probes report a face."""
WEAK_SCORE = 0.08
"""Score, or its square for a score of two factors, above which the upright look may have seen a turned face."""
_CONVINCING, _SURE, _UPRIGHT = 0.15, 0.3, 0.5
"""Strength per face from which on a face is certainly there (an SCRFD score of 0.62, a YuNet score of 0.79), from which
on it is not turned by a quarter, and from which on it is not tilted, either."""
_LEAST = 0.06
"""Least strength of a turned probe."""
_PROBE_SHARE, _UPRIGHT_SHARE = 0.7, 0.2
"""Shares of the strength of the upright probe, and of the upright faces, that a turned probe must exceed."""
_BETTER, _TILT_BETTER, _TILT_QUARTER = 1.1, 1.05, 2.0
"""Factors by which the strength of faces must grow when they are turned, tilted, and tilted from a quarter turn: most
images are turned by a quarter, and all faces of an image are hardly tilted by the angle of a few."""
_CROWD = 3
"""Number of upright faces from which on a tilt is looked for; with fewer, there is hardly anything to gain."""
_TILTS = (22.0, -22.0)
"""Degrees by which faces are turned further, as the other angles leave up to 22.5."""
_CROP = 2.2
"""Side of the crop around a face, in sides of the face."""


class _Sample(NamedTuple):
    """Which faces are looked at alone: how many of the best, and at how many pixels of the network's input."""

    number: int
    side: int


_FIRST, _WEAK, _LAST = _Sample(2, 64), _Sample(6, 44), _Sample(4, 96)
"""Samples of the upright faces, of weak sightings, and of the faces that tell the angle."""


def find_turned(plan: ViewPlan, upright: Sightings, score_factors: int) -> Generator[Look, list[Seen], Sightings]:
    """Looks at the image turned by those angles at which there is something to see, beside the upright one.

    Args:
        plan: Views that the detector looks at.
        upright: What was seen in them.
        score_factors: Number of factors in a score: scores of one factor are lower.
    """
    power = 4 * score_factors
    whole = upright[0][0]
    witnesses = yield from _witnesses(plan, whole, _faces(upright), power)
    result: Sightings = []
    looked_at = {0.0}
    for angle, found in witnesses.items():
        sampled = yield from _sample(plan, found, (angle, *(angle + tilt for tilt in _TILTS)), whole.size, _LAST)
        best, most = _strongest(sampled, power)
        if most < (_BETTER if angle % 90 else _TILT_QUARTER) * strength(sampled[angle], power):
            best = angle
        while most > _LEAST and best % 360 not in looked_at:
            looked_at.add(best % 360)
            views = [plan.turned(view, best, view.turn is not None, shrink=False) for view, _ in upright]
            looked = list(zip(views, (yield Look(views)), strict=True))
            result += looked
            best += yield from _tilt(plan, whole, _faces(looked), best, power)
    return result


def _tilt(plan: ViewPlan, whole: View, faces: Faces, angle: float, power: int) -> Generator[Look, list[Seen], float]:
    """Returns by how many degrees more the image should be turned to see these faces better, often 0."""
    before = strength(_best(faces, _FIRST.number), power)
    if len(faces) < _CROWD or before > _UPRIGHT * _FIRST.number:
        return 0.0
    sampled = yield from _sample(plan, faces, [angle + tilt for tilt in _TILTS], whole.size, _FIRST)
    best, most = _strongest(sampled, power)
    return best - angle if most > _TILT_BETTER * before else 0.0


def _witnesses(plan: ViewPlan, whole: View, seen: Faces, power: int) -> Generator[Look, list[Seen], dict[float, Faces]]:
    """Returns the angles that may be worth a full look, each with some faces that speak for it."""
    faces = seen[seen.scores > PROBE_SCORE]
    probes = yield from _probe(plan, whole, _QUARTERS, _QUARTER_SIDE)
    least = max(_LEAST, _UPRIGHT_SHARE * strength(faces, power))
    witnesses = {angle: found for angle, found in probes.items() if strength(found, power) > least}
    if witnesses:  # a face that the upright probe shows as well does not count
        least = _PROBE_SHARE * strength((yield from _probe(plan, whole, (0.0,), _QUARTER_SIDE))[0.0], power)
        witnesses = {angle: found for angle, found in witnesses.items() if strength(found, power) > least}
    best_faces = _best(faces, _FIRST.number)
    before = strength(best_faces, power)
    sure = before > _SURE * max(len(best_faces), 1)
    sampled = yield from _sample(plan, faces, () if sure else _QUARTERS, whole.size, _FIRST)
    best, most = _strongest(sampled, power)
    if most > max(_LEAST, _BETTER * before):
        witnesses[best] = sampled[best]
    elif not witnesses and (tilt := (yield from _tilt(plan, whole, faces, 0.0, power))):
        witnesses[tilt] = faces
    elif not witnesses and before < _CONVINCING * max(len(best_faces), 1):
        steps = _STEPS if before < _LEAST else _STEPS[:1]
        sampled = yield from _sample(plan, seen, [a for angles, _ in steps for a in angles], whole.size, _WEAK)
        best, most = _strongest(sampled, power)
        witnesses = {best: sampled[best]}
        for angles, center in steps:
            if most < _LEAST:
                probes = yield from _probe(plan, whole, angles, _CENTER_SIDE, center)
                best, strongest = _strongest(probes, power)
                if strongest > most:
                    most, witnesses = strongest, {best: probes[best]}
    return witnesses


def strength(faces: Faces, power: int) -> float:
    """Returns the sum of all scores raised to a power, so that a good face outweighs many bad ones."""
    scores = faces.scores
    return float((scores[scores > PROBE_SCORE].astype(np.float64) ** power).sum())


def _strongest(found: dict[float, Faces], power: int) -> tuple[float, float]:
    """Returns the angle at which the faces are strongest, and their strength; zeros for no angles."""
    strengths = {angle: strength(faces, power) for angle, faces in found.items()}
    return max(strengths.items(), key=lambda pair: pair[1], default=(0.0, 0.0))


def _faces(sightings: Sightings) -> Faces:
    return Faces.concatenate([view.placed(seen.faces)[0] for view, seen in sightings])


def _best(faces: Faces, count: int) -> Faces:
    return faces[np.argsort(-faces.scores, kind="stable")[:count]]


def _probe(
    plan: ViewPlan, whole: View, angles: Sequence[float], side: int, share: float = 1.0
) -> Generator[Look, list[Seen], dict[float, Faces]]:
    """Returns the faces in the image, or this share of it around its center, turned by each angle."""
    left, top = (int(length * (1 - share) / 2) for length in whole.size)
    region = left, top, whole.size[0] - left, whole.size[1] - top
    probes = [plan.turned(plan.small(region, round(side * share)), angle, shrink=False) for angle in angles]
    seen = yield Look(probes, PROBE_SCORE)
    return {angle: view.placed(s.faces)[0] for angle, view, s in zip(angles, probes, seen, strict=True)}


def _sample(
    plan: ViewPlan, faces: Faces, angles: Sequence[float], size: tuple[int, int], sample: _Sample
) -> Generator[Look, list[Seen], dict[float, Faces]]:
    """Returns what is seen of the best faces, each looked at alone and turned by each angle, in pixels of the image."""
    if not len(faces) or not angles:
        return dict.fromkeys(angles, faces)
    crops = [plan.small(_around(box, _CROP, size), sample.side) for box in _best(faces, sample.number).boxes]
    views = [plan.turned(crop, angle, shrink=False) for angle in angles for crop in crops]
    seen = yield Look(views, PROBE_SCORE)
    found = [view.placed(s.faces[:1])[0] for view, s in zip(views, seen, strict=True)]
    return {angle: Faces.concatenate(found[i * len(crops) :][: len(crops)]) for i, angle in enumerate(angles)}


def _around(box: NDArray[np.float32], share: float, size: tuple[int, int]) -> Region:
    """Returns a square region around a face, clipped to the image.

    Args:
        box: x1 y1 x2 y2 of the face.
        share: Side of the region, in sides of the face, which is the square root of its area.
        size: (width, height) of the image.
    """
    center, side = (box[:2] + box[2:]) / 2, share * float(np.sqrt(np.prod(box[2:] - box[:2])))
    x1, y1 = np.clip(center - side / 2, 0, np.array(size) - 1).astype(int).tolist()
    x2, y2 = np.clip(np.ceil(center + side / 2), (x1 + 1, y1 + 1), size).astype(int).tolist()
    return x1, y1, x2, y2
