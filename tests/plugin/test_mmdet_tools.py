"""MMDetection's own tools work on our configs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
mmdet = pytest.importorskip("mmdet")

from conftest import ROOT  # noqa: E402
from training_samples import draw_faces, tiny_config  # noqa: E402

from facedet_mm.plugin.apis.build import build_model  # noqa: E402
from facedet_mm.plugin.apis.checkpoint import load_checkpoint, load_weights  # noqa: E402
from facedet_mm.plugin.apis.runner import build_runner  # noqa: E402

TOOLS = Path(mmdet.__file__).parent / ".mim" / "tools"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not TOOLS.is_dir(), reason="this MMDetection is installed without its tools"),
]


@pytest.fixture(scope="module")
def run(root, tmp_path_factory):
    """A finished run of a tiny model with landmarks, and its predictions as MMDetection stores them."""
    folder = tmp_path_factory.mktemp("run")
    draw_faces(folder / "data")
    config = tiny_config(root, folder / "data", folder / "work", kps=True)
    config.default_hooks.checkpoint.update(save_last=True, published_keys=["meta", "state_dict"])
    config.dump(folder / "config.py")
    build_runner(config, training=True).train()
    shutil.copytree(TOOLS, folder / "tools")  # they write caches beside themselves
    call(
        folder, "test.py", folder / "config.py", folder / "work" / "epoch_1.pth", "--work-dir", folder / "test",
        "--out", folder / "results.pkl", "--show-dir", "show",
    )  # fmt: skip
    return folder


def call(folder, tool, *arguments):
    command = [sys.executable, folder / "tools" / tool, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=False, cwd=folder, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def test_the_truth_is_drawn_beside_the_predictions(run):
    shown = {path.name: cv2.imread(str(path)) for path in run.glob("test/*/show/*.png")}
    assert len(shown) == 6
    image = cv2.imread(str(run / "data" / "images" / "0.png"))
    left = shown["0.png"][:, : image.shape[1]]
    difference = np.abs(left.astype(int) - image).max(axis=2) > 20
    assert 20 < difference.sum() < difference.size / 2, "outlines of the annotated faces"
    rows = (run / "data" / "wider.txt").read_text().splitlines()[2:5]
    for row in rows:
        x, y, side, _ = (int(value) for value in row.split()[:4])
        assert difference[y - 1 : y + 3, x : x + side].any()


def test_analyze_results_draws_the_best_and_the_worst(run):
    call(
        run, "analysis_tools/analyze_results.py", run / "config.py", run / "results.pkl", run / "analysis", "--topk", 2
    )
    assert [len(list((run / "analysis" / kind).glob("*.png"))) for kind in ("good", "bad")] == [2, 2]


def test_the_confusion_matrix_is_drawn(run):
    call(run, "analysis_tools/confusion_matrix.py", run / "config.py", run / "results.pkl", run / "matrix")
    assert (run / "matrix" / "confusion_matrix.png").is_file()


def test_browse_dataset_draws_the_training_samples(run):
    call(run, "analysis_tools/browse_dataset.py", run / "config.py", "--output-dir", run / "browse", "--not-show")
    assert len(list((run / "browse").glob("*.png"))) == 6


def test_the_checkpoint_that_is_published_at_the_end_has_weights_only(run):
    (published,) = (run / "work").glob("epoch_1-*.pth")
    checkpoint = torch.load(published, weights_only=True)  # without an allow-list
    assert checkpoint.keys() == {"meta", "state_dict"}
    from mmengine.config import Config

    load_weights(build_model(Config.fromfile(run / "config.py")), published)
    whole = load_checkpoint(run / "work" / "epoch_1.pth")["state_dict"]
    assert all(torch.equal(checkpoint["state_dict"][key], whole[key]) for key in whole)
