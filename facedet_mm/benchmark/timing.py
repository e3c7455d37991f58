"""Timing of calls and detectors, in milliseconds."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from facedet_mm.detectors import Detector, Image


def call_time(function: Callable[[], Any]) -> float:
    """Returns the milliseconds that one call takes.

    Example:
        >>> 20 <= call_time(lambda: time.sleep(0.02)) < 1000
        True
    """
    start = time.perf_counter()
    function()
    return 1e3 * (time.perf_counter() - start)


def detection_times(
    detector: Detector, images: Sequence[Image], batch: int, seconds: float, warm_up: int, min_calls: int
) -> Iterator[float]:
    """Yields the milliseconds of calls of ``detect_batch``, each on the next ``batch`` images.

    Args:
        detector: Detector to time.
        images: Images, used in turn.
        batch: Number of images per call.
        seconds: Duration of the measurement after the warm-up.
        warm_up: Number of first calls that are not counted.
        min_calls: Smallest number of calls that are counted.

    Example:
        >>> import numpy as np
        >>> from facedet_mm.detectors import build_detector
        >>> image = np.zeros((64, 64, 3), np.uint8)
        >>> len(list(detection_times(build_detector(input_size=64), [image], 1, seconds=0, warm_up=1, min_calls=4)))
        4
    """
    turn = itertools.cycle(images)
    end = 0.0
    for count in itertools.count(1 - warm_up):
        chunk = list(itertools.islice(turn, batch))
        if count == 1:
            end = time.perf_counter() + seconds
        milliseconds = call_time(partial(detector.detect_batch, chunk))
        if count < 1:
            continue
        yield milliseconds
        if count >= min_calls and time.perf_counter() >= end:
            return
