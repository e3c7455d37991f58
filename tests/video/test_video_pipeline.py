"""``VideoFaceDetector``: numbers, ids, files, and what is left when something breaks."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest

from facedet_mm import Faces, VideoFaceDetector, build_detector
from facedet_mm.cli import main
from facedet_mm.detectors import DetectorOptions
from facedet_mm.errors import FaceDetError, VideoError
from facedet_mm.video import pipeline
from facedet_mm.video.face_stream import FaceStream, StreamOptions
from facedet_mm.video.frame import Frame, SourceInfo
from facedet_mm.video.reader import Reader, Source
from facedet_mm.video.sources import open_source
from facedet_mm.zoo import MODELS, asset_path

CLIP = asset_path("four_people.mp4")


class FakeDetector:
    """Sees what a list says, a frame after the other; its model's own threshold is 0.6."""

    def __init__(self, frames: Iterable[Faces], score_thr: float | None = 0.1) -> None:
        self._frames = iter(frames)
        self.options = DetectorOptions(score_thr=0.6 if score_thr is None else score_thr)

    def replace(self, score_thr: float | None) -> FakeDetector:
        return FakeDetector(self._frames, score_thr)

    def detect(self, image: object) -> Faces:  # noqa: ARG002
        return next(self._frames)

    def detect_batch(self, images: list[object]) -> list[Faces]:
        return [self.detect(image) for image in images]


def noise(seed: int, height: int = 90, width: int = 160) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 16, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)


def frames_of(path: Path) -> list[np.ndarray]:
    capture, frames = cv2.VideoCapture(str(path)), []
    while (answer := capture.read())[0]:
        frames.append(answer[1])
    return frames


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def video() -> VideoFaceDetector:
    return VideoFaceDetector(keyframes=5)


@pytest.fixture(scope="module")
def done(video: VideoFaceDetector, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Path]:
    folder = tmp_path_factory.mktemp("done")
    outputs = [folder / name for name in ("v.mp4", "v.mkv", "f.jsonl", "f.csv", "f.txt", "images")]
    return video.process_video(CLIP, outputs), folder


def test_the_summary_counts_what_the_files_hold(done: tuple[dict, Path]) -> None:
    summary, folder = done
    rows = records(folder / "f.jsonl")
    faces = [face for row in rows for face in row["faces"]]
    assert summary["total_frames"] == len(rows) == 150
    assert summary["detected_frames"] <= 150 / 5 + 5
    assert summary["total_faces"] == len(faces)
    assert summary["avg_faces_per_frame"] == pytest.approx(len(faces) / 150)
    assert summary["unique_faces"] == 4
    assert {face["track_id"] for face in faces} - {-1} == {1, 2, 3, 4}
    assert summary["stopped"] is None
    assert summary["video_seconds"] == pytest.approx(149 / 30, abs=1e-3)
    assert summary["avg_fps"] == pytest.approx(150 / summary["seconds"])


def test_each_of_four_people_keeps_one_id_in_all_frames(done: tuple[dict, Path]) -> None:
    _, folder = done
    quarters: dict[tuple[bool, bool], set[int]] = {}
    for row in records(folder / "f.jsonl"):
        ids = [face["track_id"] for face in row["faces"] if face["track_id"] > 0]
        assert len(ids) == len(set(ids)) == 4
        for face in row["faces"]:
            x1, y1, x2, y2 = face["box"]
            if face["track_id"] > 0:
                quarters.setdefault(((x1 + x2) / 2 > 480, (y1 + y2) / 2 > 360), set()).add(face["track_id"])
    assert sorted(map(len, quarters.values())) == [1, 1, 1, 1]


