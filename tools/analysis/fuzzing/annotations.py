"""Annotations, predictions, ground truth, MOT files and training logs with odd numbers and damaged bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.random import Generator
from scipy.io import savemat

from facedet_mm.datasets import read_ground_truth, read_predictions
from facedet_mm.datasets.annotations import read_annotations
from facedet_mm.report.logs import read_rows
from facedet_mm.tracking.mot import read_detections
from fuzzing.mutations import mutate_bytes, mutate_text

_WIDER = "0--Party/a.jpg\n2\n10 20 30 40 0 0 0 0 0 0\n1 2 3 4 2 0 0 0 2 1\n0--Party/b.jpg\n0\n0 0 0 0 0 0 0 0 0 0\n"
_RETINA = "# 0--Party/a.jpg\n10 20 30 40 1 2 0 3 4 0 5 6 0 7 8 0 9 10 0 0.5\n# 0--Party/b.jpg\n1 2 3 4\n"
_LABELV2 = "# 0--Party/a.jpg 640 480\n10 20 40 60 1 2 0 3 4 0 5 6 0 7 8 0 9 10 0\n# 0--Party/b.jpg 64 48\n"
_PREDICTION = "a\n2\n10.5 20 30 40 0.9\n1 2 3 4 0.25\n"
_MOT = "1,-1,10,20,30,40,0.9,-1,-1,-1\n2,3,11,21,30,40,0.8,-1,-1,-1\n"
_LOG = '{"lr": 0.01, "loss": 1.5, "epoch": 1, "iter": 50, "step": 50}\n{"wider_face/hard": 0.5, "step": 1}\n'


def read_annotation_file(folder: Path, rng: Generator) -> str:
    """Makes and reads one text or MAT file."""
    readers: list[Callable[[Path, Generator], None]] = [_annotations, _predictions, _ground_truth, _mot, _log]
    readers[int(rng.integers(len(readers)))](folder, rng)
    return ""


def _annotations(folder: Path, rng: Generator) -> None:
    path = folder / "faces.txt"
    path.write_bytes(mutate_text(str(rng.choice([_WIDER, _RETINA, _LABELV2])), rng))
    for image in read_annotations(path):
        assert np.isfinite(np.asarray(image.boxes, np.float32)).all()


def _predictions(folder: Path, rng: Generator) -> None:
    path = folder / "predictions" / "0--Party" / "a.txt"
    path.parent.mkdir(parents=True)
    path.write_bytes(mutate_text(_PREDICTION, rng))
    read_predictions(folder / "predictions")


def _mot(folder: Path, rng: Generator) -> None:
    path = folder / "det.txt"
    path.write_bytes(mutate_text(_MOT.replace(",", " "), rng).replace(b" ", b","))
    for faces in read_detections(path).values():
        assert np.isfinite(faces.boxes).all()


def _log(folder: Path, rng: Generator) -> None:
    path = folder / "scalars.json"
    path.write_bytes(mutate_text(_LOG, rng))
    read_rows(path)


def _ground_truth(folder: Path, rng: Generator) -> None:
    boxes = np.array([[10.0, 20, 30, 40], [1, 2, 3, 4]])
    index = np.array([[1], [2]])
    match int(rng.integers(6)):
        case 0:
            boxes[0, 0] = rng.choice([np.nan, np.inf, 3.5e38, -1])
        case 1:
            boxes = boxes.T
        case 2:
            index = np.array([[1.9], [-1]])
        case 3:
            index = np.array([[7]])
    names = np.array([["a"], ["a" if rng.random() < 0.3 else "b"]], object)
    cell = np.empty((1, 1), object)

    def events(values: list[np.ndarray]) -> np.ndarray:
        images = np.empty((len(values), 1), object)
        for i, value in enumerate(values):
            images[i, 0] = value
        outer = cell.copy()
        outer[0, 0] = images
        return outer

    event = cell.copy()
    event[0, 0] = "0--Party"
    files = cell.copy()
    files[0, 0] = names
    faces = {"event_list": event, "file_list": files, "face_bbx_list": events([boxes, np.zeros((0, 4))])}
    savemat(folder / "wider_face_val.mat", faces)
    for setting in ("easy", "medium", "hard"):
        savemat(folder / f"wider_{setting}_val.mat", {"gt_list": events([index, np.zeros((0, 1))])})
    if rng.random() < 0.4:
        path = folder / str(rng.choice(["wider_face_val.mat", "wider_easy_val.mat"]))
        path.write_bytes(mutate_bytes(path.read_bytes(), rng))
    read_ground_truth(folder)
