"""Files as strangers have them: AVI with empty chunks, joined recordings, bytes behind the end, covers, wild sizes."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
from sound_samples import write_flashes
from video_samples import noise, number_in, numbered, write_video

from facedet_mm.errors import VideoError
from facedet_mm.structures import Faces
from facedet_mm.video import geometry, tracks
from facedet_mm.video.avi import AviSlots
from facedet_mm.video.clock import Clock
from facedet_mm.video.containers import is_truncated
from facedet_mm.video.frame import Frame, SourceInfo
from facedet_mm.video.sources import open_source
from facedet_mm.video.video_reader import VideoReader
from facedet_mm.video.writers import open_sink

NOBODY = Faces.empty()


def read(path: Path) -> tuple[list[Frame], str]:
    """Returns all frames of a file, and the error behind them or an empty string."""
    frames: list[Frame] = []
    try:
        frames.extend(open_source(path))
    except VideoError as error:
        return frames, str(error)
    return frames, ""


def smooth(count: int) -> list[np.ndarray]:
    """Images that a codec predicts from one another, in which it must conceal what is lost."""
    rng = np.random.default_rng(0)
    still = cv2.resize(rng.integers(0, 256, (12, 16, 3), np.uint8), (64, 48))
    return [np.roll(still, number, axis=1) for number in range(count)]


class TestAvi:
    @pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
    def test_our_own_output_of_a_varying_rate_is_whole(self, tmp_path: Path, codec: str) -> None:
        slots = [0, 1, 2, 12, 13, 30]
        if codec == "libx264":
            sink = open_sink(tmp_path / "v.avi", SourceInfo("x", 64, 48, 25.0))
            for number, slot in enumerate(slots, 1):
                sink.write(Frame(numbered(number), number, slot / 25), NOBODY, numbered(number))
            sink.close()
        else:
            write_avi(tmp_path / "v.avi", slots, [numbered(number) for number in range(1, 7)])
        frames, problem = read(tmp_path / "v.avi")
        assert problem == ""
        shown = [max(i for i, slot in enumerate(slots, 1) if slot <= now) for now in range(31)]
        assert [number_in(frame.image) for frame in frames] == shown, "an empty chunk shows the image before it"
        assert [frame.time for frame in frames] == pytest.approx([now / 25 for now in range(31)])

    def test_frames_that_come_late_are_told(self, tmp_path: Path) -> None:
        for times, note in (([0.0, 0.1, 0.2, 0.3], ""), ([0.0, 0.02, 0.04, 2.0], " up to 0.16 s late, ")):
            sink = open_sink(tmp_path / "v.avi", SourceInfo("x", 64, 48, 10.0))
            for number, time in enumerate(times, 1):
                sink.write(Frame(numbered(number), number, time), NOBODY, numbered(number))
            sink.close()
            assert note in sink.note
            assert bool(note) == bool(sink.note)
        sink = open_sink(tmp_path / "v.mkv", SourceInfo("x", 64, 48, 10.0))
        for number, time in enumerate(times, 1):
            sink.write(Frame(numbered(number), number, time), NOBODY, numbered(number))
        sink.close()
        assert sink.note == ""

    def test_empty_chunks_at_the_end_count(self, tmp_path: Path) -> None:
        path = write_avi(tmp_path / "v.avi", range(5), [numbered(i) for i in range(5)])
        data = path.read_bytes()
        movi, index = data.index(b"movi"), data.index(b"idx1")
        chunks = data[movi:index] + b"00dc" + bytes(4) + b"00dc" + bytes(4)
        entries = data[index + 8 :] + 2 * (b"00dc" + bytes(4) + struct.pack("<2I", index - movi, 0))
        changed = bytearray(data[:movi] + chunks + b"idx1" + struct.pack("<I", len(entries)) + entries)
        changed[4:8] = struct.pack("<I", len(changed) - 8)
        changed[movi - 4 : movi] = struct.pack("<I", len(chunks))
        for name, place in ((b"avih", 24), (b"strh", 40)):
            position = data.index(name) + place
            assert struct.unpack_from("<I", data, position) == (5,)
            changed[position : position + 4] = struct.pack("<I", 7)
        path.write_bytes(changed)
        frames, problem = read(path)
        assert problem == ""
        assert [number_in(frame.image) for frame in frames] == [0, 1, 2, 3, 4, 4, 4]

    def test_a_stated_length_that_lies_is_bounded_by_the_file(self, tmp_path: Path) -> None:
        path = write_avi(tmp_path / "v.avi", range(5), [numbered(i) for i in range(5)])
        data = bytearray(path.read_bytes())
        for name, place in ((b"avih", 24), (b"strh", 40)):
            position = data.index(name) + place
            data[position : position + 4] = struct.pack("<I", 2**31 - 1)
        path.write_bytes(data)
        assert len(read(path)[0]) < len(data) / 8

    def test_without_an_index_every_slot_without_a_packet_is_empty(self) -> None:
        slots = AviSlots(SimpleNamespace(frames=9), size=10_000)
        for slot in (0, 4, 2):
            slots.send(slot)
        assert [(list(again), slot) for again, slot in (slots.receive() for _ in range(3))] == [
            ([], 0),
            ([1], 2),
            ([3], 4),
        ]
        assert (slots.indexed, list(slots.rest())) == (0, [])

    def test_reordered_frames_come_at_even_times(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "v.avi", map(numbered, range(40)), options={"bf": "3"})
        frames, problem = read(path)
        assert problem == ""
        assert [number_in(frame.image) for frame in frames] == list(range(40))
        assert np.diff([frame.time for frame in frames]) == pytest.approx(1 / 25)


def write_avi(path: Path, slots: Sequence[int], images: Sequence[np.ndarray]) -> Path:
    """Writes MPEG-4 images into slots of an AVI file; FFmpeg writes empty chunks into the others."""
    with av.open(str(path), "w") as out:
        stream = out.add_stream("mpeg4", rate=25)
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for slot, image in zip(slots, images, strict=True):
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = slot, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


class TestTimes:
    @pytest.mark.parametrize("back", [0.02, 0.3, 0.96, 1.04, 50.0])
    def test_the_rest_after_a_jump_back_keeps_its_rate(self, back: float) -> None:
        stamps = [i / 25 for i in range(30)] + [30 / 25 - back + i / 25 for i in range(60)]
        clock = Clock(fps=25)
        steps = np.diff([clock(stamp) for stamp in stamps])
        assert (steps > 0.01).sum() >= len(steps) - 1
        assert steps.sum() == pytest.approx(89 / 25, abs=0.05)

    def test_frames_that_a_file_stores_in_the_wrong_order_do_not_make_it_longer(self) -> None:
        order = [position for block in range(0, 300, 3) for position in (block + 2, block, block + 1)]
        clock = Clock(fps=25)
        times = [clock(stamp / 25) for stamp in order]
        assert np.diff(times).min() > 0.01
        assert times[-1] == pytest.approx(299 / 25, abs=0.15)

    def test_equal_stamps_throughout_become_the_stated_rate(self) -> None:
        clock = Clock(fps=25)
        assert np.diff([clock(0.0) for _ in range(50)])[2:] == pytest.approx(1 / 25)

    def test_a_joined_stream_whose_times_go_back_by_less_than_a_second(self, tmp_path: Path) -> None:
        parts = [
            write_flashes(tmp_path / "part.ts", seconds, container="mpegts", start=start).read_bytes()
            for seconds, start in ((1.2, 10.0), (2.4, 10.5))
        ]
        (tmp_path / "v.ts").write_bytes(b"".join(parts))
        frames, problem = read(tmp_path / "v.ts")
        assert problem == ""
        assert np.diff([frame.time for frame in frames]) == pytest.approx([1 / 25] * 89, abs=1e-3)

    def test_a_rate_of_one_frame_an_hour_can_be_written(self, tmp_path: Path) -> None:
        for suffix in (".mp4", ".avi", ".mkv"):
            sink = open_sink(tmp_path / f"v{suffix}", SourceInfo("x", 64, 48, 1 / 3600))
            for number in (1, 2, 3):
                sink.write(Frame(numbered(number), number, (number - 1) * 3600.0), NOBODY, numbered(number))
            sink.close()
            frames, problem = read(tmp_path / f"v{suffix}")
            assert (problem, [number_in(frame.image) for frame in frames]) == ("", [1, 2, 3])


class TestDamage:
    @pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".flv", ".ts"])
    def test_what_the_decoder_conceals_is_told(self, tmp_path: Path, suffix: str) -> None:
        container = {".ts": "mpegts", ".flv": "flv"}.get(suffix)
        path = write_video(tmp_path / f"v{suffix}", smooth(75), options={"g": "25"}, format=container)
        assert read(path)[1] == ""
        data = bytearray(path.read_bytes())
        with av.open(str(path)) as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
        key = [packet for packet in packets if packet.is_keyframe][1]
        for position in range(key.pos + 390, key.pos + 550):
            data[position] ^= 0x5A
        path.write_bytes(data)
        frames, problem = read(path)
        assert "damaged after frame" in problem
        assert "frames are shown with errors, " in problem or "frames are lost, " in problem
        assert len(frames) > 60

    @pytest.mark.parametrize("suffix", [".flv", ".ts", ".m2ts", ".ogg", ".asf", ".gif"])
    @pytest.mark.parametrize("part", [0.27, 0.52, 0.9])
    def test_files_that_are_cut_off_are_told_from_whole_ones(self, tmp_path: Path, suffix: str, part: float) -> None:
        container = {".ts": "mpegts", ".m2ts": "mpegts", ".gif": "gif"}.get(suffix)
        options = {"container_options": {"mpegts_m2ts_mode": "1"}} if suffix == ".m2ts" else {}
        codec, pixels = {".gif": ("gif", "rgb8"), ".ogg": ("libvpx", "yuv420p"), ".asf": ("msmpeg4v3", "yuv420p")}.get(
            suffix, ("libx264", "yuv420p")
        )
        path = write_video(tmp_path / f"v{suffix}", noise(60), codec=codec, pix_fmt=pixels, format=container, **options)
        assert not is_truncated(path)
        assert read(path)[1] == ""
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * part)])
        frames, problem = read(path)
        assert 0 < len(frames) < 60
        assert f"ends early, after frame {len(frames)}" in problem or "damaged after frame" in problem
        path.write_bytes(data + b"made by a camera of some kind")
        assert read(path)[1] == "", "bytes behind the end"

    def test_a_stream_cut_between_two_packets_is_told(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "v.ts", noise(60), format="mpegts")
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 188 // 4 * 188])
        assert not is_truncated(path)
        assert "v.ts: damaged after frame" in read(path)[1]

    def test_an_flv_file_cut_between_two_tags_is_told_by_its_duration(self, tmp_path: Path) -> None:
        path = write_flashes(tmp_path / "v.flv")
        data = path.read_bytes()
        end = 13
        while end < len(data) // 4:
            end += 15 + int.from_bytes(data[end + 1 : end + 4], "big")
        path.write_bytes(data[:end])
        assert "ends early, after frame" in read(path)[1]

    def test_a_slow_flv_file_is_whole(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "v.flv", map(numbered, range(3)), [0.0, 10.0, 20.0], format="flv")
        assert [round(frame.time) for frame in read(path)[0]] == [0, 10, 20]
        assert read(path)[1] == ""

    @pytest.mark.parametrize("flags", ["faststart", "frag_keyframe+empty_moov"])
    @pytest.mark.parametrize("name", ["v.mp4", "v.mov", "v.flv"])
    def test_a_second_file_that_is_not_read_is_told(self, tmp_path: Path, name: str, flags: str) -> None:
        options = {} if name == "v.flv" else {"container_options": {"movflags": flags}}
        form = "flv" if name == "v.flv" else None
        path = write_video(tmp_path / name, map(numbered, range(30)), format=form, **options)
        path.write_bytes(path.read_bytes() * 2)
        frames, problem = read(path)
        assert len(frames) == 30
        assert "ends after frame 30, but a second video, joined to the file, is not read" in problem

    @pytest.mark.parametrize("name", ["v.mkv", "v.avi"])
    def test_joined_files_that_are_read_are_whole(self, tmp_path: Path, name: str) -> None:
        path = write_video(tmp_path / name, map(numbered, range(30)))
        path.write_bytes(path.read_bytes() * 2)
        frames, problem = read(path)
        assert (len(frames), problem) == (60, "")

    def test_a_stream_that_repeats_its_first_boxes_is_whole(self, tmp_path: Path) -> None:
        flags = {"movflags": "frag_keyframe+empty_moov+default_base_moof+skip_trailer"}
        path = write_video(tmp_path / "v.mp4", map(numbered, range(30)), options={"g": "10"}, container_options=flags)
        data = path.read_bytes()
        first, last = data.index(b"moof") - 4, data.rindex(b"moof") - 4
        path.write_bytes(data[:last] + data[:first] + data[last:])
        frames, problem = read(path)
        assert (len(frames), problem) == (30, "")

    @pytest.mark.parametrize(
        "tail",
        [
            b"\x7f\xff\xff\xffbeam" + bytes(40),
            b"\x00\x10\x00\x00uuid" + bytes(100),
            b"SEFH\x6b\x00\x00\x00" + bytes(300) + b"SEFT",
            b"\xff" * 70,
        ],
    )
    @pytest.mark.parametrize("options", [{}, {"movflags": "faststart"}, {"movflags": "frag_keyframe+empty_moov"}])
    def test_what_makers_append_to_an_mp4_does_not_cut_it(
        self, tmp_path: Path, tail: bytes, options: dict[str, str]
    ) -> None:
        path = write_video(tmp_path / "v.mp4", map(numbered, range(30)), container_options=options)
        path.write_bytes(path.read_bytes() + tail)
        frames, problem = read(path)
        assert (len(frames), problem) == (30, "")


def write_cover(path: Path, *, images: int) -> Path:
    """Writes a song or, with ``images``, a video, with a cover."""
    with av.open(str(path), "w") as out:
        cover = out.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 640, 480, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        video = out.add_stream("libx264", rate=25) if images else None
        sound = None if images else out.add_stream("aac", rate=44100, layout="mono")
        if video:
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        out.mux(cover.encode(av.VideoFrame.from_ndarray(np.full((480, 640, 3), 99, np.uint8), format="bgr24")))
        out.mux(cover.encode())
        if video:
            for number in range(images):
                out.mux(video.encode(av.VideoFrame.from_ndarray(numbered(number), format="bgr24")))
            out.mux(video.encode())
        if sound:
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 44100
            out.mux(sound.encode(frame))
            out.mux(sound.encode())
    return path


@pytest.mark.parametrize("name", ["song.mp4", "song.m4a"])
def test_music_with_a_cover_is_no_video(tmp_path: Path, name: str) -> None:
    path = write_cover(tmp_path / "song.mp4", images=0).rename(tmp_path / name)
    with pytest.raises(VideoError, match="not a video: it contains only audio and a cover picture"):
        VideoReader(path, name)


def test_a_video_with_a_cover_gives_its_images(tmp_path: Path) -> None:
    path = write_cover(tmp_path / "v.mp4", images=9)
    frames, problem = read(path)
    assert (problem, [number_in(frame.image) for frame in frames]) == ("", list(range(9)))
    assert open_source(path).info.left_out == ("1 cover picture",)


class TestFolders:
    def test_companions_and_what_is_no_file_are_skipped(self, tmp_path: Path) -> None:
        for number in (1, 2):
            cv2.imwrite(str(tmp_path / f"frame{number}.png"), numbered(number))
            (tmp_path / f"._frame{number}.png").write_bytes(b"\0\5\x16\7Mac OS X")
        (tmp_path / "folder.jpg").mkdir()
        if hasattr(os, "mkfifo"):
            os.mkfifo(tmp_path / "pipe.jpg")
        for spec in (tmp_path, tmp_path / "*g"):
            with open_source(spec) as source:
                assert [number_in(frame.image) for frame in source] == [1, 2]


def write_aspect(path: Path, aspect: Fraction, width: int = 64, height: int = 48) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.sample_aspect_ratio = aspect
        out.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(9, width, height), format="bgr24")))
        out.mux(stream.encode())
    return path


class TestBounds:
    @pytest.mark.parametrize(
        "aspect", [Fraction(2000), Fraction(650), Fraction(1, 2000), Fraction(1, 650), Fraction(17)]
    )
    def test_a_shape_that_no_pixel_has_is_ignored_and_told(self, tmp_path: Path, aspect: Fraction) -> None:
        path = write_aspect(tmp_path / "v.mp4", Fraction(3))
        data = path.read_bytes()
        assert b"pasp" + struct.pack(">2I", 3, 1) in data
        path.write_bytes(
            data.replace(
                b"pasp" + struct.pack(">2I", 3, 1), b"pasp" + struct.pack(">2I", aspect.numerator, aspect.denominator)
            )
        )
        with open_source(path) as source:
            (frame,) = source
        assert (frame.image.shape, number_in(frame.image)) == ((48, 64, 3), 9)
        assert source.info.notes == (f"the file states pixels of {aspect} times their height, which is ignored",)

    def test_square_pixels_never_exceed_the_largest_frame(self) -> None:
        assert geometry.square_pixel_size(8000, 8000, Fraction(12)) == (8000, 8000)
        assert geometry.square_pixel_size(720, 576, Fraction(16)) == (11520, 576)

    def test_frames_larger_than_the_largest_are_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        path = write_video(tmp_path / "v.mp4", map(numbered, range(3)))
        monkeypatch.setattr(tracks, "MAX_PIXELS", 64 * 48 - 1)
        with pytest.raises(VideoError, match=r"v\.mp4: its frames have 64 x 48 pixels, more than 0 million; scale"):
            open_source(path)

    def test_frames_that_grow_beyond_the_largest_are_not_decoded(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        parts = [
            write_video(tmp_path / "part.ts", [numbered(i, *size)] * 5, format="mpegts").read_bytes()
            for i, size in enumerate(((64, 48), (128, 96)))
        ]
        (tmp_path / "v.ts").write_bytes(b"".join(parts))
        monkeypatch.setattr(tracks, "MAX_PIXELS", 100 * 80)
        frames, problem = read(tmp_path / "v.ts")
        assert len(frames) == 5
        assert "5 frames are lost" in problem

    def test_a_duration_of_any_size_is_read(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "v.mkv", map(numbered, range(3)))
        data = path.read_bytes()
        assert b"00:00:00.120000000" in data
        path.write_bytes(data.replace(b"00:00:00.120000000", b"9999999999:00:00.0"))
        assert len(read(path)[0]) == 3
