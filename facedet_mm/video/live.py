"""``LiveSource``: cameras and endless streams, which do not wait for their reader."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator

from facedet_mm.errors import VideoError
from facedet_mm.system.concurrency import background
from facedet_mm.video.clock import Clock
from facedet_mm.video.frame import Frame
from facedet_mm.video.geometry import fit
from facedet_mm.video.reader import Reader, Source

RECONNECT_TRIES = 5
RECONNECT_DELAY = 0.5
"""Seconds before a lost stream is opened again; each further wait is twice as long."""
_POLL_INTERVAL = 0.1


class LiveSource(Source):
    """A camera or stream: yields the newest frame, skips older ones and reconnects when the stream is lost.

    Args:
        reader: Reader of the frames.
        reopen: Opens the stream again after it was lost; ``None`` for a camera, which cannot be opened again.
    """

    def __init__(self, reader: Reader, reopen: Callable[[], Reader] | None = None) -> None:
        super().__init__(reader)
        self._reopen = reopen
        self._changed = threading.Condition()
        self._newest: Frame | None = None
        self._error: VideoError | None = None
        self._ended = False

    def __iter__(self) -> Generator[Frame, None, None]:
        with background(self._watch, self._closed.set, "facedet-live"):
            while frame := self._wait():
                yield frame
            if self._error and not self._closed.is_set():
                raise self._error

    def _wait(self) -> Frame | None:
        """Waits for a frame that was not returned yet; returns ``None`` at the end."""
        with self._changed:
            while self._newest is None and not self._ended and not self._closed.is_set():
                self._changed.wait(_POLL_INTERVAL)
            frame, self._newest = self._newest, None
            return None if self._closed.is_set() else frame

    def _watch(self) -> None:
        """Reads frames in the background and keeps the newest."""
        try:
            clock = Clock(self.info.fps)
            for number, frame in enumerate(self._frames(), start=1):
                image = fit(frame.image, self.info.width, self.info.height)
                with self._changed:
                    self.dropped += self._newest is not None
                    self._newest = Frame(image, number, clock(time.monotonic()))
                    self._changed.notify()
        except VideoError as error:
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()

    def _frames(self) -> Iterator[Frame]:
        """Yields frames across lost connections, until the source is closed or cannot be opened anymore."""
        reader: Reader | None = self._reader
        failures = 0
        while True:
            try:
                if reader is None and self._reopen:
                    reader = self._reopen()
                for frame in reader.frames() if reader else ():
                    failures = 0
                    yield frame
                    if self._closed.is_set():
                        return
                error = VideoError(f"{self.info.name}: the stream has ended")
            except VideoError as lost:
                error = lost
            finally:
                if reader:
                    reader.close()
                reader = None
            failures += 1
            if self._reopen is None or failures > RECONNECT_TRIES:
                tried = f"; gave up after {RECONNECT_TRIES} attempts to reconnect" if self._reopen else ""
                raise VideoError(f"{error}{tried}")
            if self._closed.wait(RECONNECT_DELAY * 2 ** (failures - 1)):
                return
