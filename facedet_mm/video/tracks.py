"""The tracks of an open file or stream: which one has the images, and which a written video lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av

from facedet_mm.errors import VideoError
from facedet_mm.system.machine import codec_threads
from facedet_mm.video.containers import NO_INDEX, is_truncated
from facedet_mm.video.geometry import MAX_PIXELS

_TEXT_FORMATS = frozenset({"tty"})
"""FFmpeg formats that render any text file as a video."""
_STILL = av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails


def open_images(container: Any, name: str, path: Path | None) -> Any:
    """Returns the track with the images, ready for decoding.

    Args:
        container: PyAV container.
        name: Name of the video used in messages.
        path: The file; ``None`` for an address.

    Raises:
        VideoError: There is no such track, or it cannot be decoded.
    """
    tracks = [track for track in container.streams.video if not _is_picture(track)]
    best: Any = container.streams.best("video")
    stream: Any = best if best in tracks else next(iter(tracks), None)
    if stream is None and path and is_truncated(path):
        raise VideoError(f"{name}: {NO_INDEX}")
    if container.format.name in _TEXT_FORMATS:
        raise VideoError(f"{name}: not a video: this is a text file")
    if stream is None:
        kinds = sorted({"a cover picture" if _is_picture(track) else track.type for track in container.streams})
        raise VideoError(f"{name}: not a video: it contains only {' and '.join(kinds[::-1]) or 'nothing'}")
    codec = stream.codec_context
    if codec is None:
        raise VideoError(f"{name}: PyAV cannot decode its codec; convert the video to H.264 first")
    if codec.width * codec.height > MAX_PIXELS:
        size = f"{codec.width} x {codec.height} pixels, more than {MAX_PIXELS // 10**6} million"
        raise VideoError(f"{name}: its frames have {size}; scale the video down first")
    codec.options = {"max_pixels": str(MAX_PIXELS)}
    codec.thread_type = "AUTO"
    codec.thread_count = codec_threads()
    return stream


def left_out(container: Any, images: Any, live: bool) -> tuple[str, ...]:
    """Returns descriptions of what a video written from the images and the sound of a container lacks.

    Args:
        container: PyAV container.
        images: The track with the images.
        live: Whether the container is a live stream, whose sound is not copied.
    """
    others = [track for track in container.streams.video if track is not images]
    counts = (
        ("sound track", len(container.streams.audio) if live else 0),
        ("other video track", sum(not _is_picture(track) for track in others)),
        ("cover picture", sum(map(_is_picture, others))),
        ("subtitle track", len(container.streams.subtitles)),
    )
    return tuple(f"{count} {name}{'s' if count > 1 else ''}" for name, count in counts if count)


def _is_picture(track: Any) -> bool:
    """Returns whether a video track is a cover or a preview image."""
    return bool(track.disposition & _STILL)
