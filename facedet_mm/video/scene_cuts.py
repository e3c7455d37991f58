"""Detects where a new shot of a video begins."""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray

from facedet_mm.io.images import as_bgr

__all__ = ["SceneCutDetector"]

_THUMBNAIL = (32, 18)
_SAMPLES = 90
"""Pixels of the shorter side that the thumbnail is computed from; using all would cost much more."""
_MIN_CHANGE = 25.0
"""Gray levels, summed over luma and chroma: shots of films differ by 50 and more, frames of one shot by up to 20."""
_CHANGE_RATIO = 3.0
"""A cut is this much larger than the changes before it, which are large when a camera moves fast."""
_HISTORY = 8
"""Number of frames that define the usual change."""
_SAME_SHOT = 0.75
"""Correlation of the luma: higher in a flash or when the light changes; 0 to 0.7 between two shots."""


class SceneCutDetector:
    """Detects for each frame whether a new shot begins with it, from thumbnails of 32 x 18 pixels.

    At a cut, colors change a lot, suddenly, and in a different pattern. A moving camera does not change them suddenly,
    and a flash or lamp does not change their pattern. Dissolves and fades do not count as cuts.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> shots = [np.kron(rng.integers(0, 256, (9, 16, 3), np.uint8), np.ones((20, 20, 1), np.uint8)) for _ in "ab"]
        >>> cuts = SceneCutDetector()
        >>> [cuts.update(shots[i]) for i in (0, 0, 1, 1)]
        [False, False, True, False]
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets everything: the next frame begins another video."""
        self._last: NDArray[np.float32] | None = None
        self._changes: deque[float] = deque(maxlen=_HISTORY)

    def update(self, image: NDArray[np.uint8]) -> bool:
        """Returns whether a new shot begins with this frame; ``False`` for the first one.

        Args:
            image: The next frame: (H, W, 3) uint8 BGR, gray or BGRA.

        Raises:
            ImageError: ``image`` is not a uint8 image.
        """
        last, self._last = self._last, _thumbnail(as_bgr(image))
        if last is None:
            return False
        change = float(np.abs(self._last - last).mean(axis=(0, 1)).sum())
        usual = float(np.median(self._changes)) if self._changes else 0.0
        if change > max(_MIN_CHANGE, _CHANGE_RATIO * usual) and _correlation(self._last, last) < _SAME_SHOT:
            self._changes.clear()
            return True
        self._changes.append(change)
        return False


def _thumbnail(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Returns luma and chroma, (18, 32, 3) float32."""
    step = max(1, min(image.shape[:2]) // _SAMPLES)
    small = cv2.resize(image[::step, ::step], _THUMBNAIL, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_BGR2YCrCb).astype(np.float32)


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    x, y = a[..., 0] - a[..., 0].mean(), b[..., 0] - b[..., 0].mean()
    return float((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum() + 1))
