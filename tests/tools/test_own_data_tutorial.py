"""The commands of docs/own_data.md, one after the other, on photographs that the test cuts and annotates itself."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmdet")

from conftest import DATA, ROOT  # noqa: E402

from facedet_mm import build_detector  # noqa: E402
from facedet_mm.io.images import read_image, write_image  # noqa: E402
from facedet_mm.plugin.apis.build import build_model, load_config  # noqa: E402
from facedet_mm.plugin.apis.checkpoint import load_checkpoint  # noqa: E402
from facedet_mm.zoo import asset_path  # noqa: E402

PAGE = (ROOT / "docs/own_data.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^\$ (.*)$", PAGE, re.MULTILINE)
OFFICIAL = DATA / "weights/scrfd_500m_bnkps.pth"
FAST = "train_cfg.max_epochs=1 train_dataloader.batch_size=3" + "".join(
    f" {name}_dataloader.num_workers=0" for name in ("train", "val", "test")
)


def annotate(folder: Path) -> None:
    """Cuts the photograph with 29 faces into ten parts, and annotates them in COCO's format by what YuNet finds."""
    photo = read_image(asset_path("solvay_1927.jpg"))
    detector = build_detector("yunet_n", score_thr=0.8, close_ups=False)
    document: dict[str, list] = dict(images=[], annotations=[], categories=[])
    names = ["left_eye", "right_eye", "nose", "left_mouth", "right_mouth"]
    document["categories"].append(dict(id=1, name="face", keypoints=names))
    for i in range(10):
        part = np.ascontiguousarray(photo[900:1700, 260 * i : 260 * i + 600])
        write_image(folder / f"images/{i}.jpg", part)
        document["images"].append(dict(id=i, file_name=f"{i}.jpg", width=600, height=800))
        faces = detector.detect(part)
        inside = (faces.boxes[:, 0] > 0) & (faces.boxes[:, 2] < 600)
        for j in range(len(faces)):
            x1, y1, x2, y2 = faces.boxes[j].tolist()
            points = [v for x, y in faces.landmarks[j].tolist() for v in (x, y, 2)]
            document["annotations"].append(
                dict(id=len(document["annotations"]), image_id=i, category_id=1, bbox=[x1, y1, x2 - x1, y2 - y1],
                     iscrowd=int(not inside[j]), keypoints=points)
            )  # fmt: skip
    (folder / "faces.json").write_text(json.dumps(document))


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Runs all commands; returns the folder and what each printed."""
    folder = tmp_path_factory.mktemp("walk")
    for name in ("configs", "tools"):
        (folder / name).symlink_to(ROOT / name)
    annotate(folder / "data/mine")
    if OFFICIAL.is_file():
        (folder / "scrfd_0.5g_kps.pth").symlink_to(OFFICIAL)
    else:
        torch.manual_seed(0)
        model = build_model(load_config(ROOT / "configs/custom_dataset.py"))
        model.init_weights()
        torch.save(dict(state_dict=model.state_dict(), meta={}), folder / "scrfd_0.5g_kps.pth")
    printed = []
    for command in COMMANDS:
        words = shlex.split(command.replace("epoch_20.pth", "epoch_1.pth"))
        words = (
            [sys.executable, "-m", "facedet_mm", *words[1:]] if words[0] == "facedet" else [sys.executable, *words[1:]]
        )
        if words[1].endswith(("train.py", "test.py")):
            words += ["--cfg-options", *FAST.split()]
        done = subprocess.run(
            words, cwd=folder, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        printed.append(done.stdout + done.stderr)
    return folder, printed


def printed_by(walked: tuple[Path, list[str]], start: str) -> str:
    return next(text for command, text in zip(COMMANDS, walked[1], strict=True) if command.startswith(start))


def test_the_page_shows_every_step() -> None:
    starts = ["facedet data check", "facedet data stats", "facedet data browse", "facedet data split"]
    starts += ["python tools/train.py", "python tools/test.py", "facedet data convert", "facedet eval"]
    assert [start for start in starts if not any(c.startswith(start) for c in COMMANDS)] == []
    assert len((ROOT / "configs/custom_dataset.py").read_text().splitlines()) <= 20


def test_the_data_are_checked_and_split(walked: tuple[Path, list[str]]) -> None:
    assert "nothing is wrong" in printed_by(walked, "facedet data check")
    split = [json.loads((walked[0] / f"data/mine/{name}.json").read_text()) for name in ("train", "val")]
    assert [len(part["images"]) for part in split] == [8, 2]


def test_training_starts_from_the_weights_and_keeps_landmarks(walked: tuple[Path, list[str]]) -> None:
    text = printed_by(walked, "python tools/train.py")
    assert "loss_landmarks" in text
    weights = load_checkpoint(walked[0] / "work_dirs/custom_dataset/epoch_1.pth")["state_dict"]
    assert any("landmark" in name for name in weights)
    assert list((walked[0] / "work_dirs/custom_dataset").glob("best_wider_face_ann_hard_*.pth"))


def test_the_evaluation_files_give_what_the_metric_gives(walked: tuple[Path, list[str]]) -> None:
    tested = re.findall(r"wider_face_ann/(\w+): (nan|[\d.]+)", printed_by(walked, "python tools/test.py"))
    line = next(t for t in printed_by(walked, "facedet eval").splitlines() if t.startswith("AP"))
    by_files = [float(word) for word in line.split()[2:]]
    wanted = [100 * float(dict(tested)[setting]) for setting in ("easy", "medium", "hard")]
    np.testing.assert_allclose(by_files, wanted, atol=0.01)


@pytest.mark.data
def test_official_weights_are_not_destroyed(walked: tuple[Path, list[str]], data: Path) -> None:
    assert OFFICIAL.is_relative_to(data)
    found = dict(re.findall(r"wider_face_ann/(\w+): ([\d.]+)", printed_by(walked, "python tools/test.py")))
    assert float(found["hard"]) > 0.9


def test_the_exported_model_finds_faces_in_the_images(walked: tuple[Path, list[str]]) -> None:
    if not OFFICIAL.is_file():
        pytest.skip("NEEDS REAL DATA: official weights")
    assert len(list((walked[0] / "outputs/found").glob("*.jpg"))) == 10
    counts = [int(n) for n in re.findall(r": (\d+) faces?", printed_by(walked, "facedet detect"))]
    assert sum(counts) >= 20
