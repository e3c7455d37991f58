"""Opens files and streams with FFmpeg (PyAV), and turns its errors into messages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av

from facedet_mm.errors import VideoError
from facedet_mm.video.containers import NO_INDEX, container_kind, is_truncated

OPEN_TIMEOUT, READ_TIMEOUT = 5.0, 10.0
"""Seconds; the second also covers FFmpeg's own reconnecting, which it tries where a server can resume a file."""
_OPTIONS = {"rtsp": {"rtsp_transport": "tcp"}, "http": {"reconnect": "1"}, "https": {"reconnect": "1"}}

TAG_ERRORS = "surrogateescape"
"""How bytes of a title or another tag are read that are not UTF-8; see :func:`~facedet_mm.video.tags.tag_text`."""


def open_container(place: Path | str, name: str) -> Any:
    """Opens a file, or a stream from the network.

    Args:
        place: An existing file, or an address.
        name: Name of the video used in messages.

    Raises:
        VideoError: It cannot be opened.
    """
    try:
        if isinstance(place, Path):
            # without the prefix, FFmpeg would take a colon for the end of a protocol
            return av.open(f"file:{place}", metadata_errors=TAG_ERRORS)
        protocol = place.partition("://")[0].lower()
        return av.open(
            place,
            options=_OPTIONS.get(protocol, {}),
            timeout=(OPEN_TIMEOUT, READ_TIMEOUT),
            metadata_errors=TAG_ERRORS,
        )
    except (av.FFmpegError, OSError) as error:
        problem = _file_problem(place, error) if isinstance(place, Path) else _stream_problem(error)
        raise VideoError(f"{name}: {problem}") from error


def reason(error: Exception) -> str:
    """Returns FFmpeg's or the operating system's description of an error."""
    return getattr(error, "strerror", None) or str(error)


def _file_problem(path: Path, error: Exception) -> str:
    try:
        truncated, kind = is_truncated(path), container_kind(path)
    except OSError as failure:
        return f"cannot be read: {reason(failure)}"
    if truncated:
        return NO_INDEX
    if kind is None:
        return "not a video: FFmpeg does not recognize its format"
    return f"this {kind} file is damaged ({reason(error)}); download or copy it again"


def _stream_problem(error: Exception) -> str:
    timeout = isinstance(error, av.error.ExitError)
    why = f"no answer within {OPEN_TIMEOUT:.0f} seconds" if timeout else reason(error)
    return f"cannot be opened: {why}; check the address, the network, and the user and password if it needs them"
