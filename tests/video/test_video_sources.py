"""Readers of video files: every frame, its time, its way up, its colors; damage; what is no video."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from video_samples import noise, number_in, numbered, opencv_numbers, set_matrix, write_video

from facedet_mm.errors import VideoError
from facedet_mm.video.clock import Clock
from facedet_mm.video.containers import is_truncated
from facedet_mm.video.frame import Frame
from facedet_mm.video.geometry import fit
from facedet_mm.video.reader import Reader
from facedet_mm.video.sources import open_source
from facedet_mm.video.video_reader import VideoReader

CONTAINERS = {
    ".mp4": {},
    ".mov": {},
    ".mkv": {},
    ".avi": {"codec": "mpeg4"},
    ".webm": {"codec": "libvpx"},
    ".ts": {"format": "mpegts"},
}


def read_until_it_breaks(reader: Reader) -> tuple[list[Frame], str]:
    """All frames, and the error after them."""
    frames: list[Frame] = []
    with pytest.raises(VideoError) as error:
        frames.extend(reader.frames())
    reader.close()
    return frames, str(error.value)


@pytest.mark.parametrize("suffix", CONTAINERS)
def test_every_frame_comes_once_in_order_at_its_time(tmp_path: Path, suffix: str) -> None:
    path = write_video(tmp_path / f"v{suffix}", map(numbered, range(1, 61)), **CONTAINERS[suffix])
    reader = VideoReader(path, "v")
    frames = list(reader.frames())
    assert [number_in(frame.image) for frame in frames] == list(range(1, 61))
    assert [frame.number for frame in frames] == list(range(1, 61))
    assert [frame.time for frame in frames] == pytest.approx([i / 25 for i in range(60)], abs=1e-6)
    assert (reader.info.width, reader.info.height, reader.info.total_frames) == (64, 48, 60)
    assert reader.info.fps == pytest.approx(25)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("start", [0.0, 2.5])
def test_a_varying_rate_gives_the_times_of_the_container_from_the_first_frame_on(
    tmp_path: Path, suffix: str, start: float
) -> None:
    times = [0.0, 0.04, 0.05, 0.5, 0.54, 1.3, 1.301, 4.0]
    path = write_video(tmp_path / f"v{suffix}", map(numbered, range(8)), [start + time for time in times])
    frames = list(VideoReader(path, "v").frames())
    assert [frame.time for frame in frames] == pytest.approx(times, abs=2e-3)
    assert [number_in(frame.image) for frame in frames] == list(range(8))


@pytest.mark.parametrize("clip", ["portrait.mp4", "scene_cuts.mp4", "again.mkv", "classroom.gif"])
def test_the_times_of_real_clips_are_those_of_their_packets(data: Path, clip: str) -> None:
    with av.open(str(data / "video" / clip)) as container:
        stream = container.streams.video[0]
        stamps = sorted(float(packet.pts * packet.time_base) for packet in container.demux(stream) if packet.size)
    frames = list(VideoReader(data / "video" / clip, clip).frames())
    assert [frame.time for frame in frames] == pytest.approx([stamp - stamps[0] for stamp in stamps], abs=1e-6)
    assert [frame.number for frame in frames] == list(range(1, len(stamps) + 1))


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((1, 0, 0, 1), lambda image: image),
        ((0, 1, -1, 0), lambda image: cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE)),
        ((-1, 0, 0, -1), lambda image: cv2.rotate(image, cv2.ROTATE_180)),
        ((0, -1, 1, 0), lambda image: cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE)),
        ((-1, 0, 0, 1), lambda image: cv2.flip(image, 1)),
        ((0, 1, 1, 0), cv2.transpose),
    ],
)
def test_frames_come_upright_whichever_way_the_camera_was_held(
    tmp_path: Path, matrix: tuple[int, int, int, int], shown: Callable[[np.ndarray], np.ndarray]
) -> None:
    path = write_video(tmp_path / "v.mp4", [numbered(77)] * 3, options={"crf": "1"})
    set_matrix(path, *matrix)
    reader = VideoReader(path, "v")
    expected = shown(numbered(77))
    for frame in reader.frames():
        assert frame.image.shape == expected.shape
        assert np.abs(frame.image.astype(int) - expected).mean() < 6
    assert (reader.info.height, reader.info.width) == expected.shape[:2]


def test_colors_follow_the_tags_of_the_file(tmp_path: Path) -> None:
    red, green, blue = 60, 180, 40  # by BT.709: Y = 0.2126 R + 0.7152 G + 0.0722 B, Cb and Cr the scaled differences
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    y, cb, cr = 16 + luma * 219 / 255, 128 + (blue - luma) / 1.8556 * 224 / 255, 128 + (red - luma) / 1.5748 * 224 / 255
    planes = np.concatenate([np.full(64 * 48, round(y)), np.full(768, round(cb)), np.full(768, round(cr))])
    frame = av.VideoFrame.from_ndarray(planes.astype(np.uint8).reshape(72, 64), format="yuv420p")
    with av.open(str(tmp_path / "v.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"qp": "1"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.colorspace, stream.codec_context.color_range = 1, 1
        frame.colorspace, frame.color_range = 1, 1
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    (image,) = [frame.image for frame in VideoReader(tmp_path / "v.mp4", "v").frames()]
    assert np.abs(image.reshape(-1, 3).mean(axis=0) - (blue, green, red)).max() < 3


@pytest.mark.parametrize(
    ("suffix", "codec", "pix_fmt"), [(".avi", "ffv1", "gray"), (".mov", "png", "rgba"), (".mkv", "ffv1", "yuv422p10le")]
)
def test_gray_alpha_and_deep_images_become_eight_bit_bgr(tmp_path: Path, suffix: str, codec: str, pix_fmt: str) -> None:
    path = write_video(tmp_path / f"v{suffix}", map(numbered, range(5)), codec=codec, pix_fmt=pix_fmt)
    frames = list(VideoReader(path, "v").frames())
    assert [number_in(frame.image) for frame in frames] == list(range(5))
    assert {(frame.image.shape, frame.image.dtype.name) for frame in frames} == {((48, 64, 3), "uint8")}


@pytest.mark.parametrize("size", [(63, 47), (1, 1), (17, 200)])
def test_odd_sizes_come_as_they_are(tmp_path: Path, size: tuple[int, int]) -> None:
    images = [np.full((size[1], size[0], 3), 50 * i, np.uint8) for i in range(4)]
    path = write_video(tmp_path / "v.mkv", images, codec="ffv1", pix_fmt="bgr0")
    frames = list(VideoReader(path, "v").frames())
    assert [frame.image.shape for frame in frames] == [(size[1], size[0], 3)] * 4
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [0, 50, 100, 150]


def test_oblong_pixels_become_square(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "v.mp4"), "w") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = 2
        out.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(9), format="bgr24")))
        out.mux(stream.encode())
    reader = VideoReader(tmp_path / "v.mp4", "v")
    (frame,) = reader.frames()
    assert (reader.info.width, reader.info.height) == (128, 48)
    assert (frame.image.shape, number_in(frame.image)) == ((48, 128, 3), 9)


def test_a_change_of_size_is_fitted_into_the_first_size(tmp_path: Path) -> None:
    first = write_video(tmp_path / "a.ts", [numbered(1)] * 5, format="mpegts")
    second = write_video(tmp_path / "b.ts", [numbered(2, 64, 96)] * 5, format="mpegts")
    (tmp_path / "ab.ts").write_bytes(first.read_bytes() + second.read_bytes())
    frames = list(VideoReader(tmp_path / "ab.ts", "ab").frames())
    assert {frame.image.shape for frame in frames} == {(48, 64, 3)}
    assert [number_in(frame.image) for frame in frames[:5]] == [1] * 5
    assert all(number_in(frame.image[:, 16:48]) == 2 for frame in frames[5:])
    assert max(frames[-1].image[:, :14].max(), frames[-1].image[:, 50:].max()) == 0
    assert np.diff([frame.time for frame in frames]).min() > 0
    assert len(frames) == 10


def test_the_clock_never_goes_back_and_does_not_drift() -> None:
    clock = Clock(fps=10)
    assert [clock(stamp) for stamp in (5.0, 5.1, 5.1, 5.3)] == pytest.approx([0.0, 0.1, 0.101, 0.3])
    assert [clock(stamp) for stamp in (None, 0.0, 0.2)] == pytest.approx([0.4, 0.5, 0.7])


def test_an_image_of_the_right_size_is_not_copied() -> None:
    image = numbered(3)
    assert fit(image, 64, 48) is image


class TestDamage:
    @pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".webm"])
    def test_a_cut_file_gives_what_is_there_and_says_so(self, tmp_path: Path, suffix: str) -> None:
        options = {"options": {"movflags": "faststart"}} if suffix == ".mp4" else {}
        codec = CONTAINERS[suffix].get("codec", "libx264")
        with av.open(str(tmp_path / f"whole{suffix}"), "w", **options) as out:
            stream = out.add_stream(codec, rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for image in noise(60):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
            out.mux(stream.encode())
        data = (tmp_path / f"whole{suffix}").read_bytes()
        path = tmp_path / f"cut{suffix}"
        path.write_bytes(data[: len(data) * 7 // 10])
        frames, message = read_until_it_breaks(VideoReader(path, "cut"))
        whole = list(VideoReader(tmp_path / f"whole{suffix}", "whole").frames())
        assert 30 < len(frames) < 45
        assert all(np.array_equal(a.image, b.image) for a, b in zip(frames, whole, strict=False))
        assert f"cut: ends early, after frame {len(frames)}: the rest of the file is missing" in message
        assert len(whole) == 60

    @pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
    def test_a_hole_in_the_middle_is_reported_after_all_that_can_be_decoded(self, tmp_path: Path, suffix: str) -> None:
        path = write_video(tmp_path / f"v{suffix}", noise(60), **CONTAINERS[suffix])
        data = bytearray(path.read_bytes())
        data[len(data) // 2 : len(data) // 2 + 4000] = bytes(4000)
        path.write_bytes(data)
        frames, message = read_until_it_breaks(VideoReader(path, "v"))
        assert 25 < len(frames) < 60
        assert suffix == ".mkv" or len(frames) > 52
        assert "damaged" in message
        assert str(len(frames)) in message or suffix == ".avi"

    def test_a_cut_gif_says_so(self, tmp_path: Path, data: Path) -> None:
        whole = (data / "video" / "classroom.gif").read_bytes()
        (tmp_path / "cut.gif").write_bytes(whole[: len(whole) // 2])
        frames, message = read_until_it_breaks(VideoReader(tmp_path / "cut.gif", "cut"))
        assert 10 < len(frames) < 35
        assert f"ends early, after frame {len(frames)}" in message

    @pytest.mark.parametrize("suffix", CONTAINERS)
    def test_no_whole_file_is_taken_for_cut_or_damaged(self, tmp_path: Path, suffix: str) -> None:
        for name, size, times in (("short", 1, None), ("slow", 3, [0.0, 10.0, 20.0])):
            path = tmp_path / f"{name}{suffix}"
            write_video(path, map(numbered, range(size)), None if suffix == ".avi" else times, **CONTAINERS[suffix])
            assert not is_truncated(path)
            assert len(list(VideoReader(path, "v").frames())) == size

    def test_the_64_bit_sizes_of_large_mp4_files_count(self, tmp_path: Path) -> None:
        path, head = tmp_path / "v.mp4", (16).to_bytes(4, "big") + b"ftypisom" + bytes(4)
        mdat = (1).to_bytes(4, "big") + b"mdat" + (116).to_bytes(8, "big") + bytes(100)
        for missing, truncated in ((0, False), (1, True)):
            path.write_bytes((head + mdat)[: len(head + mdat) - missing])
            assert is_truncated(path) == truncated

    def test_an_mp4_without_its_index_is_called_cut(self, tmp_path: Path) -> None:
        path = write_video(tmp_path / "v.mp4", noise(20))
        path.write_bytes(path.read_bytes()[:-900])
        with pytest.raises(VideoError, match=r"v: the end of the file is missing, and with it the index"):
            VideoReader(path, "v")

    @pytest.mark.parametrize(
        ("name", "content", "words"),
        [
            ("notes.txt", b"no image moves here\n" * 60, "notes.txt: not a video: this is a text file"),
            ("random.mp4", np.random.default_rng(1).bytes(5000), "not a video: FFmpeg does not recognize"),
            ("v.mkv", b"\x1a\x45\xdf\xa3" + bytes(400), "matroska"),
        ],
    )
    def test_what_is_no_video_is_refused(self, tmp_path: Path, name: str, content: bytes, words: str) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(VideoError, match=words):
            VideoReader(tmp_path / name, name)

    def test_sound_alone_is_no_video(self, tmp_path: Path) -> None:
        with av.open(str(tmp_path / "song.m4a"), "w", format="mp4") as out:
            stream = out.add_stream("aac", rate=44100, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 44100
            out.mux(stream.encode(frame))
            out.mux(stream.encode())
        with pytest.raises(VideoError, match="not a video: it contains only audio"):
            VideoReader(tmp_path / "song.m4a", "song")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda folder: folder / "missing.mp4", "no such file"),
        (lambda folder: folder, "no images in this folder"),
        (lambda folder: str(folder / "*.png"), "no file matches this pattern"),
        (lambda folder: (folder / "empty.mp4", (folder / "empty.mp4").touch())[0], r"empty file \(0 bytes\)"),
        (lambda _: 98, "camera 98: no such camera"),
        (lambda _: "http://127.0.0.1:9/x.mp4", "Connection refused; check the address"),
    ],
)
def test_what_cannot_be_opened_is_named_with_the_reason(
    tmp_path: Path, make: Callable[[Path], str | Path | int], words: str
) -> None:
    with pytest.raises(VideoError, match=words):
        open_source(make(tmp_path))


def test_a_colon_or_percent_sign_in_a_name_is_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = write_video(tmp_path / "v.mp4", map(numbered, range(3))).rename("a:b%02d.mp4")
    assert [number_in(frame.image) for frame in VideoReader(Path(path.name), "v").frames()] == [0, 1, 2]


def test_opencv_reads_the_same_frames(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", map(numbered, range(12)))
    with open_source(path) as source:
        assert [number_in(frame.image) for frame in source] == list(range(12)) == opencv_numbers(path)
        assert source.info.audio is None


def test_closing_from_another_thread_ends_the_iteration(tmp_path: Path) -> None:
    path, seen = write_video(tmp_path / "v.mp4", map(numbered, range(200))), 0
    source = open_source(path)
    for frame in source:
        seen = frame.number
        if frame.number == 5:
            closer = threading.Thread(target=source.close)
            closer.start()
            closer.join()
    assert seen == 5


class FakeCapture:
    """A camera with two images, which is then unplugged."""

    def __init__(self, number: int) -> None:
        self.number, self.images, self.settings = number, [numbered(1), numbered(2)], {cv2.CAP_PROP_FPS: 15.0}
        self.released = False

    def isOpened(self) -> bool:
        return True

    def read(self) -> tuple[bool, np.ndarray | None]:
        return (True, self.images.pop(0)) if self.images else (False, None)

    def set(self, setting: int, value: float) -> None:
        self.settings[setting] = value

    def get(self, setting: int) -> float:
        return self.settings[setting]

    def release(self) -> None:
        self.released = True


def test_a_camera_is_asked_for_size_and_rate_and_says_when_it_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    captures: list[FakeCapture] = []
    monkeypatch.setattr(cv2, "VideoCapture", lambda number: captures.append(FakeCapture(number)) or captures[0])
    source, seen = open_source(97, size=(64, 48), fps=60), []
    with pytest.raises(VideoError, match="camera 97: the camera returns no more images after frame 2; check that"):
        seen.extend(number_in(frame.image) for frame in source)
    (capture,) = captures
    assert (capture.number, capture.released) == (97, True)
    assert capture.settings == {cv2.CAP_PROP_FPS: 60, cv2.CAP_PROP_FRAME_WIDTH: 64, cv2.CAP_PROP_FRAME_HEIGHT: 48}
    assert (source.info.name, source.info.fps, source.info.live) == ("camera 97", 60, True)
    assert source.info.total_frames is None
    assert seen[-1] == 2
    assert len(seen) + source.dropped == 2


def test_nothing_is_written_to_standard_error(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", noise(30))
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = bytes(3000)
    path.write_bytes(data)
    script = (
        "import sys; from pathlib import Path; from facedet_mm.errors import VideoError\n"
        "from facedet_mm.video.camera_reader import CameraReader\n"
        "from facedet_mm.video.video_reader import VideoReader\n"
        "for reader, place in ((VideoReader, Path(sys.argv[1])), (CameraReader, 98)):\n"
        "    try: print(len(list(reader(place, 'v').frames())))\n"
        "    except VideoError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert done.stdout.count("damaged") == 1
    assert "no such camera" in done.stdout
    assert done.stderr == ""
