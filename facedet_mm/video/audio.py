"""``AudioCopy``: copies the sound of a video to another file without decoding it."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import chain
from pathlib import Path
from typing import Any

import av
from av.bitstream import BitStreamFilterContext

from facedet_mm.video.clock import Recording
from facedet_mm.video.ffmpeg import open_container
from facedet_mm.video.sound_clock import SoundClock

_TRIAL_PACKETS = 8
"""Number of packets of a track that show whether a container accepts it."""
_MAX_PACKETS_READ = 4096
"""Number of packets of all tracks among which those for the trial are looked for."""
_DELAYED_HEADER = "+delay_moov"
"""For an MP4 header that can only be written after the first packets, from which it takes the settings of the codec."""
_CODECS_WITHOUT_SETTINGS = frozenset({"ac3", "eac3"})


class AudioCopy:
    """Copies the sound tracks of a video, so that they stay in sync with its images.

    Args:
        place: File or address to copy from.
        name: Name of the video used in messages.
        container: FFmpeg's name of the container to copy to.
        options: Options of the container to copy to.
        recordings: The parts of the video that the reader of its images finds, which may grow meanwhile; ``None``
            stands for a video whose first image is the first in the file.

    Attributes:
        options: Options that the container needs for this sound.
        accepted: Number of tracks that the container can hold.
        refused: Number of other tracks.
        lost: Number of packets that could not be copied.

    Raises:
        VideoError: The sound cannot be opened.
    """

    def __init__(
        self,
        place: Path | str,
        name: str,
        container: str,
        options: dict[str, str],
        recordings: Sequence[Recording] | None = None,
    ) -> None:
        self.lost = 0
        self._files = ExitStack()
        self._input: Any = self._files.enter_context(open_container(place, name))
        try:
            streams = list(self._input.streams.audio)
            peeked = _first_packets(self._input, streams)
            trials = {
                stream.index: [packet for packet in peeked if packet.stream.index == stream.index] for stream in streams
            }
            self.options = options
            if "movflags" in options and any(_needs_delay(stream) for stream in streams):
                self.options = {**options, "movflags": options["movflags"] + _DELAYED_HEADER}
            accepted = [stream for stream in streams if _accepts(container, self.options, stream, trials[stream.index])]
            recordings = _whole_file(self._input) if recordings is None else recordings
        except BaseException:
            self._files.close()
            raise
        self.accepted, self.refused = len(accepted), len(streams) - len(accepted)
        self._tracks = {stream.index: _Track(stream, SoundClock(recordings)) for stream in accepted}
        self._packets = (
            packet
            for packet in chain(peeked, _timed_packets(self._input, accepted))
            if packet.stream.index in self._tracks
        )
        self._waiting: Any = None

    def attach(self, output: Any) -> None:
        """Adds the tracks to the container to copy to, a PyAV container."""
        for track in self._tracks.values():
            track.attach(output)
        self._output = output

    def copy(self, until: float) -> None:
        """Copies the packets up to ``until``, in seconds since the first image.

        Raises:
            OSError: The output cannot be written.
        """
        while packet := self._next():
            track = self._tracks[packet.stream.index]
            moment = track.clock(float(packet.pts * packet.time_base), until)
            if moment is None or moment > until:
                self._waiting = packet
                return
            self._mux(track, packet, moment)

    def finish(self) -> None:
        """Gives every track at least one packet, without which some containers cannot describe it."""
        packet = self._waiting
        while packet is not None and any(track.empty for track in self._tracks.values()):
            track = self._tracks[packet.stream.index]
            if track.empty:
                self._mux(track, packet, max(0.0, track.clock(float(packet.pts * packet.time_base), float("inf")) or 0))
            packet = self._next()

    def close(self) -> None:
        """Closes the file that is copied from."""
        self._files.close()

    def _next(self) -> Any:
        packet, self._waiting = self._waiting, None
        return next(self._packets, None) if packet is None else packet

    def _mux(self, track: _Track, packet: Any, moment: float) -> None:
        if moment < 0:
            return
        try:
            for ready in track.prepared(packet, moment):
                self._output.mux(ready)
        except av.FFmpegError:
            self.lost += 1  # damaged sound is left out; a full disk shows at the file itself


class _Track:
    """A sound track and its copy.

    Args:
        source: PyAV stream to copy from.
        clock: Clock of the track.

    Attributes:
        empty: Whether nothing has been copied so far.
    """

    def __init__(self, source: Any, clock: SoundClock) -> None:
        self.clock = clock
        self.empty = True
        self._source = source
        self._last: int | None = None
        self._filter = _adts_filter(source)

    def attach(self, output: Any) -> None:
        self._copy = output.add_stream_from_template(self._source)
        for name in ("language", "title"):
            if text := self._source.metadata.get(name):
                self._copy.metadata[name] = text
        self._copy.disposition = self._source.disposition

    def prepared(self, packet: Any, moment: float) -> Iterator[Any]:
        """Yields the packets to write for one that belongs to ``moment``, in seconds since the first image."""
        shift = round(moment / packet.time_base) - packet.pts
        packet.pts += shift
        packet.dts = packet.pts if packet.dts is None else packet.dts + shift
        if self._last is not None and packet.dts <= self._last:
            return  # the parts of a joined video overlap
        self._last = packet.dts
        for ready in [packet] if self._filter is None else self._filter.filter(packet):
            ready.stream = self._copy
            yield ready
            self.empty = False


def _adts_filter(stream: Any) -> Any:
    """Returns the filter for AAC as in MPEG-TS, whose packets carry the settings that other containers state once."""
    adts = stream.codec_context.name == "aac" and not stream.codec_context.extradata
    return BitStreamFilterContext("aac_adtstoasc", stream) if adts else None


def _needs_delay(stream: Any) -> bool:
    codec = stream.codec_context
    return codec is not None and (
        codec.name in _CODECS_WITHOUT_SETTINGS or (codec.name == "aac" and not codec.extradata)
    )


def _first_packets(container: Any, streams: list[Any]) -> list[Any]:
    """Returns the first packets of the file, enough of every track for a trial, and no more than a bound."""
    wanted = {stream.index: _TRIAL_PACKETS for stream in streams}
    packets: list[Any] = []
    for packet in _timed_packets(container, streams):
        packets.append(packet)
        wanted[packet.stream.index] -= 1
        if max(wanted.values()) <= 0 or len(packets) >= _MAX_PACKETS_READ:
            break
    return packets


def _accepts(container: str, options: dict[str, str], stream: Any, packets: list[Any]) -> bool:
    """Returns whether a container accepts a track; FFmpeg only knows after writing some of it."""
    if stream.codec_context is None:
        return False
    try:
        with av.open(io.BytesIO(), "w", format=container, options=options) as trial:
            track = _Track(stream, SoundClock(()))
            track.attach(trial)
            for packet in packets:
                for ready in track.prepared(_copied(packet), float(packet.pts * packet.time_base)):
                    trial.mux(ready)
            trial.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    return True


def _copied(packet: Any) -> Any:
    copy: Any = av.Packet(bytes(packet))
    copy.pts, copy.dts, copy.time_base, copy.duration = packet.pts, packet.dts, packet.time_base, packet.duration
    copy.is_keyframe = True
    return copy


def _timed_packets(container: Any, streams: list[Any]) -> Iterator[Any]:
    """Yields the packets of the tracks that have a timestamp, up to where the file can't be read any further."""
    try:
        yield from (packet for packet in container.demux(streams) if packet.pts is not None and packet.size)
    except (av.FFmpegError, OSError):
        return


def _whole_file(container: Any) -> list[Recording]:
    images = container.streams.best("video")
    first = images.start_time if images is not None else None
    start = float(first * images.time_base if first is not None else 0)
    return [Recording(start, -start)]
