"""Sources and sinks: order, time stamps, sizes, sound, live streams."""

from __future__ import annotations

import errno
import functools
import http.server
import io
import os
import sys
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from facedet_mm.errors import VideoError
from facedet_mm.structures import Faces
from facedet_mm.system import machine
from facedet_mm.video import live, sources
from facedet_mm.video.colors import yuv420
from facedet_mm.video.encoder import CLOCK, VideoSink
from facedet_mm.video.frame import Frame, SourceInfo
from facedet_mm.video.live import LiveSource
from facedet_mm.video.reader import Reader
from facedet_mm.video.sources import open_source
from facedet_mm.video.video_reader import VideoReader
from facedet_mm.video.window_sink import WindowSink
from facedet_mm.video.writers import check_outputs, open_sink

NOBODY = Faces.empty()


def gray(level: int, width: int = 64, height: int = 48) -> np.ndarray:
    return np.full((height, width, 3), level, np.uint8)


def info(
    name: str = "x", width: int = 64, height: int = 48, fps: float = 25.0, audio: Path | None = None
) -> SourceInfo:
    return SourceInfo(name, width, height, fps, audio=audio)


def write_all(path: Path, images: list[np.ndarray], times: list[float], audio: Path | None = None) -> None:
    height, width = images[0].shape[:2]
    sink = open_sink(path, info(width=width, height=height, audio=audio))
    for number, (image, moment) in enumerate(zip(images, times, strict=True), start=1):
        sink.write(Frame(image, number, moment), NOBODY, image)
    sink.close()


def levels(path: Path) -> list[int]:
    with open_source(path) as source:
        return [round(float(frame.image[8:40, 8:56].mean())) for frame in source]


