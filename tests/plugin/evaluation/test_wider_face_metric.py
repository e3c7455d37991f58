"""``WiderFaceMetric`` inside MMDetection: alone, through the Evaluator, and over two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from wider_samples import SETTINGS, make_sample, slow_ap, write_mat_files

torch = pytest.importorskip("torch")
pytest.importorskip("mmdet")

from mmdet.registry import METRICS  # noqa: E402
from mmdet.structures import DetDataSample  # noqa: E402
from mmengine.evaluator import Evaluator  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402

import facedet_mm.plugin.engine  # noqa: E402, F401
from facedet_mm.datasets import read_ground_truth, read_predictions  # noqa: E402
from facedet_mm.errors import AnnotationError  # noqa: E402
from facedet_mm.evaluation import evaluate  # noqa: E402
from facedet_mm.plugin.evaluation import WiderFaceMetric  # noqa: E402


def data_samples(detections: dict, root: str = "data/wider_face/WIDER_val/images") -> list[DetDataSample]:
    samples = []
    for name, (boxes, scores) in detections.items():
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        instances = InstanceData(
            bboxes=torch.tensor(corners, dtype=torch.float32, requires_grad=True),
            scores=torch.tensor(scores, dtype=torch.float64),
            labels=torch.zeros(len(scores), dtype=torch.long),
        )
        samples.append(DetDataSample(metainfo={"img_path": f"{root}/{name}.jpg"}, pred_instances=instances))
    return samples


def float32_scores(detections: dict) -> dict:
    """The sample as the metric sees it: scores that passed through float32."""
    return {name: (boxes, np.float32(scores).astype(float)) for name, (boxes, scores) in detections.items()}


def run(samples: list[DetDataSample], batch: int = 4, **metric: object) -> dict[str, float]:
    evaluator = Evaluator(METRICS.build({"type": "WiderFaceMetric", **metric}))
    for start in range(0, len(samples), batch):
        evaluator.process(data_samples=samples[start : start + batch])
    return evaluator.evaluate(len(samples))


def test_the_evaluator_gives_what_the_slow_protocol_gives(tmp_path: Path) -> None:
    faces, detections = make_sample(21, images=10)
    found = run(data_samples(detections), ground_truth=str(write_mat_files(tmp_path, faces)))
    expected = {f"wider_face/{s}": slow_ap(faces, float32_scores(detections), s) for s in SETTINGS}
    assert found == pytest.approx(expected, abs=1e-12)


def test_images_that_the_loader_padded_are_dropped(tmp_path: Path) -> None:
    faces, detections = make_sample(22, images=7)
    samples = data_samples(detections)
    metric = WiderFaceMetric(write_mat_files(tmp_path, faces))
    metric.process(None, [sample.to_dict() for sample in [*samples, samples[0]]])
    hard = metric.evaluate(len(samples))["wider_face/hard"]
    assert hard == pytest.approx(slow_ap(faces, float32_scores(detections), "hard"), abs=1e-12)
    assert metric.results == []


def test_the_submission_folder_scores_exactly_what_the_metric_does(tmp_path: Path) -> None:
    faces, detections = make_sample(23, images=10)
    rng = np.random.default_rng(0)
    odd = {n: (b + rng.uniform(-1, 1, b.shape), rng.random(len(s))) for n, (b, s) in detections.items()}
    ground_truth = write_mat_files(tmp_path / "ground_truth", faces)
    found = run(data_samples(odd), ground_truth=str(ground_truth), out_dir=str(tmp_path / "out"), prefix="val")
    from_files = evaluate(read_predictions(tmp_path / "out"), read_ground_truth(ground_truth)).ap
    assert {f"val/{name}": ap for name, ap in from_files.items()} == found
    name = next(iter(odd))
    first_line = (tmp_path / "out" / f"{name}.txt").read_text().splitlines()[0]
    assert first_line == name.split("/")[1]


def annotation_text(kind: str, faces: dict) -> str:
    lines = []
    for name, (boxes, _) in faces.items():
        rows = boxes.astype(int).tolist()
        if kind == "wider":
            lines += [f"{name}.jpg", str(len(rows)), *(f"{x} {y} {w} {h} 0 0 0 0 0 0" for x, y, w, h in rows)]
            lines += [] if rows else ["0 0 0 0 0 0 0 0 0 0"]
        elif kind == "retinaface":
            lines += [f"# {name}.jpg", *(f"{x} {y} {w} {h}" for x, y, w, h in rows)]
        else:
            no_landmarks = " ".join(["-1"] * 15)
            lines += [f"# {name}.jpg 100 100"]
            lines += [f"{x} {y} {x + w} {y + h} {no_landmarks}" for x, y, w, h in rows]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("kind", ["wider", "retinaface", "scrfd"])
def test_settings_are_built_from_an_annotation_file_and_the_key_says_so(tmp_path: Path, kind: str) -> None:
    faces, detections = make_sample(24, images=10)
    (tmp_path / "label.txt").write_text(annotation_text(kind, faces))
    for boxes, masks in faces.values():
        usable = (boxes[:, 2] > 0) & (boxes[:, 3] > 0)
        masks.update({s: usable & (boxes[:, 3] >= least) for s, least in zip(SETTINGS, (50, 30, 10), strict=True)})
    found = run(data_samples(detections), ann_file=str(tmp_path / "label.txt"))
    expected = {f"wider_face_ann/{s}": slow_ap(faces, float32_scores(detections), s) for s in SETTINGS}
    assert found == pytest.approx(expected, abs=1e-12)


def test_an_annotation_file_may_list_bare_file_names(tmp_path: Path) -> None:
    (tmp_path / "label.txt").write_text("# a.jpg\n0 0 20 60\n# b.jpg\n0 0 20 60\n")
    detections = {"a": (np.array([[0.0, 0, 20, 60]]), [0.9]), "b": (np.zeros((0, 4)), [])}
    found = run(data_samples(detections, root="mine/images"), ann_file=str(tmp_path / "label.txt"))
    assert found["wider_face_ann/easy"] == 0.5


def test_an_image_that_was_not_predicted_is_an_error_unless_allowed(tmp_path: Path) -> None:
    faces, detections = make_sample(25, images=6)
    ground_truth = str(write_mat_files(tmp_path, faces))
    part = dict(list(detections.items())[1:])
    with pytest.raises(AnnotationError, match=r"1 of 6 images have no predictions \(0--Event/image_0\)"):
        run(data_samples(part), ground_truth=ground_truth)
    without = {**part, "0--Event/image_0": (np.zeros((0, 4)), np.zeros(0))}
    found = run(data_samples(part), ground_truth=ground_truth, allow_missing=True)
    assert found["wider_face/hard"] == pytest.approx(slow_ap(faces, float32_scores(without), "hard"), abs=1e-12)


def test_a_score_that_is_not_a_number_names_the_image(tmp_path: Path) -> None:
    faces, detections = make_sample(26)
    detections["0--Event/image_2"] = np.zeros((1, 4)), [float("nan")]
    with pytest.raises(AnnotationError, match=r"0--Event/image_2\.?.*: detection 0 is not finite"):
        run(data_samples(detections), ground_truth=str(write_mat_files(tmp_path, faces)))


@pytest.mark.parametrize("sources", [{}, {"ground_truth": "a", "ann_file": "b"}])
def test_one_source_of_ground_truth_is_needed(sources: dict) -> None:
    with pytest.raises(AnnotationError, match="either ground_truth"):
        METRICS.build({"type": "WiderFaceMetric", **sources})


def test_a_wrong_folder_is_found_when_the_metric_is_built_not_after_the_epoch(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match=r"holds no wider_face_val\.mat"):
        METRICS.build({"type": "WiderFaceMetric", "ground_truth": str(tmp_path)})


TWO_PROCESSES = """
import json, sys
import torch.distributed as dist
from test_wider_face_metric import data_samples, make_sample
from facedet_mm.plugin.evaluation import WiderFaceMetric

