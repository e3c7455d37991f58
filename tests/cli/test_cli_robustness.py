"""``facedet robustness`` as a user meets it, on a few small images with the bundled model."""

from __future__ import annotations

import builtins
import hashlib
import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from wider_samples import SETTINGS, write_mat_files

from facedet_mm import build_detector
from facedet_mm.benchmark import results as results_file
from facedet_mm.benchmark import robustness
from facedet_mm.benchmark.accuracy import IOU_THR, SCORE_THR, clean_ap, find_images
from facedet_mm.benchmark.results import Results
from facedet_mm.benchmark.robustness import Cell, measure, plan_cells
from facedet_mm.cli import main
from facedet_mm.datasets import GroundTruth, read_ground_truth
from facedet_mm.errors import FaceDetError
from facedet_mm.imaging.corruptions import CORRUPTIONS, corrupt
from facedet_mm.imaging.low_light import LowLight
from facedet_mm.io.images import read_image
from facedet_mm.structures import Faces
from facedet_mm.zoo import asset_path

pytest.importorskip("matplotlib")

NAMES = ("0--Parade/a", "0--Parade/b", "1--Team/c")
LEAST = {"easy": 26, "medium": 22, "hard": 0}
"""Least heights of the faces that count."""


def write_samples(folder: Path, settings: tuple[str, ...] = SETTINGS) -> tuple[Path, Path]:
    """Three crops of a group image as PNG, and what the bundled model finds in them at twice the size as faces."""
    photo = read_image(asset_path("solvay_1927.jpg"))
    detector = build_detector(input_size=(800, 640))
    faces = {}
    for i, name in enumerate(NAMES):
        image = cv2.resize(photo[600:1800, 500 * i : 500 * i + 1500], (400, 320), interpolation=cv2.INTER_AREA)
        path = folder / "images" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), image)
        boxes = np.rint(detector.detect(image).boxes).astype(float)
        boxes[:, 2:] -= boxes[:, :2]
        masks = {s: np.full(len(boxes), s in settings) & (boxes[:, 3] >= least) for s, least in LEAST.items()}
        faces[name] = boxes, masks
    return write_mat_files(folder / "ground_truth", faces), folder / "images"


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return write_samples(tmp_path_factory.mktemp("samples"))


def command(samples: tuple[Path, Path], out: Path, *more: str, model: str = "yunet_n") -> list[str]:
    annotations, images = map(str, samples)
    fixed = ["--annotations", annotations, "--images", images, "--size", "320", "--threads", "1", "--workers", "2"]
    return ["robustness", model, *fixed, "--out", str(out), *more]


def cells_of(out: Path) -> dict[tuple[str, int, bool], dict[str, Any]]:
    rows = json.loads((out / "robustness.json").read_text())["cells"]
    return {(row["corruption"], row["severity"], row["clahe"]): row for row in rows}


def test_a_cell_scores_what_detecting_and_evaluating_the_corrupted_images_scores(
    samples: tuple[Path, Path], tmp_path: Path
) -> None:
    assert main(command(samples, tmp_path / "out", "--clahe")) == 0
    cells = cells_of(tmp_path / "out")
    assert len(cells) == 1 + 7 * 3 + 3 + 4
    truth = read_ground_truth(samples[0])
    for key in (("clean", 0, False), ("occlusion", 2, False), ("noise", 3, False), ("gamma", 3, True)):
        corruption, severity, clahe = key
        for i, name in enumerate(truth.names):
            image = cv2.imread(str(samples[1] / f"{name}.png"))
            if severity:
                faces = truth.boxes[truth.offsets[i] : truth.offsets[i + 1]]
                image = corrupt(image, corruption, severity, name, faces)
            path = tmp_path / "_".join(map(str, key)) / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), LowLight()(image) if clahe else image)
        folder = str(tmp_path / "_".join(map(str, key)))
        fixed = ["--recursive", "--quiet", "--score-thr", "0.02", "--iou-thr", "0.45", "--size", "320"]
        assert main(["detect", folder, *fixed, "--wider", f"{folder}_found"]) == 0
        assert main(["eval", f"{folder}_found", str(samples[0]), "--json", f"{folder}.json"]) == 0
        expected = json.loads(Path(f"{folder}.json").read_text())
        assert {s: cells[key][s] for s in SETTINGS} == pytest.approx(expected, abs=1e-9)
    assert cells["clean", 0, False]["hard"] > cells["noise", 3, False]["hard"] > 0


