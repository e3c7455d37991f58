"""Sample redistribution: the counts against ATSS by hand, the pipeline itself, and the paper's claim."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmdet")

from conftest import ROOT  # noqa: E402
from mmdet.registry import DATASETS, TRANSFORMS  # noqa: E402

from facedet_mm.errors import AnnotationError, ImageError, TrainingError  # noqa: E402
from facedet_mm.plugin.apis.build import load_config  # noqa: E402
from facedet_mm.plugin.datasets.redistribution import STEPS_WITHOUT_GEOMETRY, sample_statistics  # noqa: E402

POLICIES = {"plain": "ablation/crop_scales_1.0.py", "redistributed": "scrfd_2.5g.py"}


def positives_by_hand(face: np.ndarray, side: int) -> list[int]:
    """ATSS for one face in a square image, anchor by anchor."""
    candidates = []
    for level, (stride, base) in enumerate(((8, 16), (16, 64), (32, 256))):
        anchors = []
        for y in range(0, side, stride):
            for x in range(0, side, stride):
                for edge in (base, 2 * base):
                    distance = np.hypot(x - (face[0] + face[2]) / 2, y - (face[1] + face[3]) / 2)
                    w = max(0, min(face[2], x + edge / 2) - max(face[0], x - edge / 2))
                    h = max(0, min(face[3], y + edge / 2) - max(face[1], y - edge / 2))
                    union = edge**2 + (face[2] - face[0]) * (face[3] - face[1]) - w * h
                    inside = face[0] < x < face[2] and face[1] < y < face[3]
                    anchors.append((distance, level, w * h / union, inside))
        candidates += sorted(anchors, key=lambda anchor: anchor[0])[:9]
    overlaps = np.array([iou for _, _, iou, _ in candidates])
    threshold = overlaps.mean() + overlaps.std(ddof=1)
    counts = [0, 0, 0]
    for _, level, iou, inside in candidates:
        counts[level] += inside and iou >= threshold
    return counts


@pytest.fixture
def made(tmp_path: Path) -> Any:
    """A config for three images of 320 × 320 with a face each, which its pipeline leaves as they are."""
    (tmp_path / "A").mkdir()
    lines = []
    for i, (x, y, side) in enumerate(((101, 203, 14), (33, 41, 70), (20, 20, 271))):
        cv2.imwrite(str(tmp_path / f"A/{i}.png"), np.zeros((320, 320, 3), np.uint8))
        lines += [f"A/{i}.png", "2", f"{x} {y} {side} {side} 0 0 0 0 0 0", "5 5 9 9 0 0 0 1 0 0"]  # one invalid
    (tmp_path / "train.txt").write_text("\n".join(lines))
    config = load_config(ROOT / "configs" / "scrfd_2.5g.py")
    config.train_dataloader.dataset.update(
        data_root=str(tmp_path), ann_file="train.txt", data_prefix=dict(img=""),
        pipeline=[dict(type="LoadFaceImage"), dict(type="LoadFaceAnnotations"), dict(type="PackFaceInputs")],
    )  # fmt: skip
    return config


def test_the_counts_are_those_of_atss_by_hand(made: Any) -> None:
    result = sample_statistics(made, draws=2)
    by_hand = [
        positives_by_hand(np.array([x, y, x + s, y + s]), 320)
        for x, y, s in ((101, 203, 14), (33, 41, 70), (20, 20, 271))
    ]
    columns = np.array(by_hand).T
    assert columns.sum() > 0
    assert (result["samples"], result["faces"]) == (6, 6)
    for cell, column in zip(result["strides"].values(), columns, strict=True):
        assert cell["positives"] == 2 * column.sum()
        assert cell["share"] == pytest.approx(column.sum() / columns.sum())
        assert cell["per_sample"] == pytest.approx(column.sum() / 3)
        assert cell["faces"] == pytest.approx((column > 0).mean())
    assert result["positives_per_face"] == pytest.approx(columns.sum() / 3)
    assert result["without"] == pytest.approx((columns.sum(0) == 0).mean())


def test_the_sizes_are_those_of_the_faces_that_count(made: Any) -> None:
    result = sample_statistics(made)
    assert dict(zip(result["size_edges"], result["size_counts"], strict=True)) == {
        0: 0, 4: 0, 8: 1, 16: 0, 32: 0, 64: 1, 128: 0, 256: 1, 512: 0,
    }  # fmt: skip
    assert result["below"] == pytest.approx({8: 0, 16: 1 / 3, 32: 1 / 3})


def test_an_image_that_is_none_is_named(made: Any, tmp_path: Path) -> None:
    (tmp_path / "A/1.png").write_text("no image")
    with pytest.raises(ImageError, match=r"A/1\.png cannot be read"):
        sample_statistics(made)


def test_a_data_set_without_a_face_is_told(made: Any, tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("A/0.png\n1\n5 5 9 9 0 0 0 1 0 0\n")
    with pytest.raises(AnnotationError, match=r"none of the 1 images of \S+train\.txt has a face that counts"):
        sample_statistics(made)


def test_a_pipeline_that_loses_every_face_is_told(made: Any) -> None:
    lose = dict(type="FilterAnnotations", min_gt_bbox_wh=(999, 999), keep_empty=False)
    made.train_dataloader.dataset.pipeline.insert(2, lose)
    with pytest.raises(TrainingError, match="no face is left after the training pipeline"):
        sample_statistics(made)


def test_the_steps_that_are_left_out_exist() -> None:
    load_config(ROOT / "configs" / "scrfd_2.5g.py")  # registers them
    assert [name for name in sorted(STEPS_WITHOUT_GEOMETRY) if TRANSFORMS.get(name) is None] == []


@pytest.fixture(scope="module")
def real(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Configs of both policies for every fourteenth image of the real training subset."""
    lines = (data / "wider/subset/wider_face_train_bbx_gt.txt").read_text().splitlines()
    starts = [i for i, line in enumerate(lines) if line.endswith(".jpg")]
    blocks = [lines[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)]
    path = tmp_path_factory.mktemp("subset") / "train.txt"
    path.write_text("\n".join(line for block in blocks[::14] for line in block))
    configs = {}
    for name, file in POLICIES.items():
        configs[name] = load_config(ROOT / "configs" / file)
        configs[name].train_dataloader.dataset.update(data_root=str(data / "wider"), ann_file=str(path))
    return configs


