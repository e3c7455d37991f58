"""``facedet eval`` as a user meets it."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from wider_samples import SETTINGS, make_sample, slow_ap, write_mat_files, write_submission

from facedet_mm.cli import main
from facedet_mm.evaluation import SettingResult, WiderFaceResult
from facedet_mm.report.plots import plot_curves


@pytest.fixture
def sample(tmp_path: Path) -> tuple[str, str, dict, dict]:
    faces, detections = make_sample(11, images=10)
    predictions = write_submission(tmp_path / "predictions", detections)
    return str(predictions), str(write_mat_files(tmp_path / "ground_truth", faces)), faces, detections


def test_the_json_holds_three_fractions_in_full_precision(sample: tuple, tmp_path: Path) -> None:
    predictions, ground_truth, faces, detections = sample
    assert main(["eval", predictions, ground_truth, "--json", str(tmp_path / "new" / "ap.json")]) == 0
    written = json.loads((tmp_path / "new" / "ap.json").read_text())
    assert list(written) == list(SETTINGS)
    assert written == pytest.approx({s: slow_ap(faces, detections, s) for s in SETTINGS}, abs=1e-14)


def test_the_table_shows_ap_in_percent_and_missed_faces_of_all(sample: tuple, capsys: Any) -> None:
    predictions, ground_truth, faces, detections = sample
    assert main(["eval", predictions, ground_truth]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].split() == list(SETTINGS)
    assert out[1].split()[2:] == [f"{100 * slow_ap(faces, detections, s):.3f}" for s in SETTINGS]
    total = out[4].split()
    assert total[0] == "all"
    assert total[3::3] == [str(sum(m[s].sum() for _, m in faces.values())) for s in SETTINGS]
    heights = [h for boxes, masks in faces.values() for h in boxes[masks["hard"], 3]]
    assert out[6].split()[-1] == str(sum(10 <= h < 30 for h in heights))


def test_the_iou_threshold_is_used(sample: tuple, tmp_path: Path) -> None:
    predictions, ground_truth, faces, detections = sample
    assert main(["eval", predictions, ground_truth, "--iou-thr", "0.9", "--json", str(tmp_path / "a.json")]) == 0
    hard = json.loads((tmp_path / "a.json").read_text())["hard"]
    assert hard == pytest.approx(slow_ap(faces, detections, "hard", 0.9), abs=1e-14)
    assert hard != pytest.approx(slow_ap(faces, detections, "hard", 0.5), abs=1e-3)


def test_a_setting_without_faces_is_null_in_the_json(tmp_path: Path) -> None:
    faces, detections = make_sample(11)
    for _, masks in faces.values():
        masks["easy"][:] = False
    args = [str(write_submission(tmp_path / "p", detections)), str(write_mat_files(tmp_path / "g", faces))]
    assert main(["eval", *args, "--json", str(tmp_path / "ap.json")]) == 0
    assert json.loads((tmp_path / "ap.json").read_text())["easy"] is None


def test_plot_writes_a_png(sample: tuple, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    assert main(["eval", *sample[:2], "--plot", str(tmp_path / "new" / "curves.png")]) == 0
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["curves.png"]
    assert (tmp_path / "new" / "curves.png").read_bytes().startswith(b"\x89PNG\r\n")


def test_the_image_shows_precision_upwards_over_recall_to_the_right(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    recall = np.linspace(0, 0.5, 1000)
    levels = {"easy": 0.9, "medium": 0.7, "hard": 0.5}
    none = np.zeros(6, np.int64)
    settings = {s: SettingResult(0.0, np.full(1000, level), recall, none, none) for s, level in levels.items()}
    plot_curves(WiderFaceResult(settings, (), ()), tmp_path / "curves.png")
    hsv = cv2.cvtColor(cv2.imread(str(tmp_path / "curves.png")), cv2.COLOR_BGR2HSV)
    rows, lengths = [], []
    for hue in (102, 14, 60):  # matplotlib's blue, orange, green
        colored = ((np.abs(hsv[..., 0].astype(int) - hue) < 5) & (hsv[..., 1] > 120)).sum(axis=1)
        rows.append(int(colored.argmax()))
        lengths.append(int(colored.max()))
    assert rows[0] < rows[1] < rows[2]
    assert rows[2] - rows[1] == pytest.approx(rows[1] - rows[0], abs=2)
    assert lengths == pytest.approx([hsv.shape[1] * 0.44] * 3, rel=0.03)


def test_figures_are_printed_even_when_the_json_cannot_be_written(sample: tuple, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "file").write_text("")
    assert main(["eval", *sample[:2], "--json", str(tmp_path / "file" / "ap.json")]) == 1
    captured = capsys.readouterr()
    assert "AP (%)" in captured.out
    assert captured.err.startswith("facedet eval: error: cannot write ")


@pytest.mark.parametrize("suffix", [".xyz", ""])
def test_a_plot_of_unknown_format_is_refused_before_anything_is_read(
    suffix: str, sample: tuple, tmp_path: Path, capsys: Any
) -> None:
    args = ["eval", *sample[:2], "--plot", str(tmp_path / f"curves{suffix}"), "--json", str(tmp_path / "ap.json")]
    assert main(args) == 1
    assert "its name must end in .png, .pdf, .svg" in capsys.readouterr().err
    assert not (tmp_path / "ap.json").exists()


def test_without_matplotlib_the_error_says_what_to_install(
    sample: tuple, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    real = builtins.__import__

    def without_matplotlib(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    assert main(["eval", *sample[:2], "--plot", "curves.png"]) == 1
    assert "pip install 'facedet-mm[plot]'" in capsys.readouterr().err


def test_a_missing_prediction_file_is_an_error_unless_allowed(sample: tuple, tmp_path: Path, capsys: Any) -> None:
    predictions, ground_truth, faces, detections = sample
    lost = next(name for name in faces if len(faces[name][0]) and len(detections[name][1]))
    (Path(predictions) / f"{lost}.txt").unlink()
    args = ["eval", predictions, ground_truth, "--json", str(tmp_path / "ap.json")]
    assert main(args) == 1
    message = capsys.readouterr()
    assert f"1 of 10 images have no predictions ({lost}); --allow-missing" in message.err
    assert message.out == ""
    assert not (tmp_path / "ap.json").exists()
    assert main([*args, "--allow-missing"]) == 0
    assert f"1 images without predictions, first {lost}" in capsys.readouterr().err
    without = {**detections, lost: (detections[lost][0][:0], detections[lost][1][:0])}
    written = json.loads((tmp_path / "ap.json").read_text())
    assert written["hard"] == pytest.approx(slow_ap(faces, without, "hard"), abs=1e-14)


def test_surplus_files_are_mentioned_and_left_out(sample: tuple, tmp_path: Path, capsys: Any) -> None:
    predictions, ground_truth, faces, detections = sample
    surplus = Path(predictions) / "0--Event" / "other.txt"
    surplus.write_text("other\n1\n0 0 9 9 77\n")
    assert main(["eval", predictions, ground_truth, "--json", str(tmp_path / "ap.json")]) == 0
    assert "1 images not in the ground truth, left out, first 0--Event/other" in capsys.readouterr().err
    written = json.loads((tmp_path / "ap.json").read_text())
    assert written["hard"] == pytest.approx(slow_ap(faces, detections, "hard"), abs=1e-14)


@pytest.mark.parametrize("value", ["0", "1.5", "half"])
def test_an_iou_threshold_outside_0_to_1_is_a_usage_error(value: str, sample: tuple, capsys: Any) -> None:
    with pytest.raises(SystemExit) as error:
        main(["eval", *sample[:2], "--iou-thr", value])
    assert error.value.code == 2
    assert "--iou-thr" in capsys.readouterr().err


def test_help_has_an_example_and_a_missing_folder_is_named(sample: tuple, capsys: Any) -> None:
    with pytest.raises(SystemExit) as done:
        main(["eval", "--help"])
    assert done.value.code == 0
    assert "example:\n  facedet eval " in capsys.readouterr().out
    assert main(["eval", "nowhere", sample[1]]) == 1
    assert capsys.readouterr().err.startswith("facedet eval: error: nowhere is not a folder")