def test_the_table_and_the_mean_drop_are_those_of_the_json(
    samples: tuple[Path, Path], tmp_path: Path, capsys: Any
) -> None:
    assert main(command(samples, tmp_path, "--corruptions", "noise", "gamma", "--severities", "3", "--clahe")) == 0
    lines = capsys.readouterr().out.splitlines()
    cells = cells_of(tmp_path)
    assert lines[0].split() == ["severity", "value", *SETTINGS]
    expected = [("clean",), ("gamma", "3", "3"), ("gamma", "+", "CLAHE", "3", "3"), ("noise", "3", "40")]
    for line, words, cell in zip(lines[1:], expected, cells.values(), strict=False):
        assert line.split() == [*words, *(f"{100 * cell[s]:.2f}" for s in SETTINGS)]
    clean, gamma, noise = (cells[key] for key in (("clean", 0, False), ("gamma", 3, False), ("noise", 3, False)))
    drop = {s: clean[s] - (gamma[s] + noise[s]) / 2 for s in SETTINGS}
    assert json.loads((tmp_path / "robustness.json").read_text())["mean_drop"] == pytest.approx(drop, abs=1e-12)
    assert lines[6].split() == ["mean", "drop", *(f"{100 * drop[s]:.2f}" for s in SETTINGS)]
    assert lines[-2:] == [str(tmp_path / "robustness.json"), str(tmp_path / "heat_map.png")]
    assert (tmp_path / "heat_map.png").read_bytes().startswith(b"\x89PNG\r\n")


@pytest.mark.parametrize("turned", [True, False])
def test_faces_of_rotated_images_count_where_the_rotation_puts_them(turned: bool, tmp_path: Path) -> None:
    boxes = np.array([[5, 5, 25, 35], [60, 20, 80, 55]])
    truth = GroundTruth.from_images([(name, boxes[i % 2 :], [False] * (2 - i % 2)) for i, name in enumerate(NAMES)])
    for name in NAMES:
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), np.zeros((70, 100, 3), np.uint8))
    waiting = iter(range(len(NAMES)))

    def detect(images: list[np.ndarray]) -> list[Faces]:
        x1, y1, x2, y2 = boxes[next(waiting) % 2 :].T
        assert [image.shape for image in images] == [(100, 70, 3)]
        corners = [70 - y2, x1, 70 - y1, x2] if turned else [x1, y1, x2, y2]
        return [Faces(np.stack(corners, axis=1), np.ones(len(x1)))]

    detector: Any = SimpleNamespace(detect_batch=detect)
    ((_, ap),) = measure(detector, truth, find_images(tmp_path, truth), [Cell("rotation", 3)])
    assert ap["hard"] == float(turned)


def test_figures_do_not_depend_on_the_order_of_the_images_or_the_number_of_workers(
    samples: tuple[Path, Path],
) -> None:
    truth = read_ground_truth(samples[0])
    detector = build_detector(score_thr=0.02, iou_thr=0.45, input_size=320)
    cells = plan_cells(["occlusion", "motion_blur"], [2])
    images = find_images(samples[1], truth)
    expected = dict(measure(detector, truth, images, cells, workers=1))
    order = [2, 0, 1]
    starts = np.cumsum([0, *(truth.offsets[i + 1] - truth.offsets[i] for i in order)])
    rows = np.concatenate([np.arange(truth.offsets[i], truth.offsets[i + 1]) for i in order])
    shuffled = type(truth)(
        tuple(truth.names[i] for i in order),
        starts,
        truth.boxes[rows],
        {s: mask[rows] for s, mask in truth.settings.items()},
    )
    found = dict(measure(detector, shuffled, [images[i] for i in order], cells, workers=3))
    assert found == expected


