"""``VideoReader``: files and streams through PyAV, with exact timestamps, upright and in the right colors."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray

from facedet_mm.errors import VideoError
from facedet_mm.video.avi import AviSlots
from facedet_mm.video.clock import DEFAULT_FPS, JOINED_MAX_GAP, MAX_GAP, Clock, plausible_fps
from facedet_mm.video.containers import container_kind, has_another_behind, is_truncated
from facedet_mm.video.ffmpeg import READ_TIMEOUT, open_container, reason
from facedet_mm.video.frame import SourceInfo
from facedet_mm.video.geometry import plausible_aspect, square_pixel_size, upright
from facedet_mm.video.reader import Stamped, StampedReader
from facedet_mm.video.tags import kept_tags, read_chapters
from facedet_mm.video.tracks import left_out, open_images

_EXACT = frozenset({"mp4", "matroska", "avi", "flv"})
"""Containers in which a packet that FFmpeg calls corrupt is cut off; in others it may only follow lost bytes."""
_DURATION_TOLERANCE = 0.5
"""Seconds by which the stated duration may exceed the frames of a complete file."""
_PLAYLISTS = frozenset({"hls", "dash"})
"""Formats whose file only lists where the video is."""
_TAG_TIME = re.compile(r"(\d{1,6}):(\d\d):(\d\d(?:\.\d+)?)")
_COPY_AGAIN = "download or copy the file again"


class VideoReader(StampedReader):
    """Reads a video file, or a stream from the network.

    Images are upright, have square pixels and the colors that the tags of the file define. Frames of another size than
    the first are fitted by :func:`~facedet_mm.video.geometry.fit`. Packets that cannot be decoded are skipped, and
    reported at the end like frames that the decoder had to complete.

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
        self._decoded = self._packets = self._lost = self._concealed = self._intact = 0
        self._end = 0.0
        self._failure = ""
        self._container = open_container(place, name)
        try:
            self._stream = open_images(self._container, name, self._path)
            avi = self._container.format.name == "avi"
            self._slots = AviSlots(self._stream, max(0, self._container.size)) if avi else None
            self._images = self._decode()
            first = next(self._images, None)
            if first is None:
                problem = self._failure or f"it is damaged or ends too early; {_COPY_AGAIN}"
                raise VideoError(f"{name}: no frame can be decoded: {problem}")
            self.info = self._describe(place, *first)
        except BaseException:
            self.close()
            raise
        self._first = [first]

    def close(self) -> None:
        """See :meth:`Reader.close <facedet_mm.video.reader.Reader.close>`."""
        self._container.close()

    def _next(self) -> Stamped | None:
        return next(self._images, None)

    def _decode(self) -> Iterator[Stamped]:
        """Yields the timestamp in seconds and the image of every frame that can be decoded."""
        image: Any = None
        for packet in self._demux():
            self._packets += bool(packet and packet.size)
            if packet and packet.is_corrupt and self._path and container_kind(self._path) in _EXACT:
                self._lost += 1  # cut off; decoding it would also lose frames that the decoder still holds
                continue
            if self._slots and packet:
                self._slots.send(packet.dts)
            try:
                frames = self._stream.codec_context.decode(packet)
            except av.FFmpegError:
                self._lost += 1
                if self._slots and packet:
                    self._slots.fail(packet.dts)
                continue
            for frame in frames:
                again, stamp = self._stamps(frame)
                yield from ((moment, image) for moment in again)
                self._count(frame, stamp)
                image = self._convert(frame)
                yield stamp, image
        if self._slots and not self._failure and not self._is_cut():
            yield from ((self._seconds(slot), image) for slot in self._slots.rest())

    def _stamps(self, frame: Any) -> tuple[Iterator[float], float | None]:
        """Returns the timestamps at which the frame before is shown again, and that of the frame."""
        if self._slots is None:
            return iter(()), frame.time
        again, slot = self._slots.receive()
        return map(self._seconds, again), self._seconds(slot)

    def _seconds(self, slot: int) -> float:
        return float(slot * self._stream.time_base)

    def _count(self, frame: Any, stamp: float | None) -> None:
        if frame.is_corrupt:
            self._concealed += 1
        elif not self._lost and not self._concealed:
            self._intact += 1
        if stamp is not None:
            self._end = max(self._end, stamp + float((frame.duration or 0) * (frame.time_base or 0)))

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

    def _describe(self, place: Path | str, first: float | None, image: NDArray[np.uint8]) -> SourceInfo:
        stream, container = self._stream, self._container
        fps = plausible_fps(stream.average_rate) or plausible_fps(stream.guessed_rate) or DEFAULT_FPS
        duration = self._stated_duration()
        if duration is None and container.duration is not None:
            duration = container.duration / av.time_base
        estimate = None if duration is None else max(1, round(duration * fps))
        live = self._path is None and _is_endless(container)
        joined = bool(container.format.flags & av.format.Flags.ts_discont.value)
        self._clock = Clock(fps, JOINED_MAX_GAP if joined else MAX_GAP)
        aspect = stream.sample_aspect_ratio
        strange = aspect and not plausible_aspect(stream.codec_context.width, stream.codec_context.height, aspect)
        return SourceInfo(
            self._name,
            image.shape[1],
            image.shape[0],
            fps,
            stream.frames or estimate,
            files=(self._path,) if self._path else (),
            live=live,
            audio=place if container.streams.audio and not live else None,
            recordings=self._clock.recordings,
            tags=kept_tags(container.metadata),
            chapters=read_chapters(container, first or 0.0),
            left_out=left_out(container, stream, live),
            notes=(f"the file states pixels of {aspect} times their height, which is ignored",) if strange else (),
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

    def _is_cut(self) -> bool:
        return self._file_shows(is_truncated)

    def _file_shows(self, sign: Callable[[Path], bool]) -> bool:
        try:
            return self._path is not None and sign(self._path)
        except OSError:  # the file was removed meanwhile
            return False

    def _problem(self, number: int) -> str | None:
        if self._failure:
            return f"ends early, after frame {number}: {self._failure}"
        if self._is_cut():
            return f"ends early, after frame {number}: the rest of the file is missing; {_COPY_AGAIN}"
        if self._lost or self._concealed:
            kinds = ((self._lost, "are lost"), (self._concealed, "are shown with errors"))
            counts = ", ".join(f"{count} frames {what}" for count, what in kinds if count)
            return f"damaged after frame {self._intact}: {counts}, {number} could be decoded; {_COPY_AGAIN}"
        if self._file_shows(has_another_behind):
            return f"ends after frame {number}, but a second video, joined to the file, is not read; split the file"
        container = self._container
        stating = ("mp4", "matroska", "flv")
        kind = next((kind for kind in stating if kind in container.format.name.split(",")), None)
        if self._slots and self._packets < self._slots.indexed:
            lost = self._slots.indexed - self._packets
            return f"damaged: {lost} of {self._slots.indexed} frames are lost; {_COPY_AGAIN}"
        stated, found = self._stated_duration(), self._end - self._start()
        if stated is None and not self._path and container.duration is not None and not container.streams.audio:
            stated = container.duration / av.time_base  # with sound it may be the duration of the sound
        if kind and stated and stated - found > max(_DURATION_TOLERANCE, 3 / self.info.fps):
            where = "file is damaged there" if self._path else "connection was lost or the file is damaged there"
            return f"ends early, after frame {number}, at {found:.1f} of {stated:.1f} seconds: the {where}"
        return None


def _is_endless(container: Any) -> bool:
    """Returns whether a server states neither a duration nor a size, which MPEG-TS files have though no duration."""
    return container.duration is None and (container.size <= 0 or container.format.name in _PLAYLISTS)


def _display_matrix(frame: Any) -> Any:
    try:
        return frame.side_data.get("DISPLAYMATRIX")
    except ValueError:  # side data of a kind that this version of PyAV does not know, such as EXIF
        return None
