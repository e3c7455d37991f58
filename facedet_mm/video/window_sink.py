"""``WindowSink``: shows the frames of a video on the screen, through OpenCV."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

import cv2
import numpy as np
from numpy.typing import NDArray

from facedet_mm.errors import VideoError
from facedet_mm.structures import Faces
from facedet_mm.video.frame import Frame

_DISPLAY_VARIABLES = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
"""On Linux, one of these variables says where Qt shows windows."""


class WindowSink:
    """Shows the frames in a window; q or Esc closes it.

    Args:
        title: Name of the video.

    Attributes:
        closed: Whether the user has closed the window.

    Raises:
        VideoError: No window can be shown.
    """

    def __init__(self, title: str) -> None:
        self.closed = False
        self._title = f"facedet {title}"
        try:
            if sys.platform == "linux" and not any(os.environ.get(name) for name in _DISPLAY_VARIABLES):
                raise cv2.error("no display")  # Qt would abort the process
            cv2.namedWindow(self._title, cv2.WINDOW_NORMAL)
        except cv2.error as error:
            raise VideoError(
                "no window can be shown: there is no display, or OpenCV is the headless build "
                "(pip uninstall opencv-python-headless && pip install opencv-python)"
            ) from error

    def write(self, frame: Frame, faces: Faces, drawn: NDArray[np.uint8]) -> None:  # noqa: ARG002
        """See :meth:`Sink.write <facedet_mm.video.sink.Sink.write>`."""
        if self.closed:
            return  # another call would open a new window
        try:
            cv2.imshow(self._title, drawn)
            key = cv2.waitKey(1) & 0xFF
            gone = cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1
        except cv2.error:  # what Qt and GTK make of a window that was closed by its X
            key, gone = -1, True
        self.closed = key in (ord("q"), 27) or gone

    def close(self) -> None:
        """See :meth:`Sink.close <facedet_mm.video.sink.Sink.close>`."""
        with suppress(cv2.error):  # the user has already closed the window
            cv2.destroyWindow(self._title)

    abort = close
