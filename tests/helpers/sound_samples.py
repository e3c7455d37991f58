"""Small videos with sound, whose images flash and whose sound clicks at the same moments."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.video.frame import PictureType
from numpy.typing import NDArray

RATE = 48_000
FPS = 25
PERIOD = 10
"""Frames from one flash to the next."""


def write_flashes(
    path: Path,
    seconds: float = 4.0,
    codecs: Sequence[str] = ("aac",),
    languages: Sequence[str] = (),
    codec: str = "libx264",
    container: str | None = None,
    gop: int = 25,
    start: float = 0.0,
    tags: dict[str, str] | None = None,
    chapters: Sequence[dict[str, Any]] = (),
    **options: Any,
) -> Path:
    """Writes a video that is white for a frame, and clicks, every 0.4 seconds.

    Args:
        path: File to write.
        seconds: Duration.
        codecs: Codec of each sound track.
        languages: Language of each sound track.
        codec: Codec of the images.
        container: FFmpeg's name of the container, if the suffix does not say.
        gop: Frames from one key frame to the next.
        start: Timestamp of the first frame, in seconds.
        tags: Metadata of the file.
        chapters: As PyAV takes them.
        **options: More arguments of ``av.open``.
    """
    with av.open(str(path), "w", format=container, **options) as out:
        video = out.add_stream(codec, rate=FPS, options={"bf": "0", "sc_threshold": "0"} if codec == "libx264" else {})
        video.width, video.height, video.pix_fmt, video.gop_size = 64, 48, "yuv420p", gop
        tracks = [out.add_stream(name, rate=RATE, layout="mono") for name in codecs]
        for track, language in zip(tracks, languages, strict=False):
            track.metadata["language"] = language
        out.metadata.update(tags or {})
        if chapters:
            out.set_chapters(list(chapters))
        packets = []
        for number in range(round(seconds * FPS)):
            level = 20 if number % PERIOD else 235
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level, np.uint8), format="bgr24")
            frame.pts, frame.time_base = round((start + number / FPS) * 90_000), Fraction(1, 90_000)
            if codec == "libx264" and number % gop == 0:
                frame.pict_type = PictureType.I
            packets += video.encode(frame)
        packets += video.encode()
        for track in tracks:
            packets += _clicks(track, seconds, start)
        for packet in sorted(packets, key=lambda packet: float(packet.dts * packet.time_base)):
            out.mux(packet)
    return path


def _clicks(track: Any, seconds: float, start: float) -> list[Any]:
    wave = np.zeros(round(seconds * RATE), np.float32)
    for begin in range(0, len(wave), PERIOD * RATE // FPS):
        wave[begin : begin + 960] = 0.9 * np.sin(np.arange(960) * 0.3)[: len(wave) - begin]
    resampler = av.AudioResampler(format=track.codec_context.format, layout="mono", rate=RATE)
    packets, size = [], track.codec_context.frame_size or 1024
    for i in range(0, len(wave), size):
        frame = av.AudioFrame.from_ndarray(wave[None, i : i + size], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, round(start * RATE) + i, Fraction(1, RATE)
        for ready in resampler.resample(frame):
            packets += track.encode(ready)
    return packets + track.encode()


def flashes(path: Path) -> NDArray[np.float64]:
    """Returns the times of the white frames, in seconds since the first frame."""
    with av.open(str(path)) as container:
        frames = [(frame.time, frame.to_ndarray(format="gray").mean()) for frame in container.decode(video=0)]
    return np.array([time - frames[0][0] for time, level in frames if level > 128])


def clicks(path: Path, track: int = 0) -> NDArray[np.float64]:
    """Returns the times at which the clicks of a sound track begin, in seconds since the first frame."""
    with av.open(str(path)) as container:
        first = next(container.decode(video=0)).time
    starts: list[float] = []
    last = -1.0
    with av.open(str(path)) as container:
        for frame in container.decode(audio=track):
            wave = np.abs(frame.to_ndarray().astype(np.float64)).reshape(-1)
            wave /= 32768 if frame.format.name.startswith("s16") else 1
            for position in (wave > 0.3).nonzero()[0]:
                moment = frame.time + position / frame.sample_rate - first
                if moment - last > 0.1:
                    starts.append(moment)
                last = moment
    return np.array(starts)
