"""``open_source``: frames of files, folders, cameras, streams and standard input."""

from __future__ import annotations

import glob
import os
import re
import select
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import numpy as np

from facedet_mm.errors import ImageError, VideoError
from facedet_mm.io.images import read_image
from facedet_mm.system.concurrency import background
from facedet_mm.video.frame import Frame, SourceInfo
from facedet_mm.video.opencv_reader import OpenCVReader
from facedet_mm.video.reader import DEFAULT_FPS, MOST_FPS, Clock, Reader, fit, plausible_fps

IMAGES = frozenset((".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"))
_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
_SECRET = re.compile(r"(?<=:)//[^/@]*@")
"""User and password of an address, which no message shows."""
_TRIES = 5
_FIRST_WAIT = 0.5
"""Seconds before a lost stream is opened again; each further wait is twice as long."""
_PATIENCE = 0.1


class Source:
    """The frames of a video, once, in order; a context manager.

    Args:
        reader: gives the frames.

    Attributes:
        info: what is known of the video.
        dropped: frames of a live source that were too old when asked for.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._closed = threading.Event()
        self.info: SourceInfo = reader.info
        self.dropped = 0

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Generator[Frame, None, None]:
        try:
            for frame in self._reader.frames():
                if self._closed.is_set():
                    return
                yield frame
        finally:
            self._reader.close()

    def close(self) -> None:
        """Ends the iteration at its next frame; may be called from any thread, and twice."""
        self._closed.set()
        self._reader.stop()


class LiveSource(Source):
    """A camera or stream: always the newest frame, whatever was missed in between; a lost stream is opened again.

    Args:
        reader: gives the frames.
        reopen: opens it again after it was lost; ``None`` where that makes no sense.
    """

    def __init__(self, reader: Reader, reopen: Callable[[], Reader] | None = None) -> None:
        super().__init__(reader)
        self._reopen = reopen
        self._news = threading.Condition()
        self._newest: Frame | None = None
        self._error: VideoError | None = None
        self._over = False

    def __iter__(self) -> Generator[Frame, None, None]:
        with background(self._watch, self._closed.set, "facedet-live"):
            while frame := self._wait():
                yield frame
            if self._error and not self._closed.is_set():
                raise self._error

    def _wait(self) -> Frame | None:
        """The newest frame that did not come out yet; ``None`` at the end."""
        with self._news:
            while self._newest is None and not self._over and not self._closed.is_set():
                self._news.wait(_PATIENCE)
            frame, self._newest = self._newest, None
            return None if self._closed.is_set() else frame

    def _watch(self) -> None:
        try:
            clock = Clock(self.info.fps)
            for number, frame in enumerate(self._frames(), start=1):
                image = fit(frame.image, self.info.width, self.info.height)
                with self._news:
                    self.dropped += self._newest is not None
                    self._newest = Frame(image, number, clock(time.monotonic()))
                    self._news.notify()
        except VideoError as error:
            self._error = error
        finally:
            with self._news:
                self._over = True
                self._news.notify()

    def _frames(self) -> Iterator[Frame]:
        """Frames across lost connections, until the source is closed or can't be opened any more."""
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
            if self._reopen is None or failures > _TRIES:
                tried = f"; gave up after {_TRIES} tries to connect again" if self._reopen else ""
                raise VideoError(f"{error}{tried}")
            if self._closed.wait(_FIRST_WAIT * 2 ** (failures - 1)):
                return


class ImagesReader(Reader):
    """Images as frames, ``fps`` a second, in the size of the first one."""

    def __init__(self, paths: list[Path], name: str, fps: float) -> None:
        self._paths = paths
        first = _image(paths[0])
        self.info = SourceInfo(name, first.shape[1], first.shape[0], fps, len(paths))

    def frames(self) -> Iterator[Frame]:
        """See :meth:`Reader.frames`."""
        for number, path in enumerate(self._paths, start=1):
            image = fit(_image(path), self.info.width, self.info.height)
            yield Frame(image, number, (number - 1) / self.info.fps)

    def close(self) -> None:
        """See :meth:`Reader.close`."""


