"""Videos and cameras through OpenCV: for cameras, and for files where PyAV is not installed."""

from __future__ import annotations

import glob
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from facedet_mm.errors import VideoError
from facedet_mm.io.images import as_bgr, opencv_logging
from facedet_mm.video.containers import NO_INDEX, container_kind, is_truncated
from facedet_mm.video.frame import SourceInfo
from facedet_mm.video.reader import DEFAULT_FPS, Stamped, StampedReader, plausible_fps

_CAMERA_FPS = 30.0
_NETWORK = (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 5000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 10000)
_ATTEMPTS = 32
"""How often to read on after a frame of a file that can't be decoded; at the end of a file it costs nothing."""
_log_lock = threading.Lock()


class OpenCVReader(StampedReader):
    """A video file, a stream from the network, or a camera by its number or device file.

    Files come upright. Two things are less good than with PyAV: colors of HD video are read as those of SD (off by
    up to 22 of 255), and damage is not always noticed.

    Args:
        place: an existing file, an address, or the number of a camera.
        name: what to call it.
        size: (width, height) to ask a camera for.
        fps: to ask a camera for.

    Raises:
        VideoError: it can't be opened or gives no image.
    """

    def __init__(
        self, place: Path | str | int, name: str, size: tuple[int, int] | None = None, fps: float | None = None
    ) -> None:
        self._place, self._name, self._lost = place, name, 0
        if isinstance(place, Path) and _is_text(place):
            raise VideoError(f"{name}: no video: there are no moving images in it, only text")
        with quiet():
            self._capture = _open(place, size, fps)
            image = self._read() if self._capture.isOpened() else None
        if image is None:
            self.close()
            raise VideoError(f"{name}: {_why_not_opened(place)}")
        self._first = [(self._stamp(), image)]
        self.info = self._describe(image)

    def close(self) -> None:
        """See :meth:`Reader.close`."""
        self._capture.release()

    def _next(self) -> Stamped | None:
        attempts = _ATTEMPTS if isinstance(self._place, Path) else 1
        for attempt in range(attempts):
            image = self._read()
            if image is not None:
                self._lost += attempt
                return self._stamp(), image
        return None

    def _read(self) -> NDArray[np.uint8] | None:
        try:
            done, image = self._capture.read()
        except cv2.error:
            return None
        return as_bgr(image) if done else None

    def _stamp(self) -> float | None:
        if isinstance(self._place, int):
            return time.monotonic()
        # The first one can be below 0, which is where the stream begins, when frames are stored out of order.
        return max(0.0, float(self._capture.get(cv2.CAP_PROP_POS_MSEC)) / 1000)

    def _describe(self, image: NDArray[np.uint8]) -> SourceInfo:
        height, width = image.shape[:2]
        fps = plausible_fps(self._capture.get(cv2.CAP_PROP_FPS))
        if isinstance(self._place, int):
            return SourceInfo(self._name, width, height, fps or _CAMERA_FPS, live=True)
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        live = isinstance(self._place, str) and count <= 0
        return SourceInfo(self._name, width, height, fps or DEFAULT_FPS, count if count > 0 else None, live)

    def _problem(self, number: int) -> str | None:
        if isinstance(self._place, int):
            return f"broke off after frame {number}: the camera gives no more images; is it still plugged in?"
        if isinstance(self._place, str):
            missing = (self.info.total_frames or 0) - number
            return f"broke off after frame {number}: the connection was lost" if missing > self.info.fps else None
        if is_truncated(self._place):
            return f"broke off after frame {number}: the file is cut off there; the rest is missing"
        # Only AVI counts exactly; MP4 counts frames that an edit list hides, other containers' counts are guesses.
        missing = (self.info.total_frames or 0) - number if container_kind(self._place) == "avi" else 0
        if self._lost or missing > 0:
            return f"the file is damaged: {max(self._lost, missing)} frames or more are lost, {number} could be decoded"
        return None


def _is_text(path: Path) -> bool:
    """Whether FFmpeg might make moving images of a text."""
    with path.open("rb") as file:
        head = file.read(4096)
    return b"\0" not in head and not head.startswith(b"#EXTM3U") and head.decode("utf-8", "ignore").encode() == head


@contextmanager
def quiet() -> Iterator[None]:
    """Keeps OpenCV and its FFmpeg from writing to standard error: what matters becomes a ``VideoError``."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # read when a video is first opened
    logging = opencv_logging()
    with _log_lock:
        before = logging.getLogLevel()
        logging.setLogLevel(0)
        try:
            yield
        finally:
            logging.setLogLevel(before)


def _open(place: Path | str | int, size: tuple[int, int] | None, fps: float | None) -> Any:
    if isinstance(place, str):
        return cv2.VideoCapture(place, cv2.CAP_FFMPEG, _NETWORK)
    if isinstance(place, Path):
        return cv2.VideoCapture(os.path.abspath(place))  # lest a colon in its name be taken for a protocol
    capture = cv2.VideoCapture(place)
    wanted = {cv2.CAP_PROP_FPS: fps}
    if size:
        wanted |= {cv2.CAP_PROP_FRAME_WIDTH: size[0], cv2.CAP_PROP_FRAME_HEIGHT: size[1]}
    for setting, value in wanted.items():
        if value:
            capture.set(setting, value)
    return capture


def _why_not_opened(place: Path | str | int) -> str:
    if isinstance(place, int):
        devices = sorted(glob.glob("/dev/video*"))
        there = f"there are {', '.join(devices)}" if devices else "there is no /dev/video* at all"
        return f"no such camera, or another program uses it{f'; {there}' if sys.platform == 'linux' else ''}"
    if isinstance(place, str):
        return "cannot be opened; check the address, the network and, where needed, user and password"
    if is_truncated(place):
        return NO_INDEX
    kind = container_kind(place)
    return f"damaged {kind} file, or a codec that OpenCV lacks" if kind else "no video that OpenCV reads"
