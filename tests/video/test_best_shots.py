"""Best shots: which frame is taken of each track, and what is left when something breaks."""

from __future__ import annotations

import csv
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from facedet_mm import Faces, VideoFaceDetector
from facedet_mm.cli import main
from facedet_mm.detectors import DetectorOptions
from facedet_mm.errors import FaceDetError, VideoError
from facedet_mm.imaging.alignment import ARCFACE_TEMPLATE
from facedet_mm.imaging.face_filter import FaceFilter
from facedet_mm.video import best_shots, pipeline
from facedet_mm.video.best_shots import BestShots
from facedet_mm.video.frame import Frame, SourceInfo
from facedet_mm.video.reader import Reader, Source

TEMPLATE = np.array(ARCFACE_TEMPLATE)
SHARP = 7
"""Number of the only frame that is sharp."""


def looking(yaw_shift: float, x: float = 40, y: float = 40) -> np.ndarray:
    return TEMPLATE + np.array([[x, y], [x, y], [x + yaw_shift, y], [x, y], [x, y]])


def picture(number: int) -> np.ndarray:
    image = cv2.resize(np.random.default_rng(3).integers(0, 256, (50, 80, 3), np.uint8), (320, 200))
    image = image if number == SHARP else cv2.GaussianBlur(image, (0, 0), 5)
    image[:4, :4] = number  # which shows in no crop
    return image


def table(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "best_shots.csv").open()))


class FakeReader(Reader):
    def __init__(self, count: int, error: Exception | None = None) -> None:
        self.info = SourceInfo("fake", 320, 200, 25.0)
        self._count, self._error = count, error

    def frames(self) -> Iterator[Frame]:
        for i in range(self._count):
            yield Frame(picture(i + 1), i + 1, i / 25)
        if self._error:
            raise self._error

    def close(self) -> None: ...


class FakeDetector:
    options = DetectorOptions(score_thr=0.1)

    def __init__(self, faces: list[Faces]) -> None:
        self._faces = iter(faces)

    def replace(self, **_: object) -> FakeDetector:
        return self

    def detect(self, image: object) -> Faces:  # noqa: ARG002
        return next(self._faces)


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, faces: list[Faces], error=None, **options: object) -> dict:
    monkeypatch.setattr(pipeline, "open_detector", lambda _: FakeDetector(faces))
    video = VideoFaceDetector(**options)  # type: ignore[arg-type]
    return video.process_video(Source(FakeReader(len(faces), error)), best_shots=folder)


def still(count: int, landmarks: bool = True) -> list[Faces]:
    return [Faces([[40, 40, 152, 152]], [0.9], [looking(0)] if landmarks else None)] * count


def test_the_sharp_frame_is_taken_whole_and_aligned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = run(monkeypatch, tmp_path / "b", still(20), use_smoothing=False)
    assert summary["outputs"] == [str(tmp_path / "b")]
    (row,) = table(tmp_path / "b")
    assert (row["track_id"], row["frame"], row["time"]) == ("1", str(SHARP), "0.24")
    assert (row["track_image"], row["aligned_image"]) == ("track_1.jpg", "aligned_1.jpg")
    face = Faces([[40, 40, 152, 152]], [0.9], [looking(0)])
    expected = {"track_1.jpg": face.crop(picture(SHARP), 0.3)[0], "aligned_1.jpg": face.align(picture(SHARP))[0]}
    assert {path.name for path in (tmp_path / "b").iterdir()} == {*expected, "best_shots.csv"}
    for name, image in expected.items():
        written = cv2.imread(str(tmp_path / "b" / name))
        assert written.shape == image.shape
        assert np.abs(written.astype(int) - image).mean() < 8, "but for JPEG; a blurred frame differs by 20"
    assert float(row["sharpness"]) == pytest.approx(face.attributes(picture(SHARP)).sharpness[0], abs=0.02)


def test_the_frontal_large_whole_face_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(best_shots, "_FORGET_SECONDS", 10)
    base = [40.0, 40, 152, 152]
    for better, worse in (
        ((base, looking(0)), (base, looking(12))),
        ((base, looking(0)), ([60, 60, 130, 130], looking(0) * 0.6 + 30)),
        (([3, 40, 115, 152], looking(0, 3)), ([0, 20, 152, 172], looking(0, 0))),
    ):
        shots = BestShots(tmp_path / "b", FaceFilter(), 25)
        for number in range(1, 13):
            box, points = better if number == 9 else worse
            shots.add(Frame(picture(0), number, number / 25), Faces([box], [0.9], [points], [4]))
        shots.close()
        assert [row["frame"] for row in table(tmp_path / "b")] == ["9"]


