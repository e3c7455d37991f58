"""``VideoSink``: a video file with sound, through PyAV."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
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
from facedet_mm.video.audio import AudioCopy
from facedet_mm.video.colors import yuv420
from facedet_mm.video.ffmpeg import TAG_ERRORS, reason
from facedet_mm.video.frame import Frame, SourceInfo
from facedet_mm.video.sink import FileSink
from facedet_mm.video.tags import write_tags
from facedet_mm.video.unbuffered_file import UnbufferedFile

CLOCK = Fraction(1, 90_000)
"""Seconds per tick of the timestamps: precise enough for all frame rates, as in broadcasting."""
_MAX_DENOMINATOR = 1001
_MIN_FPS = 1e-5
_NOTICED = 0.1
"""Seconds; frames of an AVI file that come later than that are told."""
_KEYFRAME_INTERVAL = 2
"""Seconds between two images that can be decoded alone: players jump to them, and fragments end there."""
_FRAGMENTED = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}
_CLUSTERED = {"cluster_time_limit": "1000"}
_CONTAINER_OPTIONS = {"mp4": _FRAGMENTED, "mov": _FRAGMENTED, "matroska": _CLUSTERED, "webm": _CLUSTERED}
"""Written in pieces of about a second, a file can be played up to where writing stopped."""
_CONTAINERS = {".mkv": "matroska", ".m4v": "mp4"}
_CODECS = {".webm": ("libvpx-vp9", {"deadline": "realtime", "cpu-used": "8", "crf": "32", "b": "0"})}
_H264 = ("libx264", {"preset": "ultrafast", "crf": "20", "bf": "0"})


class VideoSink(FileSink):
    """H.264 (VP9 in ``.webm``) with the timestamps of the frames and the sound of the source.

    A varying frame rate is kept, except in AVI files, whose rate is constant. H.264 needs even sides: an odd one gets
    one more row or column, a copy of the last. All sound tracks that the container accepts are copied up to the last
    frame, and so are title, chapters and creation time.

    Args:
        path: File to write.
        info: Facts about the video.

    Raises:
        VideoError: The file cannot be written.
    """

    def __init__(self, path: Path, info: SourceInfo) -> None:
        super().__init__(path)
        self._notes: list[str] = []
        self._failed = False
        self._output: Any = None
        self._audio: AudioCopy | None = None
        self._files = ExitStack()
        try:
            self._open(path.suffix.lower(), info)
        except (av.FFmpegError, OSError, ValueError) as error:
            self._failed = True
            self.abort()
            raise VideoError(f"cannot write {path}: {reason(error)}") from error

    @property
    def note(self) -> str:
        """What the file lacks of its source; empty if nothing, complete after :meth:`close`."""
        return "; ".join(self._notes)

    def _open(self, suffix: str, info: SourceInfo) -> None:
        self._file = UnbufferedFile(self.temporary)
        self._files.callback(self._file.close)
        container = _CONTAINERS.get(suffix, suffix[1:])
        options = _CONTAINER_OPTIONS.get(container, {})
        self._audio = self._open_audio(container, options, info)
        options = self._audio.options if self._audio else options
        self._output = av.open(self._file, "w", format=container, options=options, metadata_errors=TAG_ERRORS)
        self._add_video(suffix, info)
        if self._audio:
            self._audio.attach(self._output)
        write_tags(self._output, info.tags, info.chapters)
        lost = list(info.left_out)
        if suffix == ".avi":
            lost += ["the chapters"] * bool(info.chapters) + ["the creation time"] * ("creation_time" in info.tags)
        if lost:
            self._notes.append(f"{self.path} lacks {', '.join(lost)} of the input")

    def _open_audio(self, container: str, options: dict[str, str], info: SourceInfo) -> AudioCopy | None:
        if not info.audio:
            return None
        try:
            audio = AudioCopy(info.audio, info.name, container, options, info.recordings)
        except VideoError as error:
            self._notes.append(f"{self.path} has no sound: {error}")
            return None
        self._files.callback(audio.close)
        if audio.refused:
            which = f"only {audio.accepted} of the input's sound tracks" if audio.accepted else "no sound"
            others = "the others" if audio.accepted else "the input's"
            self._notes.append(
                f"{self.path} has {which}: {self.path.suffix} files cannot contain {others}; use .mkv to keep it"
            )
        return audio

    def _add_video(self, suffix: str, info: SourceInfo) -> None:
        codec, options = _CODECS.get(suffix, _H264)
        rate = _rational(info.fps)
        video: Any = self._output.add_stream(codec, rate=rate, options=options)
        video.width, video.height = info.width + info.width % 2, info.height + info.height % 2
        video.pix_fmt = "yuv420p"
        video.gop_size = max(1, round(_KEYFRAME_INTERVAL * info.fps))
        self._clock = 1 / rate if suffix == ".avi" else CLOCK
        video.codec_context.time_base = video.time_base = self._clock
        video.codec_context.colorspace, video.codec_context.color_range = Colorspace.SMPTE170M, ColorRange.MPEG
        video.codec_context.thread_count = codec_threads()
        self._ticks, self._delay = -1, 0.0
        self._video = video

    def write(self, frame: Frame, faces: Faces, drawn: NDArray[np.uint8]) -> None:  # noqa: ARG002
        """See :meth:`Sink.write <facedet_mm.video.sink.Sink.write>`."""
        height, width = drawn.shape[:2]
        if height % 2 or width % 2:
            drawn = np.asarray(cv2.copyMakeBorder(drawn, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE), np.uint8)
        planes: Any = yuv420(drawn)
        image = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        image.colorspace, image.color_range = Colorspace.SMPTE170M, ColorRange.MPEG
        self._ticks = max(self._ticks + 1, round(frame.time / self._clock))
        self._delay = max(self._delay, float(self._ticks * self._clock) - frame.time)
        image.pts, image.time_base = self._ticks, self._clock
        self._attempt(lambda: self._output.mux(self._video.encode(image)))
        if audio := self._audio:
            self._attempt(lambda: audio.copy(until=frame.time))

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
            if self._file.error:
                raise self._file.error
        except (av.FFmpegError, OSError) as error:
            self._failed = True
            raise VideoError(f"cannot write {self.path}: {reason(error)}") from error

    def _finish(self) -> None:
        output, self._output = self._output, None
        with self._files:
            if output is None:
                return
            try:
                if not self._failed:
                    output.mux(self._video.encode())
                    self._finish_audio()
                    if self._delay > _NOTICED:
                        self._notes.append(
                            f"{self.path} shows frames up to {self._delay:.2f} s late, because .avi files have a "
                            "constant rate; use .mkv to keep the times"
                        )
                output.close()
                if self._file.error:
                    raise self._file.error
            except (av.FFmpegError, OSError) as error:
                if not self._failed:
                    raise VideoError(f"cannot write {self.path}: {reason(error)}") from error

    def _finish_audio(self) -> None:
        if self._audio:
            self._audio.finish()
            if lost := self._audio.lost:
                self._notes.append(f"{self.path} lacks {lost} packets of the input's sound, which are damaged")


def _rational(fps: float) -> Fraction:
    """Returns the frame rate with numbers that containers can hold, also if it is one frame in hours."""
    if fps >= 1:
        return Fraction(fps).limit_denominator(_MAX_DENOMINATOR)
    return 1 / Fraction(1 / max(fps, _MIN_FPS)).limit_denominator(_MAX_DENOMINATOR)
