"""``VideoReader``: files and streams through PyAV, with exact timestamps, upright and in the right colors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from facedet_mm.errors import VideoError
from facedet_mm.system.machine import codec_threads
from facedet_mm.video.clock import DEFAULT_FPS, plausible_fps
from facedet_mm.video.containers import NO_INDEX, container_kind, is_truncated
from facedet_mm.video.ffmpeg import READ_TIMEOUT, open_container, reason
from facedet_mm.video.frame import SourceInfo
from facedet_mm.video.geometry import square_pixel_size, upright
from facedet_mm.video.reader import Stamped, StampedReader

_TEXT_FORMATS = frozenset({"tty"})
"""FFmpeg formats that render any text file as a video."""
_DURATION_TOLERANCE = 0.5
"""Seconds by which the stated duration may exceed the frames of a complete file."""
_TAG_TIME = re.compile(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)")
_COPY_AGAIN = "download or copy the file again"


class VideoReader(StampedReader):
    """Reads a video file, or a stream from the network.

    Images are upright, have square pixels and the colors that the tags of the file define. Frames of another size than
    the first are fitted by :func:`~facedet_mm.video.geometry.fit`. Packets that cannot be decoded are skipped and
    reported at the end.

    Args:
        place: An existing file, or an address.
        name: Name of the video used in messages.

    Raises:
        VideoError: The video cannot be opened or contains no image that can be decoded.
    """

    def __init__(self, place: Path | str, name: str) -> None:
        self._path = place if isinstance(place, Path) else None
        self._name = name
        self._converter = VideoReformatter()
        self._decoded = self._packets = self._damaged = self._intact = 0
        self._end = 0.0
        self._failure = ""
        self._container = open_container(place, name)
        try:
            self._stream = self._pick_stream()
            self._images = self._decode()
            first = next(self._images, None)
            if first is None:
                problem = self._failure or f"it is damaged or ends too early; {_COPY_AGAIN}"
                raise VideoError(f"{name}: no frame can be decoded: {problem}")
            self.info = self._describe(first[1])
        except BaseException:
            self.close()
            raise
        self._first = [first]

    def close(self) -> None:
        """See :meth:`Reader.close <facedet_mm.video.reader.Reader.close>`."""
        self._container.close()

    def _next(self) -> Stamped | None:
        return next(self._images, None)

    def _pick_stream(self) -> Any:
        stream: Any = self._container.streams.best("video")
        if stream is None and self._path and is_truncated(self._path):
            raise VideoError(f"{self._name}: {NO_INDEX}")
        if self._container.format.name in _TEXT_FORMATS:
            raise VideoError(f"{self._name}: not a video: this is a text file")
        if stream is None:
            kinds = " and ".join(sorted({track.type for track in self._container.streams})) or "nothing"
            raise VideoError(f"{self._name}: not a video: it contains only {kinds}")
        if stream.codec_context is None:
            raise VideoError(f"{self._name}: PyAV cannot decode its codec; convert the video to H.264 first")
        stream.codec_context.thread_type = "AUTO"
        stream.codec_context.thread_count = codec_threads()
        return stream

    def _decode(self) -> Iterator[Stamped]:
        """Yields the timestamp in seconds and the image of every frame that can be decoded."""
        for packet in self._demux():
            self._packets += bool(packet and packet.size)
            if packet and packet.is_corrupt and self._path and container_kind(self._path):
                self._count_damage()  # cut off; decoding it would also lose frames that the decoder still holds
                continue
            try:
                frames = self._stream.codec_context.decode(packet)
            except av.FFmpegError:
                self._count_damage()
                continue
            for frame in frames:
                self._decoded += 1
                if frame.time is not None:
                    self._end = max(self._end, frame.time + float((frame.duration or 0) * (frame.time_base or 0)))
                yield frame.time, self._convert(frame)

    def _count_damage(self) -> None:
        if not self._damaged:
            self._intact = self._decoded
        self._damaged += 1

    def _demux(self) -> Iterator[Any]:
        """Yields packets; the last is ``None`` or empty, which makes the decoder return the frames it still holds."""
        try:
            yield from self._container.demux(self._stream)
        except av.error.ExitError:
            self._failure = f"nothing was received for {READ_TIMEOUT:.0f} seconds"
            yield None
        except (av.FFmpegError, OSError) as error:
            self._failure = reason(error)
            yield None

    def _convert(self, frame: Any) -> NDArray[np.uint8]:
        width, height = square_pixel_size(frame.width, frame.height, self._stream.sample_aspect_ratio)
        # More threads slow the conversion down.
        image: Any = self._converter.reformat(frame, width, height, "bgr24", threads=1).to_ndarray()
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
        """Returns the seconds of video that the file states, not those that FFmpeg guesses."""
        stream = self._stream
        if stream.duration is not None:
            return float(stream.duration * stream.time_base)
        if tag := _TAG_TIME.fullmatch(stream.metadata.get("DURATION", "").rstrip("0")):
            hours, minutes, seconds = map(float, tag.groups())
            return 3600 * hours + 60 * minutes + seconds - self._start()
        return None

    def _start(self) -> float:
        return float((self._stream.start_time or 0) * self._stream.time_base)

    def _problem(self, number: int) -> str | None:
        if self._failure:
            return f"ends early, after frame {number}: {self._failure}"
        if self._path and is_truncated(self._path):
            return f"ends early, after frame {number}: the rest of the file is missing; {_COPY_AGAIN}"
        if self._damaged:
            return (
                f"damaged after frame {self._intact}: {self._damaged} frames are lost, {number} could be decoded; "
                f"{_COPY_AGAIN}"
            )
        container = self._container
        kind = next((kind for kind in ("mp4", "matroska", "avi") if kind in container.format.name.split(",")), None)
        if kind == "avi" and self._packets < self._stream.frames:
            lost = self._stream.frames - self._packets
            return f"damaged: {lost} of {self._stream.frames} frames are lost; {_COPY_AGAIN}"
        stated, found = self._stated_duration(), self._end - self._start()
        if stated is None and not self._path and container.duration is not None and not container.streams.audio:
            stated = container.duration / av.time_base  # with sound it may be the duration of the sound
        if kind in ("mp4", "matroska") and stated and stated - found > max(_DURATION_TOLERANCE, 3 / self.info.fps):
            where = "file is damaged there" if self._path else "connection was lost or the file is damaged there"
            return f"ends early, after frame {number}, at {found:.1f} of {stated:.1f} seconds: the {where}"
        return None


def _display_matrix(frame: Any) -> Any:
    try:
        return frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # side data of a kind that this version of PyAV does not know, such as EXIF
        return None