def test_all_files_agree_frame_by_frame_from_one_on(done: tuple[dict, Path]) -> None:
    _, folder = done
    rows = records(folder / "f.jsonl")
    assert [row["frame"] for row in rows] == list(range(1, 151))
    assert [row["time"] for row in rows] == pytest.approx([i / 30 for i in range(150)], abs=1e-3)
    csv = [line.split(",") for line in (folder / "f.csv").read_text().splitlines()[1:]]
    assert [(int(f), float(x), i) for f, _, x, _, _, _, _, i, *_ in csv] == [
        (row["frame"], face["box"][0], str(face["track_id"]) if face["track_id"] > 0 else "")
        for row in rows
        for face in row["faces"]
    ]
    mot = [line.split(",") for line in (folder / "f.txt").read_text().splitlines()]
    assert [(int(f), int(i)) for f, i, *_ in mot] == [
        (row["frame"], face["track_id"]) for row in rows for face in row["faces"] if face["track_id"] > 0
    ]


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv"])
def test_the_written_video_shows_every_frame_with_its_boxes(done: tuple[dict, Path], name: str) -> None:
    _, folder = done
    before, after = frames_of(CLIP), frames_of(folder / name)
    assert len(after) == 150
    for i in (0, 75, 149):
        changed = np.abs(after[i].astype(int) - before[i]).max(axis=2) > 60
        x1, y1, _, y2 = map(int, records(folder / "f.jsonl")[i]["faces"][0]["box"])
        assert changed[y1 : y2 + 1, x1 - 2 : x1 + 3].any(axis=1).mean() > 0.8
        assert np.abs(after[i].astype(int) - before[i])[:30].mean() < 3
    assert len(list((folder / "images").iterdir())) == 150
    assert np.abs(frames_of(folder / "v.mp4")[9].astype(int) - cv2.imread(str(folder / "images/000010.jpg"))).mean() < 4


def test_the_iterator_gives_frames_with_faces_in_order(video: VideoFaceDetector) -> None:
    numbers = []
    for frame, faces in video.stream(CLIP):
        numbers.append(frame.number)
        assert isinstance(faces, Faces)
        if frame.number == 20:
            break
    assert numbers == list(range(1, 21))
    assert not [t for t in threading.enumerate() if t.name == "facedet-prefetch"]


def test_without_tracking_there_are_no_ids_and_nothing_is_smoothed() -> None:
    video = VideoFaceDetector(use_tracking=False, input_size=640)
    plain = build_detector()
    for (frame, faces), _ in zip(video.stream(CLIP), range(3), strict=False):
        assert faces.track_ids is None
        assert np.array_equal(faces.boxes, plain.detect(frame.image).boxes)


def test_a_face_at_rest_is_smoothed_and_anew_after_a_cut() -> None:
    random = np.random.default_rng(0)
    seen = [np.array([[10, 10, 50, 60]]) + random.normal(0, 1, (1, 4)) for _ in range(90)]
    seen += [box + 60 for box in seen[:10]]
    shots = [0] * 90 + [1] * 10
    plain, smooth = (
        [stream.update(Frame(noise(shot), i + 1, i / 30)).boxes[0] for i, shot in enumerate(shots)]
        for stream in (
            FaceStream(FakeDetector([Faces(box, [0.9]) for box in seen]), StreamOptions(smoothing=on), fps=30)
            for on in (False, True)
        )
    )
    assert np.allclose(plain, np.concatenate(seen), atol=1e-4)
    jitter = [np.diff(path[30:90], 2, axis=0).std() for path in (plain, smooth)]
    assert jitter[1] < jitter[0] / 3
    assert np.abs(np.array(smooth[90:]) - [70, 70, 110, 120]).max() < 4


def test_a_face_that_blinks_is_tracked_by_its_weak_detections_and_untracked_ones_need_a_good_score() -> None:
    strong, weak = Faces([[10, 10, 50, 60]], [0.9]), Faces([[10, 10, 50, 60], [100, 10, 130, 40]], [0.3, 0.3])
    stream = FaceStream(FakeDetector([strong, strong, weak, weak, strong]), StreamOptions(), fps=30)
    found = [stream.update(Frame(noise(0), i + 1, i / 30)) for i in range(5)]
    assert [faces.track_ids.tolist() for faces in found] == [[1]] * 5


def test_ids_are_not_carried_over_a_cut_and_go_on_from_the_last() -> None:
    face = Faces([[10, 10, 50, 60]], [0.9])
    stream = FaceStream(FakeDetector([face] * 12), StreamOptions(), fps=30)
    shots = [0] * 5 + [1] * 5
    ids = [stream.update(Frame(noise(shot), i + 1, i / 30)).track_ids.tolist() for i, shot in enumerate(shots)]
    assert ids[:5] == [[1]] * 5
    assert ids[5] == [-1]
    assert ids[6:] == [[2]] * 4


