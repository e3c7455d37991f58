"""What a written video keeps of its source: sound in time with the images, all tracks, title, chapters."""

from __future__ import annotations

import functools
import http.server
import threading
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from sound_samples import clicks, flashes, write_flashes

from facedet_mm.structures import Faces
from facedet_mm.video.clock import Recording
from facedet_mm.video.sound_clock import SoundClock
from facedet_mm.video.sources import open_source
from facedet_mm.video.writers import open_sink

NOBODY = Faces.empty()


def copy(source: Path | str, target: Path, frames: int | None = None) -> str:
    """Reads a video and writes it again; returns the note about what the copy lacks."""
    with open_source(source) as opened:
        sink = open_sink(target, opened.info)
        for frame in opened:
            sink.write(frame, NOBODY, frame.image)
            if frame.number == frames:
                break
        sink.close()
    return sink.note


def assert_in_sync(path: Path, count: int, track: int = 0) -> None:
    """The sound clicks when the image flashes, to within a frame of the codec's delay."""
    seen, heard = flashes(path), clicks(path, track)
    assert len(seen) == count
    heard = heard[np.abs(heard[:, None] - seen).min(axis=1) < 0.2]
    assert len(heard) >= count - 1
    assert np.abs(heard[:, None] - seen).min(axis=1).max() < 0.045


def read_tags(path: Path) -> dict[str, str]:
    with av.open(str(path)) as container:
        return {name.lower(): text for name, text in container.metadata.items()}


def read_chapters(path: Path) -> list[tuple[float, float, str]]:
    with av.open(str(path)) as container:
        return [
            (float(c["start"] * c["time_base"]), float(c["end"] * c["time_base"]), c["metadata"]["title"])
            for c in container.chapters()
        ]


@pytest.mark.parametrize("target", ["out.mp4", "out.mkv", "out.mov"])
@pytest.mark.parametrize(
    ("name", "codec"), [("in.ts", "aac"), ("in.ts", "ac3"), ("in.mkv", "ac3"), ("in.mkv", "eac3"), ("in.flv", "aac")]
)
def test_sound_of_broadcasts_reaches_all_containers(tmp_path: Path, name: str, codec: str, target: str) -> None:
    source = write_flashes(tmp_path / name, codecs=[codec], container="mpegts" if name == "in.ts" else None)
    assert copy(source, tmp_path / target) == ""
    assert_in_sync(tmp_path / target, 10)
    with av.open(str(tmp_path / target)) as container:
        assert container.streams.audio[0].codec_context.name == codec
        assert codec != "aac" or container.streams.audio[0].codec_context.extradata


def test_a_copy_that_ends_before_the_sound_begins_is_whole(tmp_path: Path) -> None:
    source = tmp_path / "in.mkv"
    write_flashes(tmp_path / "images.mkv", codecs=[])
    write_flashes(tmp_path / "sound.mkv", codecs=["ac3"], start=2.0)
    with (
        av.open(str(tmp_path / "images.mkv")) as images,
        av.open(str(tmp_path / "sound.mkv")) as sound,
        av.open(str(source), "w") as out,
    ):
        tracks = [out.add_stream_from_template(s) for s in (images.streams.video[0], sound.streams.audio[0])]
        packets = [(p, tracks[0]) for p in images.demux(video=0) if p.dts is not None]
        packets += [(p, tracks[1]) for p in sound.demux(audio=0) if p.dts is not None]
        for packet, track in sorted(packets, key=lambda pair: pair[0].dts * pair[0].time_base):
            packet.stream = track
            out.mux(packet)
    copy(source, tmp_path / "out.mp4", frames=10)
    with open_source(tmp_path / "out.mp4") as copied:
        assert len(list(copied)) == 10


def test_a_recording_that_starts_between_two_key_frames_keeps_its_sound_in_time(tmp_path: Path) -> None:
    whole = write_flashes(tmp_path / "whole.ts", seconds=8, container="mpegts", gop=100).read_bytes()
    tables, begin = whole[: 3 * 188], len(whole) // 188 // 10 * 188
    (tmp_path / "in.ts").write_bytes(tables + whole[begin:])
    assert copy(tmp_path / "in.ts", tmp_path / "out.mp4") == ""
    assert_in_sync(tmp_path / "out.mp4", 10)