@pytest.fixture
def with_sound(tmp_path: Path) -> Path:
    """Two seconds at 25 frames a second with a tone."""
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as out:
        video, sound = out.add_stream("libx264", rate=25), out.add_stream("aac", rate=44100)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for i in range(50):
            out.mux(video.encode(av.VideoFrame.from_ndarray(gray(4 * i), format="bgr24")))
        tone = np.sin(np.arange(2 * 44100) * 2 * np.pi * 440 / 44100).astype(np.float32)
        for i in range(0, len(tone) - 1024, 1024):
            frame = av.AudioFrame.from_ndarray(tone[None, i : i + 1024], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44100, i
            out.mux(sound.encode(frame))
        for stream in (video, sound):
            out.mux(stream.encode())
    return path


class TestSources:
    def test_images_come_in_the_order_of_their_numbers_in_the_size_of_the_first(self, tmp_path: Path) -> None:
        for number, size in ((1, (64, 48)), (2, (64, 48)), (10, (128, 96)), (9, (64, 48))):
            cv2.imwrite(str(tmp_path / f"f{number}.png"), gray(number, *size))
        (tmp_path / "notes.txt").write_text("no image")
        for spec in (tmp_path, tmp_path / "f*.png"):
            with open_source(spec, fps=10) as source:
                frames = list(source)
            assert [int(frame.image[5, 5, 0]) for frame in frames] == [1, 2, 9, 10]
            assert [(frame.number, frame.time) for frame in frames] == [(1, 0.0), (2, 0.1), (3, 0.2), (4, 0.3)]
            assert {frame.image.shape for frame in frames} == {(48, 64, 3)}
            assert source.info.total_frames == 4

    def test_every_suffix_of_an_image_counts_in_a_folder(self, tmp_path: Path) -> None:
        for number, name in enumerate(("1.PNG", "2.ppm", "3.jpe", "4.dib", "5.txt", "6.mp4")):
            cv2.imwrite(str(tmp_path / f"{number}.png"), gray(number))
            (tmp_path / f"{number}.png").rename(tmp_path / name)
        with open_source(tmp_path) as source:
            assert [int(frame.image[5, 5, 0]) for frame in source] == [0, 1, 2, 3]

    def test_an_image_that_breaks_stops_with_its_name_after_those_before(self, tmp_path: Path) -> None:
        for number in range(3):
            cv2.imwrite(str(tmp_path / f"{number}.png"), gray(number))
        (tmp_path / "1.png").write_bytes(b"broken")
        seen = []
        with pytest.raises(VideoError, match=r"1\.png"):
            seen.extend(frame.number for frame in open_source(tmp_path))
        assert seen == [1]

    def test_raw_frames_come_from_standard_input(self, monkeypatch: pytest.MonkeyPatch) -> None:
        data = b"".join(gray(level).tobytes() for level in (3, 7)) + b"half a frame"
        monkeypatch.setattr(sys, "stdin", type("Pipe", (), {"buffer": io.BytesIO(data)}))
        source, got = open_source("-", size=(64, 48), fps=5), []
        with pytest.raises(VideoError, match="ends within frame 3, after 12 of its 9216 bytes; check that"):
            got.extend((int(f.image[0, 0, 0]), f.number, f.time) for f in source)
        assert got == [(3, 1, 0.0), (7, 2, 0.2)]

    def test_closing_ends_the_iteration_at_the_next_frame(self, tmp_path: Path) -> None:
        write_all(tmp_path / "v.mp4", [gray(4 * i) for i in range(40)], [i / 25 for i in range(40)])
        source, seen = open_source(tmp_path / "v.mp4"), 0
        for _ in source:
            seen += 1
            source.close()
        assert seen == 1

    def test_an_mp4_without_its_end_says_where_it_broke_off(self, tmp_path: Path, with_sound: Path) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (50, 48, 64, 3), np.uint8)
        write_all(tmp_path / "v.mkv", list(noise), [i / 25 for i in range(50)])
        data = (tmp_path / "v.mkv").read_bytes()
        (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
        numbers = []
        with pytest.raises(VideoError, match=r"cut\.mkv: ends early, after frame (\d+): the rest"):
            numbers.extend(frame.number for frame in open_source(tmp_path / "cut.mkv"))
        assert numbers == list(range(1, len(numbers) + 1))
        data = with_sound.read_bytes()
        (tmp_path / "cut.mp4").write_bytes(data[: len(data) - 500])
        with pytest.raises(VideoError, match=r"cut\.mp4: "):
            list(open_source(tmp_path / "cut.mp4"))


class _FullDisk(io.FileIO):
    """A file that has space for 30 more bytes."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "ab")
        self._limit = path.stat().st_size + 30

    def write(self, data: bytes) -> int:
        if self.tell() >= self._limit:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().write(data[: self._limit - self.tell()])


@pytest.mark.parametrize("name", ["f.jsonl", "f.csv", "f.txt"])
def test_a_full_disk_leaves_the_lines_of_whole_frames_only(tmp_path: Path, name: str) -> None:
    sink = open_sink(tmp_path / name, info())
    faces = Faces([[1, 2, 11, 22], [30, 2, 44, 22]], [0.9, 0.8], track_ids=[1, 2])
    sink.write(Frame(gray(1), 1, 0.0), faces, gray(1))
    before = sink.temporary.read_bytes()
    sink._file.close()
    sink._file = _FullDisk(sink.temporary)
    with pytest.raises(VideoError, match=f"cannot write .*{name}: No space left on device"):
        sink.write(Frame(gray(2), 2, 0.04), faces, gray(2))
    sink.close()
    assert (tmp_path / name).read_bytes() == before


class _Camera(Reader):
    """A reader that gives frames every 5 ms, then breaks."""

    def __init__(self, first: int, count: int) -> None:
        self.info = SourceInfo("rtsp://camera", 64, 48, 200.0, live=True)
        self._levels = range(first, first + count)

    def frames(self) -> Iterator[Frame]:
        for number, level in enumerate(self._levels, start=1):
            time.sleep(0.005)
            yield Frame(gray(level), number, 0.0)
        raise VideoError("rtsp://camera: the connection was lost")

    def close(self) -> None:
        pass


class TestLive:
    def test_a_slow_reader_gets_the_newest_frames_and_the_count_of_the_others(self) -> None:
        source, seen = LiveSource(_Camera(0, 60)), []
        with pytest.raises(VideoError, match="connection was lost"):
            seen.extend(int(frame.image[0, 0, 0]) for frame in source if not time.sleep(0.03))
        assert seen == sorted(seen)
        assert 5 <= len(seen) <= 25
        assert len(seen) + source.dropped == 60

    def test_a_lost_stream_is_opened_again_until_it_stays_away(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(live, "RECONNECT_DELAY", 0.001)
        tries = []

        def reopen() -> _Camera:
            tries.append(time.monotonic())
            if len(tries) == 2:
                return _Camera(100, 3)
            raise VideoError("no route")

        seen = []
        with pytest.raises(VideoError, match="no route; gave up after 5 attempts"):
            seen.extend(int(frame.image[0, 0, 0]) for frame in LiveSource(_Camera(0, 3), reopen))
        assert set(seen) <= {0, 1, 2, 100, 101, 102}
        assert max(seen) >= 100
        assert len(tries) == 2 + 5

    def test_each_wait_before_a_new_connection_is_twice_as_long(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(live, "RECONNECT_DELAY", 0.02)
        tries = []

        def reopen() -> _Camera:
            tries.append(time.monotonic())
            raise VideoError("no route")

        with pytest.raises(VideoError, match="gave up"):
            list(LiveSource(_Camera(0, 1), reopen))
        assert (np.diff(tries) >= 0.019 * 2 ** np.arange(1, 5)).all()

    def test_closing_from_elsewhere_ends_it(self) -> None:
        source = LiveSource(_Camera(0, 10_000))
        start = time.monotonic()
        for frame in source:
            if frame.number > 3:
                source.close()
        assert time.monotonic() - start < 2


class TestVideos:
    @pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov", ".avi", ".webm"])
    def test_frames_come_back_in_order_also_of_odd_size(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"v{suffix}"
        images = [gray(20 + 5 * i, 63, 47) for i in range(40)]
        write_all(path, images, [i / 25 for i in range(40)])
        assert np.abs(np.array(levels(path)) - [20 + 5 * i for i in range(40)]).max() <= 3
        with open_source(path) as source:
            assert (source.info.width, source.info.height) == (64, 48)
            assert [round(frame.time, 2) for frame in source] == [round(i / 25, 2) for i in range(40)]

    @pytest.mark.parametrize("suffix", [".mp4", ".webm"])
    def test_players_can_jump_to_every_other_second(self, tmp_path: Path, suffix: str) -> None:
        write_all(tmp_path / f"v{suffix}", [gray(90)] * 110, [i / 25 for i in range(110)])
        with av.open(str(tmp_path / f"v{suffix}")) as container:
            packets = [packet for packet in container.demux(video=0) if packet.size]
        assert [round(float(p.pts * p.time_base), 2) for p in packets if p.is_keyframe] == [0.0, 2.0, 4.0]

    @pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
    def test_a_varying_rate_is_kept(self, tmp_path: Path, suffix: str) -> None:
        times = [0.0, 0.04, 0.08, 0.5, 0.54, 1.3, 1.31]
        write_all(tmp_path / f"v{suffix}", [gray(30 * i) for i in range(7)], times)
        with open_source(tmp_path / f"v{suffix}") as source:
            assert [frame.time for frame in source] == pytest.approx(times, abs=2e-3)

    @pytest.mark.parametrize(("suffix", "sound"), [(".mp4", True), (".mkv", True), (".mov", True), (".webm", False)])
    def test_sound_is_copied_up_to_the_last_frame(
        self, tmp_path: Path, with_sound: Path, suffix: str, sound: bool
    ) -> None:
        path = tmp_path / f"v{suffix}"
        with open_source(with_sound) as source:
            assert source.info.audio == with_sound
        write_all(path, [gray(4 * i) for i in range(25)], [i / 25 for i in range(25)], audio=with_sound)
        with av.open(str(path)) as container:
            assert bool(container.streams.audio) == sound
            ends = (
                [float((p.pts + p.duration) * p.time_base) for p in container.demux(audio=0) if p.pts is not None]
                if sound
                else []
            )
        if sound:
            assert max(ends) == pytest.approx(24 / 25, abs=0.05)

    @pytest.mark.parametrize("name", ["v.mp4", "f.jsonl", "f.csv", "f.txt"])
    def test_nothing_is_seen_before_the_end_and_nothing_stays_when_aborted(self, tmp_path: Path, name: str) -> None:
        for finish in ("abort", "close"):
            sink = open_sink(tmp_path / name, info())
            sink.write(Frame(gray(1), 1, 0.0), NOBODY, gray(1))
            assert not (tmp_path / name).exists()
            getattr(sink, finish)()
            assert [path.name for path in tmp_path.iterdir()] == ([name] if finish == "close" else [])

    def test_images_are_numbered_by_frame(self, tmp_path: Path) -> None:
        sink = open_sink(tmp_path / "out", info())
        for i in (1, 2, 12):
            sink.write(Frame(gray(10 * i), i, 0.0), NOBODY, gray(10 * i))
        sink.close()
        found = sorted((tmp_path / "out").iterdir())
        assert [path.name for path in found] == ["000001.jpg", "000002.jpg", "000012.jpg"]
        assert round(cv2.imread(str(found[2])).mean()) == 120

    def test_a_window_that_cannot_be_shown_is_explained(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object) -> None:
            raise cv2.error("not implemented")

        monkeypatch.setattr(cv2, "namedWindow", refuse)
        with pytest.raises(VideoError, match="no display, or OpenCV is the headless build"):
            WindowSink("x")

    @pytest.mark.parametrize("key", [ord("q"), 27], ids=["q", "Esc"])
    def test_keys_and_closing_the_window_close_it(self, monkeypatch: pytest.MonkeyPatch, key: int) -> None:
        monkeypatch.setenv("DISPLAY", ":0")
        keys, visible = iter([-1, key, -1]), iter([1.0, 1.0, 0.0])
        for name in ("namedWindow", "imshow", "destroyWindow"):
            monkeypatch.setattr(cv2, name, lambda *_: None)
        monkeypatch.setattr(cv2, "waitKey", lambda _: next(keys))
        monkeypatch.setattr(cv2, "getWindowProperty", lambda *_: next(visible))
        sink = WindowSink("x")
        sink.write(Frame(gray(1), 1, 0.0), NOBODY, gray(1))
        assert not sink.closed
        sink.write(Frame(gray(1), 2, 0.1), NOBODY, gray(1))
        assert sink.closed
        other = WindowSink("y")
        other.write(Frame(gray(1), 1, 0.0), NOBODY, gray(1))
        assert other.closed


def test_the_x_of_a_window_closes_it_also_where_opencv_calls_that_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise cv2.error("NULL window")

    monkeypatch.setenv("DISPLAY", ":0")
    shown = []
    for name in ("namedWindow", "destroyWindow"):
        monkeypatch.setattr(cv2, name, lambda *_: None)
    monkeypatch.setattr(cv2, "imshow", lambda *_: shown.append(1))
    monkeypatch.setattr(cv2, "waitKey", lambda _: -1)
    monkeypatch.setattr(cv2, "getWindowProperty", gone)
    sink = WindowSink("x")
    sink.write(Frame(gray(1), 1, 0.0), NOBODY, gray(1))
    assert sink.closed
    sink.write(Frame(gray(1), 2, 0.1), NOBODY, gray(1))
    assert len(shown) == 1, "another window was opened"


class TestColors:
    def test_every_pixel_of_a_block_counts(self) -> None:
        for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
            image = gray(128)
            image[row::2, column::2] = (0, 0, 255)
            planes = yuv420(image)
            mean = image[:2, :2].reshape(4, 3).mean(axis=0)
            y = mean @ (0.114, 0.587, 0.299)
            u, v = 128 + 224 / 255 * (mean[0] - y) / 1.772, 128 + 224 / 255 * (mean[2] - y) / 1.402
            assert np.abs(planes[48:60].astype(float) - u).max() < 1.5
            assert np.abs(planes[60:].astype(float) - v).max() < 1.5

    def test_flat_colors_are_those_of_bt601(self) -> None:
        for color in ((0, 0, 255), (255, 0, 0), (0, 255, 0), (255, 255, 255), (0, 0, 0), (40, 180, 60)):
            image = np.full((4, 4, 3), color, np.uint8)
            assert np.abs(yuv420(image).astype(int) - cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420)).max() <= 1

    def test_a_thin_box_that_moves_keeps_its_color(self, tmp_path: Path) -> None:
        images = []
        for number in range(8):
            image = gray(90)
            cv2.rectangle(image, (10 + number, 10), (40 + number, 36), (0, 255, 0), 1)
            images.append(image)
        write_all(tmp_path / "v.mp4", images, [i / 25 for i in range(8)])
        with open_source(tmp_path / "v.mp4") as source:
            greens = [
                frame.image[14:32, 10 + i].astype(int) @ (-1, 2, -1) for i, frame in enumerate(source)
            ]  # the left line of each box
        levels = np.array([line.mean() for line in greens])
        assert levels.min() > 0.7 * levels.max(), levels


def test_the_clock_of_the_encoder_holds_all_usual_rates() -> None:
    for rate in (24, 25, 30, 50, 60, Fraction(24000, 1001), Fraction(30000, 1001)):
        ticks = [round(i / rate / CLOCK) for i in range(1000)]
        assert max(abs(t * CLOCK - i / rate) for i, t in enumerate(ticks)) <= Fraction(1, 100_000)


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (3, 1), (16, 8)])
def test_decoder_and_encoder_leave_half_of_the_cores_to_the_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cores: int, threads: int
) -> None:
    monkeypatch.setattr(machine, "cores", lambda: cores)
    sink = VideoSink(tmp_path / "out.mp4", info())
    sink.write(Frame(gray(9), 1, 0.0), NOBODY, gray(9))
    assert sink._video.codec_context.thread_count == threads
    sink.close()
    reader = VideoReader(tmp_path / "out.mp4", "out.mp4")
    assert reader._stream.codec_context.thread_count == threads
    reader.close()


def write_with_sound(path: Path, codec: str, sound_from: float = 0.0, video_from: float = 0.0) -> None:
    """A second of images and two of noise in a codec."""
    with av.open(str(path), "w") as out:
        video, sound = out.add_stream("libx264", rate=25), out.add_stream(codec, rate=48000)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        resampler = av.AudioResampler(format=sound.codec_context.format, layout="stereo", rate=48000)
        for i in range(25):
            image = av.VideoFrame.from_ndarray(gray(4 * i), format="bgr24")
            image.pts, image.time_base = round((video_from + i / 25) * 1000), Fraction(1, 1000)
            out.mux(video.encode(image))
        rng = np.random.default_rng(0)
        size = sound.codec_context.frame_size or 1024
        for i in range(0, 2 * 48000 - size, size):
            frame = av.AudioFrame.from_ndarray(rng.integers(-9999, 9999, (1, 2 * size), np.int16), layout="stereo")
            frame.sample_rate, frame.pts = 48000, round(sound_from * 48000) + i
            frame.time_base = Fraction(1, 48000)
            for ready in resampler.resample(frame):
                out.mux(sound.encode(ready))
        for stream in (video, sound):
            out.mux(stream.encode())


@pytest.mark.parametrize(("codec", "suffix"), [("pcm_u8", ".mp4"), ("flac", ".mov"), ("ac3", ".webm"), ("ac3", ".mkv")])
def test_sound_that_the_container_does_not_take_costs_the_sound_only(tmp_path: Path, codec: str, suffix: str) -> None:
    write_with_sound(tmp_path / "in.mkv", codec)
    sink = open_sink(tmp_path / f"out{suffix}", info(audio=tmp_path / "in.mkv"))
    for number in range(1, 26):
        sink.write(Frame(gray(number), number, (number - 1) / 25), NOBODY, gray(number))
    sink.close()
    assert len(levels(tmp_path / f"out{suffix}")) == 25
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        assert bool(container.streams.audio) == (not sink.note) == (suffix == ".mkv")
    assert f"out{suffix} has no sound" in sink.note or suffix == ".mkv"


def test_sound_that_began_before_the_images_stays_in_time(tmp_path: Path) -> None:
    write_with_sound(tmp_path / "in.mkv", "ac3", video_from=0.5)
    write_all(tmp_path / "out.mkv", [gray(9)] * 25, [i / 25 for i in range(25)], audio=tmp_path / "in.mkv")
    moments = []
    for name in ("in.mkv", "out.mkv"):
        with av.open(str(tmp_path / name)) as container:
            video = container.streams.video[0]
            begin = float(video.start_time * video.time_base)
            packets = [packet for packet in container.demux(audio=0) if packet.pts is not None]
            moments.append({bytes(packet): float(packet.pts * packet.time_base) - begin for packet in packets})
    shared = moments[0].keys() & moments[1].keys()
    assert len(shared) > 20
    assert min(moments[1].values()) >= 0  # sound from before the first image is left out
    assert all(moments[0][key] == pytest.approx(moments[1][key], abs=0.01) for key in shared)


@pytest.mark.parametrize("words", [["{}/*.png"], ["{}"], ["{}/000001.png"]])
def test_the_images_that_are_read_are_not_written_over(tmp_path: Path, words: list[str]) -> None:
    for number in (1, 2):
        cv2.imwrite(str(tmp_path / f"{number:06d}.png"), gray(number))
    with open_source(words[0].format(tmp_path)) as source, pytest.raises(VideoError, match="choose another folder"):
        check_outputs([tmp_path], source.info)


def test_frames_of_a_gif_may_be_written_beside_it(tmp_path: Path, data: Path) -> None:
    (tmp_path / "clip.gif").write_bytes((data / "video" / "classroom.gif").read_bytes())
    with open_source(tmp_path / "clip.gif") as source:
        check_outputs([tmp_path], source.info)


def test_a_window_without_a_display_is_an_error_and_no_abort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(VideoError, match="there is no display"):
        WindowSink("x")


def test_bytes_behind_the_end_do_not_make_a_file_a_broken_one(tmp_path: Path, with_sound: Path) -> None:
    (tmp_path / "tail.mp4").write_bytes(with_sound.read_bytes() + b"\n")
    assert len(levels(tmp_path / "tail.mp4")) == 50


@pytest.mark.parametrize("fps", [0.0, -1.0, 1e9, float("nan")])
def test_rates_that_cannot_be_are_refused(fps: float) -> None:
    with pytest.raises(VideoError, match="frame rate must be above 0 and at most 960"):
        open_source("-", size=(64, 48), fps=fps)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows can't wait for a pipe")
def test_closing_ends_the_reading_of_a_pipe_on_which_nothing_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.write(write, gray(5).tobytes() + b"a part of the second frame")
    with os.fdopen(read, "rb") as pipe, os.fdopen(write, "wb"):
        monkeypatch.setattr(sys, "stdin", type("Pipe", (), {"buffer": pipe}))
        source = open_source("-", size=(64, 48))
        frames = iter(source)
        assert next(frames).number == 1
        threading.Timer(0.3, source.close).start()
        start = time.monotonic()
        assert next(frames, None) is None
        assert time.monotonic() - start < 3


def test_a_password_in_an_address_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(place: str, name: str) -> None:
        assert place == "rtsp://user:secret@camera/1"
        raise VideoError(f"{name}: cannot be opened")

    monkeypatch.setattr(sources, "VideoReader", refuse)
    with pytest.raises(VideoError, match=r"^rtsp://camera/1: cannot be opened$"):
        open_source("rtsp://user:secret@camera/1")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("rtsp://user:secret@camera/1", "rtsp://camera/1"),
        ("rtsp://user:se@cret@camera:554/1", "rtsp://camera:554/1"),
        ("rtsp://user:sec/ret@camera/1", "rtsp://camera/1"),
        ("rtsp://user:s@e/c@r/et@camera/1", "rtsp://camera/1"),
        ("rtsp://user:5/secret@camera/1", "rtsp://camera/1"),
        ("http://token@host/a.mp4", "http://host/a.mp4"),
        ("rtsp://camera/user=admin&password=secret&channel=1", "rtsp://camera/user=***&password=***&channel=1"),
        ("http://h/v?pwd=secret&token=secret", "http://h/v?pwd=***&token=***"),
        ("http://h/v?api-key=secret&X-Amz-Signature=secret&n=1", "http://h/v?api-key=***&X-Amz-Signature=***&n=1"),
        ("srt://h:1?passphrase=sec/ret#x&mode=caller", "srt://h:1?passphrase=***&mode=caller"),
        ("rtsp://camera/user=admin_password=secret_channel=1", "rtsp://camera/user=***"),
        ("https://host/@somebody/a.mp4?t=3", "https://host/@somebody/a.mp4?t=3"),
        ("http://host:8080/a.mp4", "http://host:8080/a.mp4"),
    ],
)
def test_no_message_holds_a_password(address: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sources.public_name(address) == shown

    def refuse(place: str, name: str) -> None:
        assert place == address
        raise VideoError(f"{name}: cannot be opened")

    monkeypatch.setattr(sources, "VideoReader", refuse)
    with pytest.raises(VideoError) as error:
        open_source(address)
    assert str(error.value) == f"{shown}: cannot be opened"


def test_a_file_that_a_server_cuts_off_is_told(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (75, 48, 64, 3), np.uint8)
    write_all(tmp_path / "whole.mkv", list(noise), [i / 25 for i in range(75)])
    data = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    handler = functools.partial(_Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        assert len(list(open_source(f"{address}/whole.mkv"))) == 75
        with pytest.raises(VideoError, match=r"cut\.mkv: ends early, after frame \d+, at \d\.\d of 3\.0 seconds"):
            list(open_source(f"{address}/cut.mkv"))
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...
