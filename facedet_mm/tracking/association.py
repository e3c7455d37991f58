"""Overlaps of all pairs of boxes, and the best assignment under a limit."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

_NONE: Indices = np.zeros(0, np.intp)


def iou_matrix(a: Array, b: Array, height_power: float = 0.0) -> Array:
    """Returns the IoU of every pair, with the convention of ByteTrack that a box from 3 to 5 covers three pixels.

    Args:
        a: (4, N) float64, the rows x1 y1 x2 y2.
        b: (4, M) float64, the rows x1 y1 x2 y2.
        height_power: The IoU is multiplied by this power of the IoU of the vertical extents, because the heights
            distinguish people at different distances. Hybrid-SORT (arXiv 2308.00783, section 3.3) uses 1.

    Returns:
        (N, M) float64 in [0, 1].
    """
    a_ends, b_ends = a[2:] + 1, b[2:] + 1
    common = np.minimum(a_ends[:, :, None], b_ends[:, None])
    common -= np.maximum(a[:2, :, None], b[:2, None])
    np.maximum(common, 0, out=common)
    common[0] *= common[1]  # common[0] is now the area of the overlap, common[1] its height
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
    """Returns the best assignment if every pair not made costs ``limit``; pairs above the limit are never made.

    Costs above the limit are reduced to it, so that a forbidden pair costs as much as leaving its two boxes unmatched.
    Assigning first and dropping forbidden pairs afterwards would sacrifice good pairs for forbidden ones.

    Args:
        costs: (N, M) float64.
        limit: Largest cost of a pair.

    Returns:
        Rows and columns of the pairs, (K,) each.
    """
    if not costs.size:
        return _NONE, _NONE
    rows, columns = linear_sum_assignment(np.minimum(costs, limit))
    allowed = costs[rows, columns] <= limit
    return rows[allowed], columns[allowed]
