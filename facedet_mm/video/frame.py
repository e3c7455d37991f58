"""A frame of a video, and the facts known about the video as a whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from facedet_mm.video.clock import Recording
from facedet_mm.video.tags import Chapter


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
        files: Files that are read.
        live: Whether frames arrive in real time, so that a slow reader misses some.
        audio: File or address that contains the sound of the video; ``None`` without sound.
        recordings: The parts of the video that have timestamps of their own, found while its frames are read; ``None``
            if the reader does not say.
        tags: Title, creation time and other descriptions.
        chapters: Chapters, with times as in :class:`Frame`.
        left_out: What a video written from the frames lacks, such as ``'2 subtitle tracks'``.
        notes: Peculiarities of the video that the user should know.
    """

    name: str
    width: int
    height: int
    fps: float
    total_frames: int | None = None
    files: tuple[Path, ...] = ()
    live: bool = False
    audio: Path | str | None = None
    recordings: Sequence[Recording] | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    chapters: tuple[Chapter, ...] = ()
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