class RawReader(Reader):
    """BGR pixels, frame after frame, from a pipe."""

    def __init__(self, pipe: BinaryIO, size: tuple[int, int], fps: float) -> None:
        self._pipe = pipe
        self._number = _selectable(pipe)
        self._stopped = threading.Event()
        self.info = SourceInfo("standard input", *size, fps)

    def frames(self) -> Iterator[Frame]:
        """See :meth:`Reader.frames`."""
        width, height = self.info.width, self.info.height
        size, number = width * height * 3, 0
        while data := self._read(size):
            if len(data) < size:
                raise VideoError(f"standard input: broke off within frame {number + 1}: {len(data)} of {size} bytes")
            number += 1
            yield Frame(np.frombuffer(data, np.uint8).reshape(height, width, 3), number, (number - 1) / self.info.fps)

    def close(self) -> None:
        """See :meth:`Reader.close`."""

    def stop(self) -> None:
        """See :meth:`Reader.stop`."""
        self._stopped.set()

    def _read(self, size: int) -> bytes | bytearray:
        """So many bytes, fewer at the end, none after :meth:`stop`."""
        if self._number is None:
            return self._pipe.read(size)
        data = bytearray()
        while len(data) < size and not self._stopped.is_set():
            if select.select([self._number], [], [], _PATIENCE)[0]:
                more = os.read(self._number, size - len(data))
                if not more:
                    break
                data += more
        return b"" if self._stopped.is_set() else data


def _selectable(pipe: BinaryIO) -> int | None:
    """The number of a pipe for which can be waited; ``None`` for what is no pipe, or one of Windows."""
    try:
        number = pipe.fileno()
        select.select([number], [], [], 0)
    except (OSError, ValueError):
        return None
    return number


def open_source(
    spec: str | os.PathLike[str] | int, *, size: tuple[int, int] | None = None, fps: float | None = None
) -> Source:
    """Opens a video, whatever it is.

    Args:
        spec: a video file, a folder or pattern of images, the number of a camera, an address (``rtsp://``,
            ``http://``, …), or ``'-'``: raw BGR frames on standard input.
        size: (width, height) of raw frames, or what to ask a camera for.
        fps: frames a second of raw frames and images (25 if not said), or what to ask a camera for.

    Raises:
        VideoError: it is missing, no video, damaged, or can't be reached.
        ImageError: the first image of a folder can't be read.

    Example:
        >>> from facedet_mm.zoo import asset_path
        >>> with open_source(asset_path("four_people.mp4")) as source:
        ...     times = [round(frame.time, 3) for frame in source]
        >>> source.info.total_frames, times[:3]
        (150, [0.0, 0.033, 0.067])
    """
    name = os.fspath(spec) if not isinstance(spec, int) else str(spec)
    if not name:
        raise VideoError("no input: its name is empty")
    if fps is not None and plausible_fps(fps) is None:
        raise VideoError(f"{fps:g} frames a second cannot be: it must be above 0 and at most {MOST_FPS:g}")
    if name == "-":
        if size is None:
            raise VideoError("raw frames on standard input need their size: --raw-size WxH")
        return Source(RawReader(sys.stdin.buffer, size, fps or DEFAULT_FPS))
    if name.isdecimal() and not Path(name).exists():
        return LiveSource(OpenCVReader(int(name), f"camera {name}", size, fps))
    if _ADDRESS.match(name):
        return _stream(name)
    path = Path(name)
    if path.is_dir():
        files = [file for file in path.iterdir() if file.suffix.lower() in IMAGES]
        if not files:
            raise VideoError(f"{path}: no images in this folder")
        return Source(ImagesReader(sorted(files, key=_natural), name, fps or DEFAULT_FPS))
    if not path.exists():
        files = [Path(match) for match in glob.glob(name)] if glob.has_magic(name) else []
        if not files:
            raise VideoError(f"{path}: no such file" if not glob.has_magic(name) else f"{path}: no file fits")
        return Source(ImagesReader(sorted(files, key=_natural), name, fps or DEFAULT_FPS))
    try:
        if path.stat().st_size == 0:
            raise VideoError(f"{path}: empty file (0 bytes)")
        return Source(_reader(path, name))
    except OSError as error:
        raise VideoError(f"{path}: cannot be read: {error.strerror or error}") from error


def _stream(address: str) -> Source:
    name = _SECRET.sub("//", address)
    reader = _reader(address, name)
    return LiveSource(reader, lambda: _reader(address, name)) if reader.info.live else Source(reader)


def _reader(place: Path | str, name: str) -> Reader:
    try:
        from facedet_mm.video.pyav_reader import PyAVReader
    except ImportError:
        return OpenCVReader(place, name)
    return PyAVReader(place, name)


def _image(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    try:
        return read_image(path)
    except ImageError as error:
        raise VideoError(str(error)) from error


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """``frame2`` before ``frame10``."""
    parts = re.split(r"(\d+)", path.name)
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in parts]
