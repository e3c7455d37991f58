"""The Kalman filter of ByteTrack for all tracks at once.

The state of a track is the center x and y, the aspect ratio (width / height), the height, and how much each of
them changes a frame. All noises are independent, so its 8 x 8 covariance falls apart into one 2 x 2 block a
coordinate, three numbers: the filter needs no matrix algebra and gives the same values as the full one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

STATE = (5, 4)
"""Value, velocity, variance, covariance with the velocity, variance of the velocity; of x, y, aspect, height."""

_POSITION = 1 / 20
_VELOCITY = 1 / 160
"""Standard deviations of a frame's motion, in heights of the box; SORT, DeepSORT and ByteTrack share them."""
_ASPECT = 1e-2
_ASPECT_VELOCITY = 1e-5
_MEASURED_ASPECT = 1e-1
_LEAST = 1e-3
"""Aspect ratio and height stay above zero, however long a shrinking box is predicted."""


class KalmanFilter:
    """Constant velocity in image space, with noise in proportion to the height of the box.

    A state is a (5, 4, N) float64 array, see :data:`STATE`; boxes are (4, N) float64, the rows x1 y1 x2 y2.

    Args:
        interval: seconds between frames times 30. Velocities are in pixels a frame, so a longer interval makes
            those at birth larger in proportion, and their random walk with its 1.5th power (white noise
            acceleration: Bar-Shalom et al., Estimation with Applications to Tracking and Navigation, 6.2).
    """

    def __init__(self, interval: float = 1.0) -> None:
        walk = interval**1.5
        self._process = _Noise((_POSITION, _ASPECT), (walk * _VELOCITY, walk * _ASPECT_VELOCITY))
        self._measured = _Noise((_POSITION, _MEASURED_ASPECT))
        birth = 10 * interval
        self._birth = _Noise((2 * _POSITION, _ASPECT), (birth * _VELOCITY, interval * _ASPECT_VELOCITY))

    def start(self, boxes: Array) -> Array:
        """States of new tracks at rest."""
        state = np.zeros((*STATE, boxes.shape[1]))
        state[0] = _measurements(boxes)
        state[2::2] = self._birth(state[0, 3])
        return state

    def predict(self, state: Array) -> None:
        """Moves all states on by a frame, in place."""
        noise = self._process(state[0, 3])
        state[0] += state[1]
        np.maximum(state[0, 2:], _LEAST, out=state[0, 2:])
        state[2] += 2 * state[3] + state[4]
        state[3] += state[4]
        state[2::2] += noise

    def correct(self, state: Array, boxes: Array, noise: Array | None = None) -> None:
        """Takes seen boxes into the states, in place.

        Args:
            state: (5, 4, N).
            boxes: (4, N), one a state.
            noise: (N,) factors of the measurement noise's variance; ``None`` is one.
        """
        variance: Array = self._measured(state[0, 3])[0]
        if noise is not None:
            variance *= noise
        gain = state[2:4] / (state[2] + variance)
        state[:2] += gain * (_measurements(boxes) - state[0])
        state[4] -= gain[1] * state[3]
        state[2:4] -= gain[0] * state[2:4]


def boxes_of(state: Array) -> Array:
    """(4, N) boxes of the states."""
    center, height = state[0, :2], state[0, 3]
    half = np.empty_like(center)
    np.multiply(state[0, 2], height, out=half[0])
    half[1] = height
    half *= 0.5
    boxes: Array = np.empty_like(state[0])
    np.subtract(center, half, out=boxes[:2])
    np.add(center, half, out=boxes[2:])
    return boxes


class _Noise:
    """Variances for given heights, from pairs of standard deviations: of x, y and height in heights; of the aspect."""

    def __init__(self, *pairs: tuple[float, float]) -> None:
        self._relative = np.array([(s, s, 0, s) for s, _ in pairs])[:, :, None] ** 2
        self._fixed = np.array([(0, 0, s, 0) for _, s in pairs])[:, :, None] ** 2

    def __call__(self, heights: Array) -> Array:
        variances: Array = self._relative * (heights * heights) + self._fixed
        return variances


def _measurements(boxes: Array) -> Array:
    values = np.empty_like(boxes)
    size = boxes[2:] - boxes[:2]
    values[:2] = boxes[:2] + size / 2
    values[2] = size[0] / size[1]
    values[3] = size[1]
    return values