def test_the_ap_of_clean_images_uses_the_thresholds_of_the_evaluation_and_leaves_the_detector_alone(
    samples: tuple[Path, Path],
) -> None:
    truth = read_ground_truth(samples[0])
    images = find_images(samples[1], truth)
    given = build_detector(score_thr=0.7, iou_thr=0.3, input_size=320)
    ap = clean_ap(given, truth, images)
    assert (given.options.score_thr, given.options.iou_thr) == (0.7, 0.3)
    assert (SCORE_THR, IOU_THR) == (0.02, 0.45)
    evaluated = build_detector(score_thr=0.02, iou_thr=0.45, input_size=320)
    ((_, expected),) = measure(evaluated, truth, images, [Cell("clean")])
    ((_, careful),) = measure(given, truth, images, [Cell("clean")])
    assert ap == {setting: 100 * value for setting, value in expected.items()}
    assert ap["hard"] > 100 * careful["hard"]


class Interrupting:
    """A reader of images that counts, and is interrupted at the ``last`` one."""

    def __init__(self, last: float = math.inf) -> None:
        self.count = 0
        self.last = last

    def __call__(self, path: Any) -> Any:
        self.count += 1
        if self.count > self.last:
            raise KeyboardInterrupt
        return read_image(path)


def test_an_interrupted_run_leaves_a_valid_file_and_the_next_one_does_only_the_rest(
    samples: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    wanted = ("--corruptions", "jpeg", "noise", "gamma", "--clahe")
    whole = Interrupting()
    monkeypatch.setattr(robustness, "read_image", whole)
    assert main(command(samples, tmp_path / "whole", *wanted)) == 0
    assert whole.count == 3 * 4  # each image once for clean and for each corruption

    monkeypatch.setattr(robustness, "read_image", Interrupting(last=8))
    capsys.readouterr()
    assert main(command(samples, tmp_path / "out", *wanted)) == 130
    assert capsys.readouterr().err.splitlines()[-1] == "facedet robustness: interrupted"
    kept = list(cells_of(tmp_path / "out"))
    assert kept == [("clean", 0, False), ("jpeg", 1, False), ("jpeg", 2, False), ("jpeg", 3, False)]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["robustness.json"]

    rest = Interrupting()
    monkeypatch.setattr(robustness, "read_image", rest)
    assert main(command(samples, tmp_path / "out", *wanted)) == 0
    assert rest.count == 3 * 2
    assert "facedet robustness: 4 cells are in " in capsys.readouterr().err
    for file in ("robustness.json", "heat_map.png"):
        assert (tmp_path / "out" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_other_corruptions_and_severities_add_to_what_is_there(samples: tuple[Path, Path], tmp_path: Path) -> None:
    assert main(command(samples, tmp_path, "--corruptions", "jpeg", "--severities", "3")) == 0
    first = cells_of(tmp_path)
    assert main(command(samples, tmp_path, "--corruptions", "jpeg", "gamma", "--severities", "1")) == 0
    cells = cells_of(tmp_path)
    assert list(cells) == [("clean", 0, False), ("jpeg", 1, False), ("jpeg", 3, False), ("gamma", 1, False)]
    assert {key: cells[key] for key in first} == first


@pytest.fixture
def done(samples: tuple[Path, Path], tmp_path: Path) -> Path:
    """The folder of a run that measured the clean images and one cell."""
    assert main(command(samples, tmp_path / "out", "--corruptions", "jpeg", "--severities", "1")) == 0
    return tmp_path / "out"


@pytest.mark.parametrize(
    ("more", "what"),
    [
        (["--size", "288"], "size"),
        (["--score-thr", "0.1"], "score_thr"),
        (["--iou-thr", "0.4"], "iou_thr"),
        (["--max-faces", "3"], "max_faces"),
        (["--tiles", "200"], "tiles"),
    ],
)
def test_figures_of_other_settings_are_not_mixed(
    more: list[str], what: str, samples: tuple[Path, Path], done: Path, capsys: Any
) -> None:
    before = (done / "robustness.json").read_bytes()
    assert main(command(samples, done, *more)) == 1
    assert f"robustness.json has the results of another run, which differs in {what};" in capsys.readouterr().err
    assert (done / "robustness.json").read_bytes() == before


def test_figures_of_another_model_file_are_not_mixed_and_of_a_copy_they_are(
    samples: tuple[Path, Path], done: Path, tmp_path: Path, capsys: Any
) -> None:
    data = asset_path("yunet_n_dynamic.onnx").read_bytes()
    (tmp_path / "copy.onnx").write_bytes(data)
    # An unknown field of the outermost message: the same network in another file.
    (tmp_path / "other.onnx").write_bytes(data + bytes([0xFA, 0x7F, 0x01, 0x00]))
    more = ("--corruptions", "jpeg", "--severities", "1")
    assert main(command(samples, done, *more, model=str(tmp_path / "copy.onnx"))) == 0
    assert main(command(samples, done, *more, model=str(tmp_path / "other.onnx"))) == 1
    assert "differs in model;" in capsys.readouterr().err


def test_figures_of_other_images_or_faces_are_not_mixed(
    samples: tuple[Path, Path], done: Path, tmp_path: Path, capsys: Any
) -> None:
    other = write_samples(tmp_path / "more", settings=("medium", "hard"))
    assert main(command((other[0], samples[1]), done)) == 1
    assert "differs in data;" in capsys.readouterr().err
    path = other[1] / f"{NAMES[2]}.png"
    cv2.imwrite(str(path), read_image(path)[:, ::-1])
    assert main(command((samples[0], other[1]), done)) == 1
    assert "differs in data;" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '{"run": {}}', '{"run": {}, "cells": [3]}', '{"run": 1, "cells": []}', "\xff"]
)
def test_a_file_of_something_else_is_refused_and_left_alone(
    text: str, samples: tuple[Path, Path], tmp_path: Path, capsys: Any
) -> None:
    (tmp_path / "robustness.json").write_text(text, encoding="latin-1")
    assert main(command(samples, tmp_path)) == 1
    assert f"{tmp_path / 'robustness.json'}" in capsys.readouterr().err
    assert (tmp_path / "robustness.json").read_text(encoding="latin-1") == text