@pytest.mark.parametrize("starts", [(0.0, 0.0), (5000.0, 7.0), (7.0, 5000.0)])
def test_recordings_joined_in_one_stream_follow_one_another(tmp_path: Path, starts: tuple[float, float]) -> None:
    parts = [
        write_flashes(tmp_path / f"{i}.ts", container="mpegts", start=start).read_bytes()
        for i, start in enumerate(starts)
    ]
    (tmp_path / "in.ts").write_bytes(b"".join(parts))
    with open_source(tmp_path / "in.ts") as source:
        times = [frame.time for frame in source]
    assert len(times) == 200
    assert np.diff(times) == pytest.approx(0.04, abs=0.001)
    for target in ("out.mp4", "out.mkv"):
        assert copy(tmp_path / "in.ts", tmp_path / target) == ""
        assert_in_sync(tmp_path / target, 20)


def test_sound_follows_the_images_through_short_parts(tmp_path: Path) -> None:
    part = write_flashes(tmp_path / "part.ts", seconds=0.8, container="mpegts").read_bytes()
    (tmp_path / "in.ts").write_bytes(part * 3)
    assert copy(tmp_path / "in.ts", tmp_path / "out.mp4") == ""
    seen = flashes(tmp_path / "out.mp4")
    assert np.diff(seen) == pytest.approx(0.4, abs=0.001)
    assert_in_sync(tmp_path / "out.mp4", 6)


def test_the_sound_clock_waits_for_images_and_goes_on_without_them() -> None:
    recordings = [Recording(0.0, 0.0)]
    clock = SoundClock(recordings)
    assert [clock(stamp, until=9.0) for stamp in (1.0, 8.0)] == [1.0, 8.0]
    assert clock(0.5, until=9.0) is None, "the images have not started anew yet"
    recordings.append(Recording(0.0, 8.1))
    assert clock(0.5, until=9.0) == pytest.approx(8.6)
    assert clock(0.0, until=10.0) is None
    assert clock(0.0, until=30.0) == pytest.approx(8.6), "only the sound has started anew"
    assert clock(40.0, until=30.0) is None
    assert clock(40.0, until=60.0) == pytest.approx(48.6), "silence"


def test_all_sound_tracks_are_kept_with_their_languages(tmp_path: Path) -> None:
    source = write_flashes(tmp_path / "in.mkv", codecs=["aac", "ac3"], languages=["eng", "deu"])
    for target in ("out.mp4", "out.mkv"):
        assert copy(source, tmp_path / target) == ""
        with av.open(str(tmp_path / target)) as container:
            assert [(t.language, t.codec_context.name) for t in container.streams.audio] == [
                ("eng", "aac"),
                ("deu", "ac3"),
            ]
        for track in (0, 1):
            assert_in_sync(tmp_path / target, 10, track)


def test_a_track_that_does_not_fit_is_named(tmp_path: Path) -> None:
    source = write_flashes(tmp_path / "in.mkv", codecs=["pcm_u8", "aac"])
    note = copy(source, tmp_path / "out.mp4")
    assert "out.mp4 has only 1 of the input's sound tracks: .mp4 files cannot contain the others; use .mkv" in note
    assert_in_sync(tmp_path / "out.mp4", 10)


def test_tracks_that_are_never_copied_are_named(tmp_path: Path) -> None:
    source = tmp_path / "in.mkv"
    with av.open(str(source), "w") as out:
        tracks = [out.add_stream("libx264", rate=25) for _ in range(2)]
        for track in tracks:
            track.width, track.height, track.pix_fmt = 64, 48, "yuv420p"
            out.mux(track.encode(av.VideoFrame(64, 48, "yuv420p")))
        for track in tracks:
            out.mux(track.encode())
    assert copy(source, tmp_path / "out.mp4").endswith("out.mp4 lacks 1 other video track of the input")


