"""``CameraReader``: cameras by their number, through OpenCV."""

from __future__ import annotations

import glob
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facedet_mm.errors import VideoError
from facedet_mm.io.images import as_bgr, opencv_logging
from facedet_mm.video.clock import Clock, plausible_fps
from facedet_mm.video.frame import SourceInfo
from facedet_mm.video.reader import Stamped, StampedReader

_CAMERA_FPS = 30.0
_log_lock = threading.Lock()


class CameraReader(StampedReader):
    """Reads the frames of a camera.

    Args:
        number: Number of the camera, counted from 0.
        name: Name of the camera used in messages.
        size: (width, height) to request from the camera.
        fps: Frames per second to request from the camera.

    Raises:
        VideoError: The camera cannot be opened or returns no image.
    """

    def __init__(self, number: int, name: str, size: tuple[int, int] | None = None, fps: float | None = None) -> None:
        self._name = name
        with _quiet_opencv():
            self._capture = _open(number, size, fps)
            image = self._read() if self._capture.isOpened() else None
        if image is None:
            self.close()
            raise VideoError(f"{name}: no such camera, or another program uses it{_available_cameras()}")
        self._first = [(time.monotonic(), image)]
        fps = plausible_fps(self._capture.get(cv2.CAP_PROP_FPS)) or _CAMERA_FPS
        self._clock = Clock(fps)
        self.info = SourceInfo(name, image.shape[1], image.shape[0], fps, live=True)

    def close(self) -> None:
        """See :meth:`Reader.close <facedet_mm.video.reader.Reader.close>`."""
        self._capture.release()

    def _next(self) -> Stamped | None:
        image = self._read()
        return None if image is None else (time.monotonic(), image)

    def _read(self) -> NDArray[np.uint8] | None:
        try:
            success, image = self._capture.read()
        except cv2.error:
            return None
        return as_bgr(image) if success else None

    def _problem(self, number: int) -> str | None:
        return f"the camera returns no more images after frame {number}; check that it is still plugged in"


@contextmanager
def _quiet_opencv() -> Iterator[None]:
    """Keeps OpenCV from writing to standard error: every failure becomes a ``VideoError`` instead."""
    logging = opencv_logging()
    with _log_lock:
        before = logging.getLogLevel()
        logging.setLogLevel(0)
        try:
            yield
        finally:
            logging.setLogLevel(before)


def _open(number: int, size: tuple[int, int] | None, fps: float | None) -> Any:
    capture = cv2.VideoCapture(number)
    requested = {cv2.CAP_PROP_FPS: fps}
    if size:
        requested |= {cv2.CAP_PROP_FRAME_WIDTH: size[0], cv2.CAP_PROP_FRAME_HEIGHT: size[1]}
    for setting, value in requested.items():
        if value:
            capture.set(setting, value)
    return capture


def _available_cameras() -> str:
    """Returns the end of an error message that lists the cameras of a Linux machine."""
    if sys.platform != "linux":
        return ""
    devices = sorted(glob.glob("/dev/video*"))
    return f"; there are {', '.join(devices)}" if devices else "; this machine has no /dev/video*"