def test_a_setting_without_faces_is_null_in_the_json(tmp_path: Path) -> None:
    samples = write_samples(tmp_path, settings=("medium", "hard"))
    for _ in range(2):
        assert main(command(samples, tmp_path / "out", "--corruptions", "jpeg", "--severities", "1")) == 0
    content = json.loads((tmp_path / "out" / "robustness.json").read_text())
    assert [row["easy"] for row in content["cells"]] == [None, None]
    assert content["mean_drop"]["easy"] is None
    assert content["mean_drop"]["hard"] is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--corruptions", "fog"], "invalid choice: 'fog'"),
        (["--severities", "5"], "invalid choice: 5"),
        (["--severities", "high"], "invalid int value: 'high'"),
        (["--workers", "0"], "must be a whole number from 1 on"),
    ],
)
def test_arguments_that_cannot_be_are_usage_errors(
    arguments: list[str], message: str, samples: tuple[Path, Path], tmp_path: Path, capsys: Any
) -> None:
    with pytest.raises(SystemExit) as error:
        main(command(samples, tmp_path / "out", *arguments))
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def refused(arguments: list[str], capsys: Any) -> str:
    assert main(arguments) == 1
    message = capsys.readouterr().err
    assert message.startswith("facedet robustness: error: ")
    assert message.count("\n") == 1
    return str(message)


def test_a_severity_that_no_wanted_corruption_has_is_refused(
    samples: tuple[Path, Path], tmp_path: Path, capsys: Any
) -> None:
    message = refused(command(samples, tmp_path / "out", "--corruptions", "jpeg", "noise", "--severities", "4"), capsys)
    assert "no severity 4 of jpeg, noise; only rotation has it" in message
    assert not (tmp_path / "out").exists()