def test_gaps_are_filled_in_the_right_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = [Faces([[10 + 2 * i, 10, 50 + 2 * i, 60]], [0.9]) for i in range(10)]
    for missed in (4, 5):
        seen[missed] = Faces.empty()
    monkeypatch.setattr(pipeline, "open_detector", lambda _: FakeDetector(seen))
    source = fake_source([noise(0)] * 10)
    video = VideoFaceDetector(fill_gaps=3, use_smoothing=False)
    found = list(video.stream(source))
    assert [frame.number for frame, _ in found] == list(range(1, 11))
    assert [faces.boxes[0, 0] for _, faces in found] == pytest.approx([10 + 2 * i for i in range(10)], abs=0.01)


def test_every_face_of_every_frame_is_hidden_in_the_written_video(tmp_path: Path) -> None:
    VideoFaceDetector(anonymize="fill", keyframes=5).process_video(CLIP, tmp_path / "h.mp4")
    detector = build_detector()
    for before, after in list(zip(frames_of(CLIP), frames_of(tmp_path / "h.mp4"), strict=True))[::7]:
        faces = detector.detect(before)
        assert len(faces) >= 4
        for x1, y1, x2, y2 in faces[:4].boxes:
            w, h = x2 - x1, y2 - y1
            inner = after[int(y1 + h / 5) : int(y2 - h / 5), int(x1 + w / 5) : int(x2 - w / 5)]
            assert inner.mean() < 12


class _Reader(Reader):
    """Frames from memory; breaks off with ``error``."""

    def __init__(self, images: list[np.ndarray], error: Exception | None = None) -> None:
        self.info = SourceInfo("memory", images[0].shape[1], images[0].shape[0], 30.0, len(images))
        self._images, self._error = images, error

    def frames(self) -> Iterator[Frame]:
        for i, image in enumerate(self._images):
            yield Frame(image, i + 1, i / 30)
        if self._error:
            raise self._error

    def close(self) -> None:
        pass


def fake_source(images: list[np.ndarray], error: Exception | None = None):
    return Source(_Reader(images, error))  # type: ignore[arg-type]


