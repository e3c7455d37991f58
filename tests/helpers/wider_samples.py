"""Small data sets in the official layout, and the protocol once more: slow, one detection at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.io import savemat

SETTINGS = ("easy", "medium", "hard")


def make_sample(seed: int, images: int = 6) -> tuple[dict, dict]:
    """Random faces and detections, name → arrays, with ties in score and IoU and with empty images.

    Returns:
        ``{name: (boxes x y w h, {setting: bool mask})}`` and ``{name: (boxes x y w h, scores)}``.
    """
    rng = np.random.default_rng(seed)
    faces, detections = {}, {}
    for i in range(images):
        name = f"{i % 2}--Event/image_{i}"
        n = int(rng.integers(0, 6))
        boxes = np.column_stack([rng.integers(0, 70, (n, 2)), rng.choice([0, 5, 12, 20, 31, 54], (n, 2))]).astype(float)
        hard = rng.random(n) < 0.8
        medium = hard & (rng.random(n) < 0.6)
        faces[name] = boxes, {"easy": medium & (rng.random(n) < 0.5), "medium": medium, "hard": hard}
        near = boxes[rng.integers(0, n, rng.integers(0, 12))] if n else boxes
        near = near + rng.integers(-2, 3, near.shape)
        far = np.column_stack([rng.integers(-5, 60, (4, 2)), rng.integers(-2, 40, (4, 2))])[: rng.integers(0, 5)]
        found = np.concatenate([near, far]).astype(float)
        found[:, 2:] += rng.choice([0, 0.5], found[:, 2:].shape)
        scores = rng.choice([0.02, 0.1, 0.25, 0.5, 0.5004, 0.5009, 0.9, 0.999, 1.0], len(found))
        scores[len(near) :] *= rng.choice([0.5, 1.0])
        detections[name] = found, scores
    return faces, detections


def slow_ap(faces: dict, detections: dict, setting: str, iou_thr: float = 0.5) -> float:
    """Average precision by the text of the protocol, without a vectorized step."""
    all_scores = [score for name in faces for score in detections[name][1]]
    lowest, highest = min(all_scores, default=0), max(all_scores, default=0)
    total = sum(int(masks[setting].sum()) for _, masks in faces.values())
    valid = [0] * 1000
    recalled = [0] * 1000
    for name, (boxes, masks) in faces.items():
        if len(boxes) == 0:
            continue
        found, scores = detections[name]
        taken: set[int] = set()
        outcomes = []
        for i in sorted(range(len(found)), key=lambda i: -scores[i]):
            overlaps = [_iou(found[i], box) for box in boxes]
            best = max(overlaps)
            face = overlaps.index(best)
            is_valid = is_new = False
            if best < iou_thr:
                is_valid = True
            elif masks[setting][face]:
                is_valid, is_new = True, face not in taken
                taken.add(face)
            span = highest - lowest
            outcomes.append(((scores[i] - lowest) / span if span else 1.0, is_valid, is_new))
        for t in range(1000):
            for score, is_valid, is_new in outcomes:
                if score >= 1 - (t + 1) / 1000:
                    valid[t] += is_valid
                    recalled[t] += is_new
    recall = [0.0] + [r / total for r in recalled] + [1.0]
    precision = [0.0] + [r / v if v else 0.0 for r, v in zip(recalled, valid, strict=True)] + [0.0]
    return sum(
        (recall[i] - recall[i - 1]) * max(precision[i:]) for i in range(1, len(recall)) if recall[i] != recall[i - 1]
    )


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    (ax, ay, aw, ah), (bx, by, bw, bh) = a.tolist(), b.tolist()
    width = min(ax + aw, bx + bw) - max(ax, bx) + 1
    height = min(ay + ah, by + bh) - max(ay, by) + 1
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / ((aw + 1) * (ah + 1) + (bw + 1) * (bh + 1) - width * height)


def write_mat_files(folder: Path, faces: dict) -> Path:
    """The four MAT files of the official layout: cells of cells, 1-based indices, integers of small types."""
    folder.mkdir(parents=True, exist_ok=True)
    events = sorted({name.split("/")[0] for name in faces})
    by_event = [[name for name in faces if name.startswith(f"{event}/")] for event in events]
    savemat(
        folder / "wider_face_val.mat",
        {
            "event_list": cell(events),
            "file_list": cell([cell([name.split("/")[1] for name in names]) for names in by_event]),
            "face_bbx_list": cell([cell([faces[name][0].astype(np.int32) for name in names]) for names in by_event]),
        },
    )
    for setting in SETTINGS:
        index = [
            cell([(np.flatnonzero(faces[name][1][setting]) + 1).astype(np.uint8)[:, None] for name in names])
            for names in by_event
        ]
        savemat(folder / f"wider_{setting}_val.mat", {"gt_list": cell(index)})
    return folder


def cell(items: list) -> np.ndarray:
    """A MATLAB cell column."""
    array = np.empty((len(items), 1), object)
    for i, item in enumerate(items):
        array[i, 0] = item
    return array


def write_submission(folder: Path, detections: dict) -> Path:
    """A submission folder, written as any tool might: ``.txt`` files in the order of the arrays."""
    for name, (boxes, scores) in detections.items():
        path = folder / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = "".join(f"{x} {y} {w} {h} {s}\n" for (x, y, w, h), s in zip(boxes.tolist(), scores, strict=True))
        path.write_text(f"{name.split('/')[1]}\n{len(scores)}\n{rows}", encoding="utf-8")
    return folder