def test_what_is_missing_or_damaged_is_named_and_nothing_is_written(
    samples: tuple[Path, Path], tmp_path: Path, capsys: Any
) -> None:
    out = tmp_path / "out"
    annotations, images = samples
    nowhere = tmp_path / "nowhere"
    assert f"{nowhere} is not a folder" in refused(command((nowhere, images), out), capsys)
    assert f"{nowhere} is not a folder" in refused(command((annotations, nowhere), out), capsys)
    assert "unknown model 'yunet_x'" in refused(command(samples, out, model="yunet_x"), capsys)
    (nowhere / "0--Parade").mkdir(parents=True)
    (nowhere / "0--Parade" / "a.png").write_bytes((images / "0--Parade" / "a.png").read_bytes())
    message = refused(command((annotations, nowhere), out), capsys)
    assert f"{nowhere}: 2 of 3 images of the ground truth are missing, first 0--Parade/b;" in message
    assert not out.exists()


def test_a_damaged_image_is_named_and_the_cells_before_are_kept(tmp_path: Path, capsys: Any) -> None:
    samples = write_samples(tmp_path)
    out = tmp_path / "out"
    assert main(command(samples, out, "--corruptions", "jpeg")) == 0
    before = (out / "robustness.json").read_bytes()
    path = samples[1] / f"{NAMES[2]}.png"
    data = path.read_bytes()
    path.write_bytes(data[:1000] + bytes(len(data) - 1000))
    assert main(command(samples, out)) == 1
    assert f"error: {path}: truncated PNG" in capsys.readouterr().err
    assert (out / "robustness.json").read_bytes() == before


