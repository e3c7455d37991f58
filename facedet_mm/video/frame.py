"""A frame of a video, and the facts known about the video as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a video.

    Attributes:
        image: (H, W, 3) uint8, BGR, upright.
        number: Frame number, counted from 1.
        time: Seconds since the first frame.
    """

    image: NDArray[np.uint8]
    number: int
    time: float


@dataclass(frozen=True)
class SourceInfo:
    """The facts known about a video before its first frame is read.

    Attributes:
        name: Name of the video used in messages.
        width: Frame width in pixels, after rotation and scaling.
        height: Frame height in pixels, after rotation and scaling.
        fps: Frames per second; the average if the frame rate varies.
        total_frames: Number of frames according to the file; ``None`` if it does not say or the stream is endless.
        live: Whether frames arrive in real time, so that a slow reader misses some.
        audio: File that contains the sound of the video; ``None`` without sound.
    """

    name: str
    width: int
    height: int
    fps: float
    total_frames: int | None = None
    live: bool = False
    audio: Path | None = None
