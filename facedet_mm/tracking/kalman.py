"""The Kalman filter of ByteTrack for all tracks at once.

The state of a track is the center x and y, the aspect ratio (width / height), the height, and the change of each per
frame. All noises are independent, so the 8 x 8 covariance consists of one 2 x 2 block (three numbers) per coordinate.
The filter needs no matrix algebra and returns the same values as one with full matrices.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

STATE = (5, 4)
"""Rows: value, velocity, variance, covariance with the velocity, variance of the velocity. Columns: x, y, aspect ratio,
height."""

_POSITION = 1 / 20
_VELOCITY = 1 / 160
"""Standard deviations of the motion per frame, relative to the height of the box, as in SORT, DeepSORT and
ByteTrack."""
_ASPECT = 1e-2
_ASPECT_VELOCITY = 1e-5
_MEASURED_ASPECT = 1e-1
_MIN_SIZE = 1e-3
"""Keeps aspect ratio and height above zero, however long a shrinking box is predicted."""


class KalmanFilter:
    """Constant velocity in image space, with noise proportional to the height of the box.

    A state is a (5, 4, N) float64 array, see :data:`STATE`; boxes are (4, N) float64, the rows x1 y1 x2 y2.

    Args:
        interval: Seconds between frames times 30. Velocities are in pixels per frame, so their initial deviation grows
            in proportion to the interval, and their random walk with its 1.5th power (white noise acceleration:
            Bar-Shalom et al., Estimation with Applications to Tracking and Navigation, 6.2).
    """

    def __init__(self, interval: float = 1.0) -> None:
        walk = interval**1.5
        self._process = _Noise((_POSITION, _ASPECT), (walk * _VELOCITY, walk * _ASPECT_VELOCITY))
        self._measured = _Noise((_POSITION, _MEASURED_ASPECT))
        birth = 10 * interval
        self._birth = _Noise((2 * _POSITION, _ASPECT), (birth * _VELOCITY, interval * _ASPECT_VELOCITY))

    def start(self, boxes: Array) -> Array:
        """Returns the states of new tracks, which are at rest."""
        state = np.zeros((*STATE, boxes.shape[1]))
        state[0] = _boxes_to_measurements(boxes)
        state[2::2] = self._birth(state[0, 3])
        return state

    def predict(self, state: Array) -> None:
        """Advances all states by one frame, in place."""
        noise = self._process(state[0, 3])
        state[0] += state[1]
        np.maximum(state[0, 2:], _MIN_SIZE, out=state[0, 2:])
        state[2] += 2 * state[3] + state[4]
        state[3] += state[4]
        state[2::2] += noise

    def correct(self, state: Array, boxes: Array, noise: Array | None = None) -> None:
        """Corrects the states with detected boxes, in place.

        Args:
            state: (5, 4, N) float64.
            boxes: (4, N) float64, one box per state.
            noise: (N,) factors for the variance of the measurement noise; ``None`` means 1.
        """
        variance: Array = self._measured(state[0, 3])[0]
        if noise is not None:
            variance *= noise
        gain = state[2:4] / (state[2] + variance)
        state[:2] += gain * (_boxes_to_measurements(boxes) - state[0])
        state[4] -= gain[1] * state[3]
        state[2:4] -= gain[0] * state[2:4]


def state_to_boxes(state: Array) -> Array:
    """Returns the boxes of the states, (4, N) float64."""
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
    """Variances for given heights.

    Args:
        pairs: Standard deviations of x, y and height, relative to the height, and of the aspect ratio.
    """

    def __init__(self, *pairs: tuple[float, float]) -> None:
        self._relative = np.array([(s, s, 0, s) for s, _ in pairs])[:, :, None] ** 2
        self._fixed = np.array([(0, 0, s, 0) for _, s in pairs])[:, :, None] ** 2

    def __call__(self, heights: Array) -> Array:
        variances: Array = self._relative * (heights * heights) + self._fixed
        return variances


def _boxes_to_measurements(boxes: Array) -> Array:
    values = np.empty_like(boxes)
    size = boxes[2:] - boxes[:2]
    values[:2] = boxes[:2] + size / 2
    values[2] = size[0] / size[1]
    values[3] = size[1]
    return values
