"""``AVSink``: a video with sound, by PyAV."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from facedet_mm.errors import VideoError
from facedet_mm.structures import Faces
from facedet_mm.system.machine import codec_threads
from facedet_mm.video.frame import Frame, SourceInfo
from facedet_mm.video.writers import FileSink

_CLOCK = Fraction(1, 90_000)
"""Seconds of a tick of the time stamps: fine enough for all rates, as in broadcasting."""
_KEYFRAME_EVERY = 2
"""Seconds between two images that need no other: players jump to them, and fragments end there."""
_FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
_CLUSTERS = {"cluster_time_limit": "1000"}
_PIECES = {"mp4": _FRAGMENTS, "mov": _FRAGMENTS, "matroska": _CLUSTERS, "webm": _CLUSTERS}
"""Written in pieces, each for a second or so, a file can be played up to where writing stopped."""
_TRIAL = 8
"""Packets of sound by which it shows whether a container takes them."""
_FORMATS = {".mkv": "matroska", ".m4v": "mp4"}
_CODECS = {".webm": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "crf": "32", "b": "0"})}
_H264 = ("libx264", {"preset": "ultrafast", "crf": "20", "bf": "0"})


class AVSink(FileSink):
    """H.264 (VP9 in ``.webm``) with the time stamps of the frames and the sound of the source.

    An AVI has a constant rate; elsewhere a varying one is kept. H.264 needs even sides: an odd one gets one more row
    or column, a copy of the last. Sound is copied as it is where the container takes its codec, up to the last frame.

    Attributes:
        note: what the file lacks of its source; empty if nothing.

    Args:
        path: what to write.
        info: of the video.

    Raises:
        VideoError: it can't be written.
    """

    def __init__(self, path: Path, info: SourceInfo) -> None:
        super().__init__(path)
        suffix = path.suffix.lower()
        codec, options = _CODECS.get(suffix, _H264)
        self._input: Any = None
        self._sound: Iterator[Any] = iter(())
        self._next: Any = None
        self._failed = False
        self.note = ""
        try:
            self._disk = _Disk(self.temporary)
            container = _FORMATS.get(suffix, suffix[1:])
            pieces = _PIECES.get(container, {})
            sound = info.audio is not None and _takes(container, pieces, info.audio)
            self._output: Any = av.open(self._disk, "w", format=container, options=pieces)
            rate = Fraction(info.fps).limit_denominator(1001)
            video: Any = self._output.add_stream(codec, rate=rate, options=options)
            video.width, video.height = info.width + info.width % 2, info.height + info.height % 2
            video.pix_fmt = "yuv420p"
            video.gop_size = round(_KEYFRAME_EVERY * info.fps)
            self._clock = 1 / rate if suffix == ".avi" else _CLOCK
            video.codec_context.time_base = video.time_base = self._clock
            video.codec_context.colorspace, video.codec_context.color_range = Colorspace.SMPTE170M, ColorRange.MPEG
            video.codec_context.thread_count = codec_threads()
            self._ticks = -1
            self._video = video
            if info.audio and sound:
                self._open_sound(info.audio)
            elif info.audio:
                self.note = f"{path}: without the sound, which {suffix} does not take as it is; .mkv takes most"
        except (av.FFmpegError, OSError, ValueError) as error:
            self.abort()
            raise VideoError(f"cannot write {path}: {_reason(error)}") from error

    def write(self, frame: Frame, faces: Faces, drawn: NDArray[np.uint8]) -> None:  # noqa: ARG002
        """See :meth:`Sink.write <facedet_mm.video.writers.Sink.write>`."""
        height, width = drawn.shape[:2]
        if height % 2 or width % 2:
            drawn = np.asarray(cv2.copyMakeBorder(drawn, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE), np.uint8)
        # OpenCV rounds where FFmpeg's conversion makes everything three levels darker.
        planes: Any = cv2.cvtColor(drawn, cv2.COLOR_BGR2YUV_I420)
        image = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        image.colorspace, image.color_range = Colorspace.SMPTE170M, ColorRange.MPEG
        self._ticks = max(self._ticks + 1, round(frame.time / self._clock))
        image.pts, image.time_base = self._ticks, self._clock
        self._put(lambda: self._output.mux(self._video.encode(image)))
        self._put(lambda: self._copy_sound(frame.time))

    def _put(self, work: Any) -> None:
        try:
            work()
            if self._disk.error:
                raise self._disk.error
        except (av.FFmpegError, OSError) as error:
            self._failed = True
            raise VideoError(f"cannot write {self.path}: {_reason(error)}") from error

    def _open_sound(self, path: Path) -> None:
        self._input = av.open(str(path))
        source, images = self._input.streams.audio[0], self._input.streams.best("video")
        self._track: Any = self._output.add_stream_from_template(source)
        first = images.start_time if images is not None else None
        self._start = float(first * images.time_base if first is not None else 0)
        self._sound = (packet for packet in self._input.demux(source) if packet.pts is not None)
        self._next = next(self._sound, None)

    def _copy_sound(self, until: float) -> None:
        while self._next is not None and float(self._next.pts * self._next.time_base) - self._start <= until:
            packet, self._next = self._next, next(self._sound, None)
            shift = round(self._start / packet.time_base)
            packet.pts -= shift
            packet.dts = None if packet.dts is None else packet.dts - shift
            if packet.pts >= 0:
                packet.stream = self._track
                self._output.mux(packet)

    def _finish(self) -> None:
        output, self._output = getattr(self, "_output", None), None
        try:
            if output is not None:
                if not self._failed:
                    output.mux(self._video.encode())
                output.close()
                if self._disk.error:
                    raise self._disk.error
        except (av.FFmpegError, OSError) as error:
            if not self._failed:
                raise VideoError(f"cannot write {self.path}: {_reason(error)}") from error
        finally:
            if self._input is not None:
                self._input.close()
            if hasattr(self, "_disk"):
                self._disk.close()


def _takes(container: str, options: dict[str, str], path: Path) -> bool:
    """Whether a container takes the sound of a file as it is: FFmpeg knows only when it has written some."""
    with av.open(str(path)) as source, av.open(io.BytesIO(), "w", format=container, options=options) as trial:
        try:
            track = trial.add_stream_from_template(source.streams.audio[0])
            for packet in itertools.islice(
                (p for p in source.demux(source.streams.audio[0]) if p.pts is not None), _TRIAL
            ):
                packet.stream = track
                trial.mux(packet)
        except (av.FFmpegError, ValueError):
            return False
    return True


class _Disk:
    """The file that FFmpeg writes; it would find out at the end only that the disk is full.

    Attributes:
        error: why nothing more is written since.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Writes ``data``; after an error, pretends to."""
        rest = memoryview(data)
        try:
            while rest and not self.error:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self.error = error
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        """See :meth:`io.IOBase.seek`."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """See :meth:`io.IOBase.tell`."""
        return self._file.tell()

    def seekable(self) -> bool:
        """True: the container's header is completed at the end."""
        return True

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