def test_the_faces_are_those_of_the_whole_pipeline(real: dict[str, Any]) -> None:
    config = real["redistributed"].copy()
    config.train_dataloader.dataset.indices = 12
    dataset = DATASETS.build(config.train_dataloader.dataset)
    sizes = []
    for index in range(len(dataset)):
        words = np.random.SeedSequence((5, 0, index)).generate_state(4)
        np.random.seed(words)  # noqa: NPY002 - what MMDetection's transforms draw from
        random.seed(words.tobytes())
        boxes = dataset[index]["data_samples"].gt_instances.bboxes.tensor
        sizes += (boxes[:, 2:] - boxes[:, :2]).prod(1).sqrt().tolist()
    result = sample_statistics(config, seed=5)
    edges = [*result["size_edges"], np.inf]
    assert result["size_counts"] == np.histogram(sizes, edges)[0].tolist()


def test_larger_crops_move_positives_to_stride_8_as_the_paper_says(real: dict[str, Any]) -> None:
    plain, redistributed = (sample_statistics(real[name], draws=2) for name in POLICIES)
    assert redistributed["strides"][8]["share"] > plain["strides"][8]["share"] + 0.1
    assert redistributed["strides"][8]["per_sample"] > 1.3 * plain["strides"][8]["per_sample"]
    assert redistributed["strides"][32]["per_sample"] < plain["strides"][32]["per_sample"]
    assert redistributed["below"][32] > plain["below"][32] + 0.1


def test_the_tool_writes_table_json_and_plot(made: Any, tmp_path: Path) -> None:
    made.dump(tmp_path / "policy.py")
    command = [sys.executable, ROOT / "tools/analysis/sample_redistribution.py", tmp_path / "policy.py"]
    command += ["--json", tmp_path / "a.json", "--plot", tmp_path / "a.png"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "a.json").read_text())["policy"]
    assert figures["faces"] == 3
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("policy ")]
    assert rows[1][1:3] == ["8", f"{100 * figures['strides']['8']['share']:.1f}%"]
    assert cv2.imread(str(tmp_path / "a.png")).std() > 5
