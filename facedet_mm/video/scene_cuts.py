"""Where one shot of a film ends and the next begins."""

from __future__ import annotations

from collections import deque

import cv2
import numpy as np
from numpy.typing import NDArray

from facedet_mm.io.images import as_bgr

__all__ = ["SceneCutDetector"]

_THUMBNAIL = (32, 18)
_SAMPLES = 90
"""Rows or columns of pixels, of the shorter side, that the thumbnail is made from: a fraction of the cost."""
_LEAST_CHANGE = 25.0
"""Gray levels, the sum over luma and chroma: two shots of films differ by 50 and more, frames of one by up to 20."""
_TIMES_USUAL = 3.0
"""A cut is a jump: much larger than the changes just before, which are large when a camera moves fast."""
_HISTORY = 8
_ALIKE = 0.75
"""Correlation of the lumas: it stays above in a flash or when the light changes; two shots have 0 to 0.7."""


class SceneCutDetector:
    """Says of each frame whether a new shot begins with it, from thumbnails of 32 x 18 pixels.

    A cut changes colors much, suddenly, and in another pattern: a moving camera does not change them suddenly, a
    flash or a lamp not in another pattern. Dissolves and fades are no cuts.

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
        """Forgets the last frame: the next one begins another video."""
        self._last: NDArray[np.float32] | None = None
        self._changes: deque[float] = deque(maxlen=_HISTORY)

    def update(self, image: NDArray[np.uint8]) -> bool:
        """Whether a new shot begins with this frame; never at the first one.

        Args:
            image: uint8 BGR (H, W, 3), gray or BGRA: the next frame.

        Raises:
            ImageError: ``image`` is no uint8 image.
        """
        last, self._last = self._last, _thumbnail(as_bgr(image))
        if last is None:
            return False
        change = float(np.abs(self._last - last).mean(axis=(0, 1)).sum())
        usual = float(np.median(self._changes)) if self._changes else 0.0
        if change > max(_LEAST_CHANGE, _TIMES_USUAL * usual) and _correlation(self._last, last) < _ALIKE:
            self._changes.clear()
            return True
        self._changes.append(change)
        return False


def _thumbnail(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(18, 32, 3) float32: luma and chroma."""
    step = max(1, min(image.shape[:2]) // _SAMPLES)
    small = cv2.resize(image[::step, ::step], _THUMBNAIL, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(small, cv2.COLOR_BGR2YCrCb).astype(np.float32)


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    x, y = a[..., 0] - a[..., 0].mean(), b[..., 0] - b[..., 0].mean()
    return float((x * y).sum() / np.sqrt((x * x).sum() * (y * y).sum() + 1))
