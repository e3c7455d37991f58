"""``AudioCopy``: copies the sound of a video to another file without decoding it."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av

_TRIAL_PACKETS = 8
"""Number of packets that show whether a container accepts a sound."""


class AudioCopy:
    """Copies the first sound track of a file, so that it stays in sync with the images.

    Args:
        path: File to copy from; it has a sound track.
        output: PyAV container to copy to.
    """

    def __init__(self, path: Path, output: Any) -> None:
        self._input: Any = av.open(str(path))
        self._output = output
        source = self._input.streams.audio[0]
        images: Any = self._input.streams.best("video")
        self._track: Any = output.add_stream_from_template(source)
        first = images.start_time if images is not None else None
        self._start = float(first * images.time_base if first is not None else 0)
        self._packets = _timed_packets(self._input)
        self._next = next(self._packets, None)

    def copy(self, until: float) -> None:
        """Copies the packets up to ``until``, in seconds since the first image."""
        while self._next is not None and float(self._next.pts * self._next.time_base) - self._start <= until:
            packet, self._next = self._next, next(self._packets, None)
            shift = round(self._start / packet.time_base)
            packet.pts -= shift
            packet.dts = None if packet.dts is None else packet.dts - shift
            if packet.pts >= 0:
                packet.stream = self._track
                self._output.mux(packet)

    def close(self) -> None:
        """Closes the file that is copied from."""
        self._input.close()


def accepts_audio(container: str, options: dict[str, str], path: Path) -> bool:
    """Returns whether a container accepts the sound of a file; FFmpeg only knows after writing some of it.

    Args:
        container: FFmpeg's name of the container.
        options: Options of the container.
        path: File with the sound.
    """
    with av.open(str(path)) as source, av.open(io.BytesIO(), "w", format=container, options=options) as trial:
        try:
            track = trial.add_stream_from_template(source.streams.audio[0])
            for packet in itertools.islice(_timed_packets(source), _TRIAL_PACKETS):
                packet.stream = track
                trial.mux(packet)
        except (av.FFmpegError, ValueError):
            return False
    return True


def _timed_packets(container: Any) -> Iterator[Any]:
    """Yields the packets of the first sound track that have a timestamp."""
    return (packet for packet in container.demux(container.streams.audio[0]) if packet.pts is not None)
