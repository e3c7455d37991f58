"""``Strategy``: at which views of an image a detector looks, and what it looks at once more after seeing them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from facedet_mm.detectors.merging import degrees_of, merge_views
from facedet_mm.detectors.rotation import WEAK_SCORE, find_turned
from facedet_mm.detectors.views import CLOSE_UP_SIDE, Look, Seen, View, ViewPlan
from facedet_mm.structures import Faces


class Found(NamedTuple):
    """The faces of an image and what they come from.

    Attributes:
        faces: Faces by descending score, in pixels of the image.
        views: Views that were looked at.
        seen: What was seen in each.
        iou_thr: IoU threshold of the merging.
    """

    faces: Faces
    views: list[View]
    seen: list[Seen]
    iou_thr: float

    @property
    def degrees(self) -> NDArray[np.float64]:
        """(N,): degrees, counterclockwise, by which the image is turned in the view that saw each face best."""
        return degrees_of(self.faces, self.views, [seen.faces for seen in self.seen], self.iou_thr)


Search: TypeAlias = Generator[Look, list[Seen], Found]
"""A search of one image: yields views, is sent what was seen in them, and returns the faces."""

_VOTE_SCORE = 0.02
"""Score, or its square for a score of two factors, above which a face that was looked at twice counts in a view."""
_GATED_SIDE = 640
"""Longest side of the input up to which a face that fills the image leaves a weak trace."""


@dataclass(frozen=True)
class Strategy:
    """How the faces of an image are searched for.

    Attributes:
        plan: Views that are looked at in any case.
        score_thr: Score above which a face is returned.
        iou_thr: IoU threshold of the merging.
        close_ups: Whether a small view is searched for faces that fill the image.
        turned: Whether turned faces are searched for at low resolution first.
        score_factors: Number of factors in a score.
    """

    plan: ViewPlan
    score_thr: float
    iou_thr: float
    close_ups: bool = False
    turned: bool = False
    score_factors: int = 1

    @property
    def least_score(self) -> float:
        """Score from which on a face of a view counts: less than ``score_thr`` where the mean of two looks does."""
        return min(self.score_thr, _VOTE_SCORE ** (1 / self.score_factors)) if self.plan.mirror else self.score_thr

    def search(self, width: int, height: int) -> Search:
        """Searches an image of ``width`` × ``height``."""
        views = self.plan.views(width, height)
        weak = min(self.least_score, WEAK_SCORE ** (1 / self.score_factors))
        seen = yield Look(views, weak if self.turned else None)
        if self.turned:
            upright = list(zip(views, seen, strict=True))
            turned = yield from find_turned(self.plan, upright, self.score_factors)
            views, seen = views + [view for view, _ in turned], seen + [found for _, found in turned]
            seen = [found._replace(faces=found.faces[found.faces.scores > self.least_score]) for found in seen]
        if self.close_ups and (small := self._small_views(views, seen)):
            views, seen = views + small, seen + (yield Look(small))
        if len(views) == 1 and views[0].turn is None:
            return Found(seen[0].faces, views, seen, self.iou_thr)
        vote = self.plan.mirror or len(self.plan.sizes) > 1
        faces = merge_views(views, [s.faces for s in seen], self.iou_thr, vote)
        return Found(faces[faces.scores > self.score_thr], views, seen, self.iou_thr)

    def _small_views(self, views: Sequence[View], seen: Sequence[Seen]) -> list[View]:
        """Returns small views for close-ups, where the smallest views of the whole image may miss them."""
        smallest: dict[float, tuple[View, Seen]] = {}
        for view, found in zip(views, seen, strict=True):
            if view.region != views[0].region or (view.turn and view.turn.mirrored):
                continue
            degrees = view.turn.degrees if view.turn else 0.0
            if degrees not in smallest or view.scale < smallest[degrees][0].scale:
                smallest[degrees] = view, found
        return [
            self.plan.close_up(view)
            for view, found in smallest.values()
            if (longest := max(view.size) * max(view.scale)) >= 2 * CLOSE_UP_SIDE
            and (found.close_up or longest > _GATED_SIDE + 1)
        ]
