"""The table of presets, on a ground truth of one image."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from helpers.wider_samples import write_mat_files

from facedet_mm import build_detector
from facedet_mm.zoo import asset_path


def test_tells_ap_and_time_of_each_setting_and_draws_them(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    image = tmp_path / "images" / "0--Parade" / "solvay.jpg"
    image.parent.mkdir(parents=True)
    shutil.copy(asset_path("solvay_1927.jpg"), image)
    boxes = build_detector(input_size=640).detect(str(image)).boxes.copy()
    boxes[:, 2:] -= boxes[:, :2]
    everything, half = np.ones(len(boxes), bool), np.arange(len(boxes)) % 2 == 0
    settings = {"easy": half, "medium": half, "hard": everything}
    write_mat_files(tmp_path / "truth", {"0--Parade/solvay": (boxes.round(), settings)})
    spec = importlib.util.spec_from_file_location("presets", root / "tools" / "analysis" / "benchmark_presets.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    arguments = ["--annotations", tmp_path / "truth", "--images", image.parents[1], "--plot", tmp_path / "plot.png"]
    monkeypatch.setattr(sys, "argv", ["tool", "yunet_n", *map(str, arguments), "--settings", "fast", "640, mirrored"])
    assert tool.main() == 0
    header, _, *rows = capsys.readouterr().out.splitlines()
    assert header == "| model | setting | Easy | Medium | Hard | ms |"
    cells = [row.strip("| ").split(" | ") for row in rows]
    assert [row[:2] for row in cells] == [["yunet_n", "fast"], ["yunet_n", "640, mirrored"]]
    assert all(100 >= float(ap) > 95 for row in cells for ap in row[2:5])
    assert float(cells[1][5]) > 1.2 * float(cells[0][5]) > 0
    assert (tmp_path / "plot.png").read_bytes()[:4] == b"\x89PNG"