def test_a_colon_in_a_name_costs_no_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_flashes(tmp_path / "in.mp4").rename("12:30.mp4")
    assert copy("12:30.mp4", Path("12:31.mp4")) == ""
    assert_in_sync(tmp_path / "12:31.mp4", 10)


@pytest.mark.parametrize("target", ["out.mp4", "out.mkv", "out.mov"])
def test_title_creation_time_and_chapters_are_kept(tmp_path: Path, target: str) -> None:
    tags = {"title": "Café", "creation_time": "2024-03-05T10:11:12.000000Z", "location": "+48.1+011.5/"}
    second = Fraction(1, 1000)
    chapters = [
        {"id": i + 1, "start": i * 2000, "end": i * 2000 + 2000, "time_base": second, "metadata": {"title": title}}
        for i, title in enumerate(("One", "Two"))
    ]
    source = write_flashes(tmp_path / "in.mkv", tags=tags, chapters=chapters)
    assert copy(source, tmp_path / target) == ""
    found = read_tags(tmp_path / target)
    assert (found["title"], found["creation_time"]) == ("Café", tags["creation_time"])
    assert not any("location" in name for name in found), "the place of faces that are hidden"
    assert read_chapters(tmp_path / target) == [(0.0, 2.0, "One"), (2.0, 4.0, "Two")]


def test_what_an_avi_file_cannot_hold_is_told(tmp_path: Path) -> None:
    tags = {"title": "Café", "creation_time": "2024-03-05T10:11:12.000000Z"}
    chapters = [{"id": 1, "start": 0, "end": 2, "time_base": Fraction(1, 1), "metadata": {"title": "One"}}]
    note = copy(write_flashes(tmp_path / "in.mkv", tags=tags, chapters=chapters), tmp_path / "out.avi")
    assert note.endswith("out.avi lacks the chapters, the creation time of the input")
    assert read_tags(tmp_path / "out.avi")["title"] == "Café"


@pytest.mark.parametrize("name", ["in.avi", "in.mp4", "in.flv", "in.mkv"])
def test_a_title_that_is_not_utf8_is_read_as_latin1(tmp_path: Path, name: str) -> None:
    path = write_flashes(tmp_path / name, tags={"title": "CafXX"}, codec="flv" if name == "in.flv" else "libx264")
    data = path.read_bytes()
    assert b"CafXX" in data
    path.write_bytes(data.replace(b"CafXX", b"Caf\xe9!"))
    assert copy(path, tmp_path / "out.mkv") == ""
    assert read_tags(tmp_path / "out.mkv")["title"] == "Café!"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.mark.parametrize("name", ["in.mkv", "in.ts"])
def test_sound_of_a_server_is_kept(tmp_path: Path, server: str, name: str) -> None:
    write_flashes(tmp_path / name)  # a TS file has no duration, but it is no live stream
    assert copy(f"{server}/{name}", tmp_path / "out.mp4") == ""
    assert_in_sync(tmp_path / "out.mp4", 10)


def test_sound_that_cannot_be_opened_again_is_told(tmp_path: Path) -> None:
    source = write_flashes(tmp_path / "in.mkv")
    with open_source(source) as opened:
        source.unlink()
        sink = open_sink(tmp_path / "out.mp4", opened.info)
        for frame in opened:
            sink.write(frame, NOBODY, frame.image)
        sink.close()
    assert "out.mp4 has no sound: " in sink.note
    assert len(flashes(tmp_path / "out.mp4")) == 10


def test_damaged_sound_does_not_stop_the_images(tmp_path: Path) -> None:
    data = bytearray(write_flashes(tmp_path / "whole.ts", container="mpegts").read_bytes())
    sound = [i for i in range(0, len(data), 188) if data[i + 1] & 0x1F == 1 and data[i + 2] == 1]
    assert len(sound) > 80
    for position in sound[len(sound) // 2 : len(sound) // 2 + 40]:
        data[position + 40 : position + 188] = np.random.default_rng(position).bytes(148)
    (tmp_path / "in.ts").write_bytes(data)
    copy(tmp_path / "in.ts", tmp_path / "out.mp4")
    assert len(flashes(tmp_path / "out.mp4")) == 10