class TestWhatBreaksOff:
    def test_a_truncated_video_ends_in_a_playable_file_and_status_1(self, tmp_path: Path, capsys) -> None:
        whole = tmp_path / "whole.mkv"
        VideoFaceDetector(use_tracking=False).process_video(CLIP, whole)
        cut = tmp_path / "cut.mkv"
        cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        capsys.readouterr()
        assert main(["video", str(cut), "--out", str(tmp_path / "o.mp4"), str(tmp_path / "o.jsonl")]) == 1
        out, err = capsys.readouterr()
        count = len(records(tmp_path / "o.jsonl"))
        assert 30 < count < 150
        assert len(frames_of(tmp_path / "o.mp4")) == count
        assert f"{count} frames" in out
        assert "stopped early" in err
        assert "cut.mkv" in err
        assert f"frame {count}" in err

    def test_ctrl_c_finishes_the_files_and_gives_status_130(self, tmp_path: Path, monkeypatch, capsys) -> None:
        class Interrupting:
            closed = False

            def __init__(self, title: str) -> None:
                assert "four_people" in title

            def write(self, frame: Frame, *_: object) -> None:
                if frame.number == 25:
                    raise KeyboardInterrupt

            def close(self) -> None:
                pass

        monkeypatch.setattr(pipeline, "WindowSink", Interrupting)
        status = main(["video", str(CLIP), "--show", "--keyframes", "5", "--out", str(tmp_path / "o.mp4")])
        assert status == 130
        assert len(frames_of(tmp_path / "o.mp4")) == 25
        assert "stopped early: interrupted" in capsys.readouterr().err
        assert [path.name for path in tmp_path.iterdir()] == ["o.mp4"]

    def test_gap_filling_gives_its_last_frames_when_a_video_breaks_off(self, monkeypatch) -> None:
        monkeypatch.setattr(pipeline, "open_detector", lambda _: FakeDetector([Faces.empty()] * 9))
        video, numbers = VideoFaceDetector(fill_gaps=4), []
        with pytest.raises(VideoError, match="gone"):
            numbers.extend(f.number for f, _ in video.stream(fake_source([noise(0)] * 9, VideoError("gone"))))
        assert numbers == list(range(1, 10))

    def test_an_error_that_is_kept_keeps_no_stage_running(self, monkeypatch) -> None:
        class Full:
            closed, error = False, None

            def write(self, *_: object) -> None:
                self.error = self.error or VideoError("full")
                raise self.error

            def close(self) -> None: ...

            abort = close

        sink = Full()
        monkeypatch.setattr(pipeline, "open_sink", lambda *_: sink)
        summary = VideoFaceDetector().process_video(fake_source([noise(0)] * 30), "o.mkv")
        assert summary["stopped"] == "full"
        assert sink.error.__traceback__ is not None  # which leads to the frame of the loop, and that to its stages
        assert [thread.name for thread in threading.enumerate() if thread.name.startswith("facedet")] == []

    def test_a_full_disk_leaves_whole_lines_and_a_playable_video(self, tmp_path: Path) -> None:
        code = (
            "import resource, signal, sys; from facedet_mm.cli import main;"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000));"
            f"sys.exit(main(['video', {str(CLIP)!r}, '--keyframes', '5', '--out', 'o.mkv', 'o.jsonl']))"
        )
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 1
        assert "stopped early: cannot write o." in done.stderr
        assert "Traceback" not in done.stderr
        rows = records(tmp_path / "o.jsonl")
        assert 5 < len(rows) < 150
        assert len(frames_of(tmp_path / "o.mkv")) > 0
        assert sorted(path.name for path in tmp_path.iterdir()) == ["o.jsonl", "o.mkv"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["gone.mp4"], "gone.mp4: no such file"),
        (["{clip}", "--out", "o.docx"], "o.docx: cannot write .docx files"),
        (["{clip}", "--no-tracking", "--keyframes", "5"], "keyframes need tracking"),
        (["{clip}", "--no-tracking", "--fill-gaps", "5"], "fill_gaps needs tracking"),
        (["{notes}"], "notes.mp4: "),
        (["{empty}"], "empty.mp4: empty file (0 bytes)"),
        (["-"], "--raw-size WxH"),
        (["99"], "camera 99: no such camera"),
        (["*.nothing"], "*.nothing: no file matches"),
    ],
)
def test_a_users_mistake_is_one_line(words, message: str, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notes.mp4").write_text("no video at all")
    Path("empty.mp4").touch()
    names = dict(clip=CLIP, notes="notes.mp4", empty="empty.mp4")
    assert main(["video", *(word.format(**names) for word in words)]) == 1
    err = capsys.readouterr().err
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty.mp4", "notes.mp4"]


def test_a_video_is_not_written_over_itself(tmp_path: Path) -> None:
    copy = tmp_path / "c.mp4"
    copy.write_bytes(CLIP.read_bytes())
    with pytest.raises(FaceDetError, match=r"would overwrite .*c\.mp4, which is an input"):
        VideoFaceDetector().process_video(copy, copy)
    assert copy.read_bytes() == CLIP.read_bytes()


def test_a_path_alone_and_a_name_alone_make_the_detector(data: Path) -> None:
    onnx = data / "weights" / "scrfd_500m_bnkps.onnx"
    for video in (VideoFaceDetector(str(onnx)), VideoFaceDetector(onnx, "scrfd_0.5g_kps", "cpu", True, True)):
        _, faces = next(iter(video.stream(CLIP)))
        assert len(faces) == 4
    with pytest.raises(FaceDetError, match="facedet models fetch"):
        VideoFaceDetector(model_name="scrfd_34g")


def test_all_options_of_the_detector_reach_it_and_the_input_size_is_auto_by_default(monkeypatch) -> None:
    def opened(options: DetectorOptions) -> SimpleNamespace:
        return SimpleNamespace(options=options, replace=lambda **changes: dataclasses.replace(options, **changes))

    monkeypatch.setattr(pipeline, "open_detector", opened)
    assert VideoFaceDetector().detector == DetectorOptions(score_thr=0.1, input_size="auto")
    wanted = dict(iou_thr=0.3, input_size=320, max_faces=5, tiles=(640, 640), threads=2, precision="int8")
    video = VideoFaceDetector("w.onnx", "scrfd_1g", "tensorrt", False, score_thr=0.6, **wanted)
    assert video.detector == DetectorOptions("scrfd_1g", "w.onnx", "tensorrt", score_thr=0.6, **wanted)
    with pytest.raises(TypeError, match="speed"):
        VideoFaceDetector(speed=2)


def test_without_a_threshold_the_models_own_counts_for_faces_without_a_track() -> None:
    own = MODELS["yunet_n"].score_thr
    video, untracked = VideoFaceDetector(), VideoFaceDetector(use_tracking=False)
    assert (video.options.score_thr, video.detector.options.score_thr) == (own, 0.1)
    assert (untracked.options.score_thr, untracked.detector.options.score_thr) == (own, own)
    explicit = VideoFaceDetector(score_thr=0.3), VideoFaceDetector(use_tracking=False, score_thr=0.0)
    assert [v.options.score_thr for v in explicit] == [0.3, 0.0]
    assert [v.detector.options.score_thr for v in explicit] == [0.1, 0.0]


@pytest.mark.parametrize(("score_thr", "shown"), [(None, 1), (0.5, 2), (0.0, 3)])
def test_a_stream_asks_the_detector_for_the_models_own_threshold(score_thr: float | None, shown: int) -> None:
    boxes = [[10, 10, 50, 60], [70, 10, 110, 60], [120, 10, 150, 60]]
    found = Faces(boxes, [0.65, 0.55, 0.2])
    stream = FaceStream(FakeDetector([Faces([], []), found]), StreamOptions(score_thr=score_thr), fps=30)
    stream.update(Frame(noise(0), 1, 0.0))
    assert len(stream.update(Frame(noise(0), 2, 1 / 30))) == shown


def test_every_frame_of_a_file_is_seen_once() -> None:
    with open_source(CLIP) as source:
        assert [frame.number for frame in source] == list(range(1, 151))
        assert source.dropped == 0


@pytest.mark.parametrize(
    "options", [{"fill_gaps": -1}, {"fill_gaps": 2.5}, {"anonymize": "melt"}, {"score_thr": 2}, {"iou_thr": -1}]
)
def test_options_that_cannot_be_are_refused_at_once(options: dict) -> None:
    with pytest.raises(FaceDetError, match=next(iter(options))):
        VideoFaceDetector(**options)


def test_a_source_without_frames_is_an_error_and_leaves_what_was_there(tmp_path: Path, monkeypatch, capsys) -> None:
    old = tmp_path / "old.mp4"
    old.write_bytes(b"a good film")
    with open("/dev/null", "rb") as nothing:
        monkeypatch.setattr(sys, "stdin", type("Pipe", (), {"buffer": nothing}))
        assert main(["video", "-", "--raw-size", "64x48", "--out", str(old)]) == 1
    assert "no frame could be read" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["old.mp4"]
    assert old.read_bytes() == b"a good film"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_the_signal_to_end_finishes_the_files(tmp_path: Path) -> None:
    code = "from facedet_mm.cli import main; import sys; sys.exit(main(sys.argv[1:]))"
    words = ["video", "-", "--raw-size", "160x90", "--out", "a.mp4", "a.jsonl"]
    process = subprocess.Popen([sys.executable, "-c", code, *words], cwd=tmp_path, stdin=subprocess.PIPE)
    for number in range(30):
        process.stdin.write(noise(number).tobytes())
    process.stdin.flush()
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size > 1000 for path in tmp_path.glob(".*.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 130
    process.stdin.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "a.mp4"]
    assert len(frames_of(tmp_path / "a.mp4")) in range(1, 31)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows sends no such signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_between_two_files_leaves_both_with_the_same_frames(monkeypatch, number: int) -> None:
    class Counting:
        def __init__(self, at: int) -> None:
            self.frames, self._at = 0, at

        def write(self, *_: object) -> None:
            if self.frames == self._at:
                signal.raise_signal(number)
            self.frames += 1

        def close(self) -> None: ...

        abort = close

    before = signal.signal(number, signal.default_int_handler)
    try:
        sinks = {"a": Counting(at=5), "b": Counting(at=-1)}
        monkeypatch.setattr(pipeline, "open_sink", lambda path, _: sinks[path])
        summary = VideoFaceDetector().process_video(fake_source([noise(0)] * 30), ["a", "b"])
    finally:
        signal.signal(number, before)
    assert summary["stopped"] == "interrupted"
    assert summary["total_frames"] == sinks["a"].frames == sinks["b"].frames == 6
