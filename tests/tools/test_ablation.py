"""tools/ablation.py: which trainings it starts, and which it does not repeat."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT


@pytest.fixture
def tool(monkeypatch):
    """The tool as a module; trainings are recorded and leave a log, but nothing is trained."""
    spec = importlib.util.spec_from_file_location("ablation_tool", ROOT / "tools" / "ablation.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "ablation_tool", module)
    spec.loader.exec_module(module)
    module.commands = []

    def train(command, check):
        assert not check
        command = [str(part) for part in command]
        module.commands.append(command)
        log = Path(command[command.index("--work-dir") + 1]) / "1" / "vis_data" / "scalars.json"
        log.parent.mkdir(parents=True)
        epochs = int(next(part for part in command if part.startswith("train_cfg.max_epochs=")).partition("=")[2])
        log.write_text(json.dumps({f"wider_face/{s}": 0.5 for s in ("easy", "medium", "hard")} | {"step": epochs}))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(module.subprocess, "run", train)
    return module


def run(tool, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["ablation.py", *arguments])
    assert tool.main() == 0


def test_every_study_is_listed(tool, monkeypatch, capsys):
    run(tool, monkeypatch, "--list")
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert set(names) == {path.stem for path in (ROOT / "configs" / "ablation").glob("*.py")} | {
        "input_320", "input_480", "input_960",
    }  # fmt: skip


def test_the_baseline_and_the_chosen_studies_are_trained_once(tool, monkeypatch, tmp_path, capsys):
    arguments = ("input_320", "norm_bn", "--epochs", "20", "--work-dir", str(tmp_path), "--data-root", "mine")
    run(tool, monkeypatch, *arguments)
    baseline, smaller, norm = tool.commands
    assert [Path(command[2]).name for command in tool.commands] == ["scrfd_2.5g.py", "scrfd_2.5g.py", "norm_bn.py"]
    assert smaller[smaller.index("--size") + 1] == "320"
    assert "--size" not in baseline + norm
    for command in tool.commands:
        options = command[command.index("--cfg-options") + 1 :]
        assert {"data_root=mine", "train_cfg.max_epochs=20", "randomness.seed=0"} <= set(options)
        assert "param_scheduler.1.milestones=[14,17]" in options
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.endswith("50.00")]
    assert [row[0] for row in rows] == ["baseline", "input_320", "norm_bn"]
    run(tool, monkeypatch, *arguments)
    assert len(tool.commands) == 3


def test_an_unknown_study_is_refused(tool, monkeypatch):
    with pytest.raises(tool.TrainingError, match=r"unknown study input_100; available: .*input_320"):
        run(tool, monkeypatch, "input_100")