def test_filters_and_short_tracks_and_frames_without_detection_give_no_shot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(monkeypatch, tmp_path / "small", still(20), min_size=200)
    assert table(tmp_path / "small") == []
    run(monkeypatch, tmp_path / "short", [*still(4), *[Faces.empty(landmarks=True)] * 26])
    assert table(tmp_path / "short") == []
    run(monkeypatch, tmp_path / "sparse", still(20)[:5] + still(15), keyframes=4, use_smoothing=False)
    assert int(table(tmp_path / "sparse")[0]["frame"]) % 4 == 1


def test_without_landmarks_there_is_no_aligned_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(monkeypatch, tmp_path / "b", still(20, landmarks=False))
    (row,) = table(tmp_path / "b")
    assert (row["track_image"], row["aligned_image"], row["yaw"]) == ("track_1.jpg", "", "")
    assert not list((tmp_path / "b").glob("aligned*"))


@pytest.mark.parametrize("error", [VideoError("gone"), KeyboardInterrupt()])
def test_what_was_found_before_the_end_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    summary = run(monkeypatch, tmp_path / "b", [*still(15)], error)
    assert summary["stopped"] in ("gone", "interrupted")
    assert [row["frame"] for row in table(tmp_path / "b")] == [str(SHARP)]
    assert cv2.imread(str(tmp_path / "b" / "aligned_1.jpg")).shape == (112, 112, 3)


def test_memory_holds_only_the_tracks_that_are_still_seen(tmp_path: Path) -> None:
    shots = BestShots(tmp_path, FaceFilter(), 25)
    image, number = np.zeros((400, 400, 3), np.uint8), 0
    image[::2] = 255
    sizes = []
    tracemalloc.start()
    for track in range(1, 31):
        for _ in range(300):  # twelve seconds each, on every tenth frame
            number += 1
            if number % 30 < 2:
                face = Faces([[50, 50, 350, 350]], [0.9], [looking(0)], [track])
                shots.add(Frame(image, number, number / 25), face)
        sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert sizes[-1] - sizes[4] < 400_000, "one face has 700,000 bytes"
    assert len(list(tmp_path.glob("track_*.jpg"))) >= 28, "on the disk before the end"
    shots.close()
    assert [row["track_id"] for row in table(tmp_path)] == [str(track) for track in range(1, 31)]


def test_a_track_that_returns_after_it_was_written_can_still_get_better(tmp_path: Path) -> None:
    shots = BestShots(tmp_path, FaceFilter(), 25)
    face = Faces([[40, 40, 152, 152]], [0.9], [looking(0)], [1])
    for time, number in ((0, 1), (1, 2), (20, 3), (21, SHARP), (22, 9)):
        shots.add(Frame(picture(number), number, time), face if time != 20 else Faces.empty())
        if time == 20:
            assert [path.name for path in tmp_path.glob("track*")] == ["track_1.jpg"]
    shots.close()
    assert [row["frame"] for row in table(tmp_path)] == [str(SHARP)]
    crop = cv2.imread(str(tmp_path / "track_1.jpg")).astype(int)
    assert np.abs(crop - face.crop(picture(SHARP), 0.3)[0]).mean() < 8


def test_best_shots_need_tracks_and_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FaceDetError, match="best shots need tracking"):
        run(monkeypatch, tmp_path / "b", still(3), use_tracking=False)
    (tmp_path / "file").write_text("")
    with pytest.raises(VideoError, match=r"cannot write into .*file: "):
        run(monkeypatch, tmp_path / "file", still(3))


def test_no_input_and_no_other_output_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for number in range(1, 4):
        cv2.imwrite(str(frames / f"track_{number}.jpg"), picture(number))
    before = {path.name: path.read_bytes() for path in frames.iterdir()}
    refused = {
        (str(frames), str(frames)): "would overwrite",
        (str(frames / "*.jpg"), str(frames)): "would overwrite",
        (str(frames), "b", "--out", "b/best_shots.csv"): "would share a file",
        (str(frames), "b", "--out", "b/aligned_3.jpg/"): "would both write",
    }
    for (source, folder, *rest), message in refused.items():
        rest = [word.replace("b/", f"{tmp_path}/b/") for word in rest]
        folder = str(tmp_path / "b") if folder == "b" else folder
        assert main(["video", source, "--best-shots", folder, *rest]) == 1
        assert message in capsys.readouterr().err
    with pytest.raises(FaceDetError, match=r"would overwrite .* which is an input"):
        VideoFaceDetector().process_video(frames, best_shots=frames)
    assert {path.name: path.read_bytes() for path in frames.iterdir()} == before
