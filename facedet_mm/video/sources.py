"""``open_source``: frames of files, folders, cameras, streams and standard input."""

from __future__ import annotations

import glob
import os
import re
import sys
from pathlib import Path

from facedet_mm.errors import VideoError
from facedet_mm.io.images import is_image_file
from facedet_mm.video.camera_reader import CameraReader
from facedet_mm.video.clock import DEFAULT_FPS, MAX_FPS, plausible_fps
from facedet_mm.video.images_reader import ImagesReader
from facedet_mm.video.live import LiveSource
from facedet_mm.video.raw_reader import RawReader
from facedet_mm.video.reader import Source
from facedet_mm.video.video_reader import VideoReader

_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://")
_USER = re.compile(r"(?<=://)(?:[^/]*:.*@|[^/]*@)", re.DOTALL)
"""User and password in an address; the password may have a slash or an at sign."""
_KEY = re.compile(
    r"(?<=[?&;/])([\w.-]*(?:user|login|pass|pwd|token|key|secret|auth|sig|cred)[\w.-]*=)[^&;]*", re.IGNORECASE
)
"""User, password or key among the parameters of an address."""


def open_source(
    spec: str | os.PathLike[str] | int, *, size: tuple[int, int] | None = None, fps: float | None = None
) -> Source:
    """Opens a video of any kind.

    Args:
        spec: A video file, a folder or pattern of images, the number of a camera, an address (``rtsp://``,
            ``http://``, …), or ``'-'`` for raw BGR frames on standard input.
        size: (width, height) of raw frames, or the size to request from a camera.
        fps: Frames per second of raw frames and images (default: 25), or the rate to request from a camera.

    Raises:
        VideoError: The input is missing, not a video, damaged, or cannot be reached.

    Example:
        >>> from facedet_mm.zoo import asset_path
        >>> with open_source(asset_path("four_people.mp4")) as source:
        ...     times = [round(frame.time, 3) for frame in source]
        >>> source.info.total_frames, times[:3]
        (150, [0.0, 0.033, 0.067])
    """
    name = os.fspath(spec) if not isinstance(spec, int) else str(spec)
    if not name:
        raise VideoError("the name of the input is empty; give a file, folder, camera number or address")
    if fps is not None and plausible_fps(fps) is None:
        raise VideoError(f"the frame rate must be above 0 and at most {MAX_FPS:g} frames per second, not {fps:g}")
    if name == "-":
        if size is None:
            raise VideoError("raw frames on standard input need their size: --raw-size WxH")
        return Source(RawReader(sys.stdin.buffer, size, fps or DEFAULT_FPS))
    if name.isdecimal() and not Path(name).exists():
        return LiveSource(CameraReader(int(name), f"camera {name}", size, fps))
    if _ADDRESS.match(name):
        return _open_stream(name)
    try:
        return _open_files(Path(name), name, fps or DEFAULT_FPS)
    except OSError as error:
        raise VideoError(f"{name}: cannot be read: {error.strerror or error}") from error


def public_name(address: str) -> str:
    """Returns an address without user, password and keys, as it may appear in messages.

    Example:
        >>> public_name("rtsp://admin:p@ss/word@camera:554/live?channel=1&token=abc")
        'rtsp://camera:554/live?channel=1&token=***'
    """
    return _KEY.sub(r"\1***", _USER.sub("", address))


def _open_stream(address: str) -> Source:
    name = public_name(address)
    reader = VideoReader(address, name)
    return LiveSource(reader, lambda: VideoReader(address, name)) if reader.info.live else Source(reader)


def _open_files(path: Path, name: str, fps: float) -> Source:
    if path.is_dir():
        files = [file for file in path.iterdir() if is_image_file(file)]
        if not files:
            raise VideoError(f"{path}: no images in this folder")
        return Source(ImagesReader(files, name, fps))
    if not path.exists():
        if not glob.has_magic(name):
            raise VideoError(f"{path}: no such file")
        files = [Path(match) for match in glob.glob(name) if os.path.isfile(match) or not os.path.exists(match)]
        if not files:
            raise VideoError(f"{path}: no file matches this pattern")
        return Source(ImagesReader(files, name, fps))
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: empty file (0 bytes)")
    return Source(VideoReader(path, name))
