"""Videos and streams through PyAV: exact time stamps, orientation, colors as they were meant."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from facedet_mm.errors import VideoError
from facedet_mm.system.machine import codec_threads
from facedet_mm.video.containers import NO_INDEX, container_kind, is_truncated
from facedet_mm.video.frame import SourceInfo
from facedet_mm.video.reader import DEFAULT_FPS, Stamped, StampedReader, plausible_fps

_TEXT_AS_VIDEO = frozenset({"tty"})
"""Formats of FFmpeg that make moving images of any text file."""
_ROUGH = 0.5
"""Seconds that the stated duration may exceed what is there."""
_OPEN_TIMEOUT, _READ_TIMEOUT = 5.0, 10.0
"""Seconds; the second is also for connecting again by FFmpeg itself, which it does where a file can be read on."""
_OBLONG = 0.01
"""Pixels whose sides differ by less are square."""
_TAG_TIME = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")


class PyAVReader(StampedReader):
    """A video file, or a stream from the network.

    Images come upright, with square pixels, in the colors that the file's tags say; a change of size is met by
    :func:`~facedet_mm.video.reader.fit`. Packets that can't be decoded are left out and reported at the end.

    Args:
        place: an existing file, or an address.
        name: what to call it.

    Raises:
        VideoError: it can't be opened, or holds no image that can be decoded.
    """

    def __init__(self, place: Path | str, name: str) -> None:
        self._path = place if isinstance(place, Path) else None
        self._name = name
        self._convert = VideoReformatter()
        self._decoded = self._packets = self._damaged = self._whole = 0
        self._end = 0.0
        self._failure = ""
        try:
            self._container = _open(place)
        except (av.FFmpegError, OSError) as error:
            raise VideoError(f"{name}: {_why_not_opened(self._path, error)}") from error
        try:
            self._stream = self._pick_stream()
            self._images = self._decode()
            first = next(self._images, None)
            if first is None:
                reason = self._failure or "it is damaged or ends too early"
                raise VideoError(f"{name}: not one frame can be decoded: {reason}")
            self.info = self._describe(first[1])
        except BaseException:
            self.close()
            raise
        self._first = [first]

    def close(self) -> None:
        """See :meth:`Reader.close`."""
        self._container.close()

    def _next(self) -> Stamped | None:
        return next(self._images, None)

    def _pick_stream(self) -> Any:
        stream: Any = self._container.streams.best("video")
        if stream is None and self._path and is_truncated(self._path):
            raise VideoError(f"{self._name}: {NO_INDEX}")
        if stream is None or self._container.format.name in _TEXT_AS_VIDEO:
            kinds = (
                "text" if stream else " and ".join(sorted({one.type for one in self._container.streams})) or "nothing"
            )
            raise VideoError(f"{self._name}: no video: there are no moving images in it, only {kinds}")
        if stream.codec_context is None:
            raise VideoError(f"{self._name}: PyAV can't decode its codec; convert it to H.264 first")
        stream.codec_context.thread_type = "AUTO"
        stream.codec_context.thread_count = codec_threads()
        return stream

    def _decode(self) -> Iterator[Stamped]:
        """Time stamp in seconds and image of all that can be decoded."""
        for packet in self._demux():
            self._packets += bool(packet and packet.size)
            if packet and packet.is_corrupt and self._path and container_kind(self._path):
                self._lose_one()  # cut off; decoding it would take frames with it that the decoder still holds
                continue
            try:
                frames = self._stream.codec_context.decode(packet)
            except av.FFmpegError:
                self._lose_one()
                continue
            for frame in frames:
                self._decoded += 1
                if frame.time is not None:
                    self._end = max(self._end, frame.time + float((frame.duration or 0) * (frame.time_base or 0)))
                yield frame.time, self._image(frame)

    def _lose_one(self) -> None:
        if not self._damaged:
            self._whole = self._decoded
        self._damaged += 1

    def _demux(self) -> Iterator[Any]:
        """Packets; at the end ``None`` or an empty one, which makes the decoder give what it still holds."""
        try:
            yield from self._container.demux(self._stream)
        except av.error.ExitError:
            self._failure = f"nothing came for {_READ_TIMEOUT:.0f} s"
            yield None
        except (av.FFmpegError, OSError) as error:
            self._failure = error.strerror or str(error)
            yield None

    def _image(self, frame: Any) -> NDArray[np.uint8]:
        width, height = _square_pixels(frame.width, frame.height, self._stream.sample_aspect_ratio)
        # More threads of swscale cost more than they give.
        image: Any = self._convert.reformat(frame, width, height, "bgr24", threads=1).to_ndarray()
        matrix = _display_matrix(frame)
        return image if matrix is None else upright(image, np.frombuffer(matrix, np.int32))

    def _describe(self, image: NDArray[np.uint8]) -> SourceInfo:
        stream, container = self._stream, self._container
        fps = plausible_fps(stream.average_rate) or plausible_fps(stream.guessed_rate) or DEFAULT_FPS
        duration = self._stated_duration()
        if duration is None and container.duration is not None:
            duration = container.duration / av.time_base
        estimate = None if duration is None else max(1, round(duration * fps))
        return SourceInfo(
            self._name,
            image.shape[1],
            image.shape[0],
            fps,
            stream.frames or estimate,
            live=self._path is None and container.duration is None,
            audio=self._path if container.streams.audio else None,
        )

    def _stated_duration(self) -> float | None:
        """Seconds of images as the file states them, not as FFmpeg guesses."""
        stream = self._stream
        if stream.duration is not None:
            return float(stream.duration * stream.time_base)
        if tag := _TAG_TIME.fullmatch(stream.metadata.get("DURATION", "").rstrip("0")):
            hours, minutes, seconds = map(float, tag.groups())
            return 3600 * hours + 60 * minutes + seconds - (self._start() or 0)
        return None

    def _start(self) -> float:
        return float((self._stream.start_time or 0) * self._stream.time_base)

    def _problem(self, number: int) -> str | None:
        if self._failure:
            return f"broke off after frame {number}: {self._failure}"
        if self._path and is_truncated(self._path):
            return f"broke off after frame {number}: the file is cut off there; the rest is missing"
        if self._damaged:
            return f"damaged after frame {self._whole}: {self._damaged} frames are lost, {number} could be decoded"
        container = self._container
        kind = next((kind for kind in ("mp4", "matroska", "avi") if kind in container.format.name.split(",")), None)
        if kind == "avi" and self._packets < self._stream.frames:
            return f"damaged: {self._stream.frames - self._packets} of {self._stream.frames} frames are lost"
        stated, found = self._stated_duration(), self._end - self._start()
        if stated is None and not self._path and container.duration is not None and not container.streams.audio:
            stated = container.duration / av.time_base  # with sound it may be the sound's
        if kind in ("mp4", "matroska") and stated and stated - found > max(_ROUGH, 3 / self.info.fps):
            return f"broke off after frame {number}, at {found:.1f} of {stated:.1f} s: the file is damaged there"
        return None


def _display_matrix(frame: Any) -> Any:
    try:
        return frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # side data of a kind that this PyAV doesn't know, as EXIF
        return None


def upright(image: NDArray[np.uint8], matrix: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Applies a display matrix that turns by right angles or mirrors.

    Args:
        image: (H, W, 3) uint8, as stored.
        matrix: (9,) int32 of ISO/IEC 14496-12, 8.3.2.3: a point (x, y) as stored is shown at (ax + cy, bx + dy),
            with a, b, c, d at positions 0, 1, 3, 4.
    """
    a, b, _, c, d = matrix[:5].tolist()
    if abs(b) > abs(a):
        image = np.asarray(cv2.transpose(image), np.uint8)
        a, d = c, b
    if a >= 0 and d >= 0:
        return image
    return np.asarray(cv2.flip(image, -1 if a < 0 and d < 0 else 1 if a < 0 else 0), np.uint8)


def _square_pixels(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """The size at which pixels of this aspect are square: the longer of their sides grows."""
    if not aspect or abs(aspect - 1) < _OBLONG:
        return width, height
    return (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))


def _open(place: Path | str) -> Any:
    if isinstance(place, Path):
        return av.open(f"file:{place}")  # the prefix, lest a colon in a name be taken for a protocol
    protocol = place.partition("://")[0].lower()
    options = {"rtsp": {"rtsp_transport": "tcp"}, "http": {"reconnect": "1"}, "https": {"reconnect": "1"}}
    return av.open(place, options=options.get(protocol, {}), timeout=(_OPEN_TIMEOUT, _READ_TIMEOUT))


def _why_not_opened(path: Path | None, error: Any) -> str:
    if path is None:
        reason = (
            f"no answer in {_OPEN_TIMEOUT:.0f} s" if isinstance(error, av.error.ExitError) else error.strerror or error
        )
        return f"cannot be opened: {reason}; check the address, the network and, where needed, user and password"
    if is_truncated(path):
        return NO_INDEX
    kind = container_kind(path)
    return f"damaged {kind} file: {error.strerror}" if kind else "no video: FFmpeg knows no format that it fits"
