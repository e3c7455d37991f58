"""Operations on the faces that a tracker returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facedet_mm.structures import Faces


def track_ids(faces: Faces) -> NDArray[np.int64]:
    """Returns the track IDs, (N,); empty for a frame without faces, whose faces may have no IDs at all."""
    return np.zeros(0, np.int64) if faces.track_ids is None else faces.track_ids


def join(parts: Sequence[Faces]) -> Faces:
    """Returns the faces of all parts in one; empty parts may lack columns that others have.

    Example:
        >>> join([Faces.empty(), Faces([[0, 0, 9, 9]], [0.9], track_ids=[1])])
        Faces(n=1, boxes=[[0, 0, 9, 9]], scores=[0.9], track_ids=[1])
    """
    filled = [part for part in parts if len(part)]
    if len(filled) > 1:
        return Faces.concatenate(filled)
    return filled[0] if filled else parts[-1]


def move_landmarks(landmarks: NDArray[Any], old: NDArray[Any], new: NDArray[Any]) -> NDArray[Any]:
    """Returns landmarks at the same place within the new boxes as within the old ones.

    Args:
        landmarks: (N, 5, 2) in pixels.
        old: (N, 4) boxes x1 y1 x2 y2 that the landmarks belong to.
        new: (N, 4) boxes to move them to.
    """
    scale = (new[:, 2:] - new[:, :2]) / np.maximum(old[:, 2:] - old[:, :2], 1e-6)
    moved: NDArray[Any] = (landmarks - old[:, None, :2]) * scale[:, None] + new[:, None, :2]
    return moved
