"""Which box is which: overlaps of all pairs, and the best assignment under a limit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

_NONE: Indices = np.zeros(0, np.intp)


def iou_matrix(a: Array, b: Array, height_power: float = 0.0) -> Array:
    """IoU of every pair, with the convention of ByteTrack that a box from 3 to 5 covers three pixels.

    Args:
        a: (4, N) float64, the rows x1 y1 x2 y2.
        b: (4, M) float64.
        height_power: the IoU is multiplied by this power of the IoU of the vertical extents: heights tell apart
            people at different distances. Hybrid-SORT (arXiv 2308.00783, section 3.3) takes 1.

    Returns:
        (N, M) in [0, 1].
    """
    a_ends, b_ends = a[2:] + 1, b[2:] + 1
    common = np.minimum(a_ends[:, :, None], b_ends[:, None])
    common -= np.maximum(a[:2, :, None], b[:2, None])
    np.maximum(common, 0, out=common)
    common[0] *= common[1]  # area and height of the overlap
    a_ends -= a[:2]
    b_ends -= b[:2]
    a_ends[0] *= a_ends[1]
    b_ends[0] *= b_ends[1]
    total = a_ends[:, :, None] + b_ends[:, None]
    total -= common
    common /= total
    iou: Array = common[0]
    if height_power:
        iou *= common[1] ** height_power
    return iou


def assign(costs: Array, limit: float) -> tuple[Indices, Indices]:
    """The assignment that is best if every pair left out costs ``limit``; pairs above it are never made.

    Costs above the limit are cut to it, so that a forbidden pair costs what leaving its two boxes alone costs:
    assigning first and dropping forbidden pairs afterwards would give up good pairs for bad ones.

    Args:
        costs: (N, M).
        limit: the highest cost of a pair.

    Returns:
        Rows and columns of the pairs, (K,) each.
    """
    if not costs.size:
        return _NONE, _NONE
    rows, columns = linear_sum_assignment(np.minimum(costs, limit))
    allowed = costs[rows, columns] <= limit
    return rows[allowed], columns[allowed]