rank, folder, device = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
_, detections = make_sample(27, images=9)
samples = [sample.to_dict() for sample in data_samples(detections)]
mine = [*samples, samples[0]][rank::2]
metric = WiderFaceMetric(
    folder, out_dir=f"{folder}/out", collect_device=device, collect_dir=f"{folder}/parts" if device == "cpu" else None
)
for sample in mine:
    metric.process(None, [sample])
print(json.dumps(metric.evaluate(len(samples))))
dist.destroy_process_group()
"""


@pytest.mark.parametrize("device", ["cpu", "gpu"])
def test_two_processes_give_what_one_gives(tmp_path: Path, device: str) -> None:
    faces, detections = make_sample(27, images=9)
    write_mat_files(tmp_path, faces)
    command = [sys.executable, "-c", TWO_PROCESSES]
    runs = [
        subprocess.Popen(
            [*command, str(rank), str(tmp_path), device],
            cwd=Path(__file__).parent,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outcomes = [process.communicate(timeout=120) for process in runs]
    assert [process.returncode for process in runs] == [0, 0], outcomes
    expected = run(data_samples(detections), ground_truth=str(tmp_path))
    assert [json.loads(out.splitlines()[-1]) for out, _ in outcomes] == [expected, expected]
    assert len(list((tmp_path / "out").rglob("*.txt"))) == 9
