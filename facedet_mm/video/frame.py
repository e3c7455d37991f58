"""A frame of a video, and what is known of the video as a whole."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Frame:
    """One image of a video.

    Attributes:
        image: (H, W, 3) uint8, BGR, upright.
        number: from 1.
        time: seconds since the first frame.
    """

    image: NDArray[np.uint8]
    number: int
    time: float


@dataclass(frozen=True)
class SourceInfo:
    """What is known of a video before its first frame.

    Attributes:
        name: what to call it.
        width: of a frame as it comes out, in pixels.
        height: likewise.
        fps: frames a second, the average where the rate varies.
        total_frames: as far as the file says; ``None`` where it doesn't or the stream is endless.
        live: frames come when they come; a slow reader loses some.
        audio: the file whose sound belongs to the images, ``None`` without sound.
    """

    name: str
    width: int
    height: int
    fps: float
    total_frames: int | None = None
    live: bool = False
    audio: Path | None = None
