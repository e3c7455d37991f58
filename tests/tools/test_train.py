"""Every option of tools/train.py reaches the Runner."""

from __future__ import annotations

import importlib.util
import sys

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmdet")

from conftest import ROOT  # noqa: E402


@pytest.fixture
def started(monkeypatch, tmp_path):
    """A function that runs the tool and returns the config of its Runner; nothing is trained."""
    spec = importlib.util.spec_from_file_location("train_tool", ROOT / "tools" / "train.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    monkeypatch.setenv("LOCAL_RANK", "0")

    class Runner:
        def __init__(self, config, training):
            assert training
            self.config, self.trained = config, False

        def train(self):
            self.trained = True

    def start(*arguments):
        runners = []

        def build_runner(config, training=False):
            runners.append(Runner(config, training))
            return runners[-1]

        monkeypatch.setattr(tool, "build_runner", build_runner)
        config = ROOT / "configs" / "scrfd_2.5g.py"
        monkeypatch.setattr(sys, "argv", ["train.py", str(config), "--work-dir", str(tmp_path / "run"), *arguments])
        assert tool.main() == 0
        (runner,) = runners
        assert runner.trained
        return runner.config

    return start


def test_without_options_the_config_is_trained_as_it_is(started, tmp_path):
    config = started()
    assert config.auto_scale_lr.enable is False
    assert config.optim_wrapper.type == "OptimWrapper"
    assert (config.load_from, config.resume, config.launcher) == (None, False, "none")
    assert config.train_dataloader.dataset.pipeline[2].size == 640
    assert config.work_dir == str(tmp_path / "run")


def test_the_learning_rate_is_scaled(started):
    assert started("--auto-scale-lr").auto_scale_lr == dict(enable=True, base_batch_size=8)


def test_mixed_precision_is_used(started):
    wrapper = started("--amp").optim_wrapper
    assert (wrapper.type, wrapper.loss_scale) == ("AmpOptimWrapper", "dynamic")


def test_the_input_size_changes(started):
    config = started("--size", "320")
    assert config.train_dataloader.dataset.pipeline[2].size == config.model.data_preprocessor.test_size == 320


def test_a_run_is_resumed_from_its_latest_checkpoint_or_from_a_file(started, tmp_path):
    (tmp_path / "run").mkdir()
    for epoch in (1, 2):
        torch.save({}, tmp_path / "run" / f"epoch_{epoch}.pth")
    config = started("--resume")
    assert (config.load_from, config.resume) == (str(tmp_path / "run" / "epoch_2.pth"), True)
    config = started("--resume", "other.pth")
    assert (config.load_from, config.resume) == ("other.pth", True)


def test_entries_of_the_config_change_and_data_move(started):
    config = started("--cfg-options", "train_dataloader.batch_size=3", "data_root=/elsewhere", "--launcher", "pytorch")
    assert config.train_dataloader.batch_size == 3
    assert config.train_dataloader.dataset.data_root == "/elsewhere/"
    assert config.launcher == "pytorch"