def test_a_folder_that_cannot_be_written_is_noticed_before_the_work(
    samples: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    def full(path: Path, text: str) -> None:  # noqa: ARG001
        raise FaceDetError(f"cannot write {path}: No space left on device")

    reader = Interrupting()
    monkeypatch.setattr(robustness, "read_image", reader)
    (tmp_path / "file").write_text("")
    assert f"cannot read {tmp_path}/file/out/" in refused(command(samples, tmp_path / "file" / "out"), capsys)
    monkeypatch.setattr(results_file, "write_text", full)
    assert "No space left on device" in refused(command(samples, tmp_path / "out"), capsys)
    assert reader.count == 0


def test_without_matplotlib_the_error_says_what_to_install_before_the_work(
    samples: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    real = builtins.__import__

    def without_matplotlib(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_matplotlib)
    assert "facedet-mm[plot]" in refused(command(samples, tmp_path / "out"), capsys)
    assert not (tmp_path / "out").exists()


def test_the_mean_drop_counts_every_corrupted_cell_once_and_none_with_clahe_or_rotation(tmp_path: Path) -> None:
    def ap(*values: float) -> dict[str, float]:
        return dict(zip(SETTINGS, values, strict=True))

    results = Results(tmp_path / "r.json", {})
    assert all(math.isnan(drop) for drop in results.mean_drop().values())
    results.ap = {
        Cell("clean"): ap(0.9, 0.8, 0.7),
        Cell("jpeg", 1): ap(0.9, 0.7, 0.5),
        Cell("gamma", 3): ap(0.5, 0.5, 0.5),
        Cell("gamma", 3, clahe=True): ap(0.0, 0.0, 0.0),
        Cell("rotation", 4): ap(0.0, 0.0, 0.0),
    }
    assert results.mean_drop() == pytest.approx(ap(0.2, 0.2, 0.2))
    results.save()
    assert Results.open(results.path, {}).ap == results.ap


def test_rotation_alone_has_no_mean_drop(samples: tuple[Path, Path], tmp_path: Path, capsys: Any) -> None:
    assert main(command(samples, tmp_path, "--corruptions", "rotation", "--severities", "3", "4")) == 0
    rows = [line.split()[:3] for line in capsys.readouterr().out.splitlines()]
    assert rows[2:4] == [["rotation", "3", "90"], ["rotation", "4", "180"]]
    assert rows[4] == []
    assert len(rows) == 7


def test_the_heat_map_is_darkest_where_most_is_lost(tmp_path: Path) -> None:
    from facedet_mm.report.heat_map import plot_heat_map

    results = Results(tmp_path / "r.json", {})
    for cell in plan_cells(CORRUPTIONS, [1, 2, 3, 4]):
        results.ap[cell] = dict.fromkeys(SETTINGS, 0.9)
    results.ap[Cell("rotation", 4)]["hard"] = 0.2
    results.ap[Cell("gaussian_blur", 1)] = {"easy": 0.55, "medium": 0.9, "hard": 0.9}
    plot_heat_map(results, tmp_path / "map.png")
    image = cv2.imread(str(tmp_path / "map.png"))
    panels = image[:, : int(0.88 * image.shape[1])]  # without the bar of colors
    darkest = np.argwhere((panels[..., 2] > 90) & (panels[..., 2] < 115) & (panels[..., 1] < 10))
    y, x = darkest.mean(axis=0) / image.shape[:2]
    assert 0.75 < y < 0.95
    assert 0.8 < x < 0.88
    half = np.argwhere((panels[..., 2] > 235) & (abs(panels[..., 1].astype(int) - 105) < 12))
    y, x = half.mean(axis=0) / image.shape[:2]
    assert 0.03 < y < 0.2
    assert 0.14 < x < 0.24


def test_a_checkpoint_of_the_training_half_scores_what_its_onnx_file_does(
    data: Path, root: Path, samples: tuple[Path, Path], tmp_path: Path
) -> None:
    pytest.importorskip("mmdet")
    from facedet_mm.plugin.apis.convert import convert

    weights, config = tmp_path / "kps.pth", root / "configs" / "scrfd_0.5g_kps.py"
    image = read_image(asset_path("solvay_1927.jpg"))
    convert(data / "weights" / "scrfd_500m_bnkps.pth", weights, image)
    more = ("--corruptions", "jpeg", "occlusion", "--severities", "3")
    arguments = command(samples, tmp_path / "torch", *more, "--weights", str(weights), model=str(config))
    at = arguments.index("--threads")
    assert main(arguments[:at] + arguments[at + 2 :]) == 0
    onnx = data / "weights" / "scrfd_500m_bnkps.onnx"
    assert main(command(samples, tmp_path / "onnx", *more, model=str(onnx))) == 0
    torch_cells, onnx_cells = cells_of(tmp_path / "torch"), cells_of(tmp_path / "onnx")
    for key, row in onnx_cells.items():
        assert [torch_cells[key][s] for s in SETTINGS] == pytest.approx([row[s] for s in SETTINGS], abs=2e-3)
    run = json.loads((tmp_path / "torch" / "robustness.json").read_text())["run"]
    assert run["model"] == [hashlib.sha256(path.read_bytes()).hexdigest() for path in (config, weights)]


def test_robust_configs_differ_from_theirs_in_the_four_augmentations_alone(root: Path) -> None:
    pytest.importorskip("mmdet")
    from facedet_mm.plugin.apis.build import load_config

    for path in sorted((root / "configs" / "robust").glob("*_robust.py")):
        robust = load_config(path)
        plain = load_config(root / "configs" / path.name.replace("_robust", ""))
        pipeline = robust.train_dataloader.dataset.pipeline
        added = [step for step in pipeline if step not in plain.train_dataloader.dataset.pipeline]
        assert [dict(step) for step in added] == [
            dict(type="RandomGaussianBlur", sigma=(0.5, 3.0), prob=0.2),
            dict(type="RandomJPEG", quality=(20, 80), prob=0.2),
            dict(type="RandomGammaDark", gamma=(1.5, 3.0), prob=0.2),
            dict(type="RandomFaceErasing"),
        ]
        assert pipeline[-1].type == "PackFaceInputs"
        for step in added:
            pipeline.remove(step)
        assert robust.train_dataloader == plain.train_dataloader
        assert robust.model == plain.model
        assert robust.val_dataloader == plain.val_dataloader
