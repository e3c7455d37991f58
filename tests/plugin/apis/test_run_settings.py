"""Settings of a run that can't work are refused in one line; those that can work do."""

from __future__ import annotations

import math
import os
import re
import socket
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmdet")

from training_samples import draw_faces, tiny_config  # noqa: E402

from facedet_mm.datasets import read_predictions  # noqa: E402
from facedet_mm.errors import FaceDetError, ModelError, TrainingError  # noqa: E402
from facedet_mm.plugin.apis.checkpoint import load_checkpoint  # noqa: E402
from facedet_mm.plugin.apis.overrides import set_out_dir, use_amp  # noqa: E402
from facedet_mm.plugin.apis.runner import build_runner, evaluate_checkpoint  # noqa: E402


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    draw_faces(folder)
    return folder


@pytest.fixture(scope="module")
def checkpoint(root, images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    build_runner(tiny_config(root, images, folder), training=True).train()
    return folder / "epoch_1.pth"


MISTAKES = [
    ({"train_dataloader__batch_size": 0}, r"train_dataloader\.batch_size must be .* at least 1, not 0"),
    ({"train_dataloader__batch_size": -3}, r"train_dataloader\.batch_size must be .* at least 1, not -3"),
    ({"val_dataloader__num_workers": -1}, r"val_dataloader\.num_workers must be .* at least 0, not -1"),
    ({"train_dataloader__num_workers": "two"}, r"train_dataloader\.num_workers must be .* not 'two'"),
    ({"train_dataloader__dataset__pipeline__2__scales": []}, "scales must be one or more positive numbers"),
    ({"train_dataloader__dataset__pipeline__2__size": 0}, "size must be"),
    ({"train_dataloader__dataset__pipeline__2__unknown": 1}, "unknown"),
    ({"train_dataloader__sampler__type": "NoSampler"}, "NoSampler"),
    ({"train_cfg__max_epochs": 1.5}, "max_epochs"),
    ({"optim_wrapper__optimizer__lr": -1.0}, "learning rate"),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES, ids=lambda value: str(value)[:50])
def test_a_setting_that_cannot_work_is_refused_before_the_run(options, message, root, images, tmp_path):
    with pytest.raises(TrainingError, match=message) as caught:
        build_runner(tiny_config(root, images, tmp_path, **options), training=True).train()
    assert "\n" not in str(caught.value)


def test_no_workers_work(root, images, tmp_path):
    config = tiny_config(root, images, tmp_path)
    for loader in (config.train_dataloader, config.val_dataloader):
        loader.update(num_workers=0, persistent_workers=True, prefetch_factor=4)
    build_runner(config, training=True).train()
    assert (tmp_path / "epoch_1.pth").is_file()


@pytest.mark.skipif(torch.cuda.is_available(), reason="the machine has a GPU")
def test_mixed_precision_works_on_a_cpu(root, images, tmp_path):
    states = {}
    for name in ("float32", "amp"):
        config = tiny_config(root, images, tmp_path / name, kps=True)
        if name == "amp":
            use_amp(config)
        seen = []
        runner = build_runner(config, training=True)
        head = runner.model.bbox_head
        head.cls_convs[0].register_forward_hook(lambda conv, _, out, seen=seen: seen.append((conv.training, out.dtype)))
        runner.train()
        assert {dtype for training, dtype in seen if training} == {torch.bfloat16 if name == "amp" else torch.float32}
        states[name] = load_checkpoint(tmp_path / name / "epoch_1.pth")["state_dict"]
    weights = [key for key, value in states["amp"].items() if value.is_floating_point()]
    assert all(states["amp"][key].dtype == torch.float32 for key in weights)
    assert max((states["amp"][key] - states["float32"][key]).abs().max() for key in weights) < 0.05


def test_a_run_prints_a_short_header_and_the_log_file_has_the_rest(root, images, tmp_path, capfd):
    runner = build_runner(tiny_config(root, images, tmp_path), training=True)
    printed = capfd.readouterr().out.splitlines()
    assert len(printed) < 15, printed
    log = tmp_path / runner.timestamp / f"{runner.timestamp}.log"
    assert any(line.endswith(f"Config, environment and hooks are in {log}") for line in printed)
    assert any("Training: 1 epochs of 2 images per step and process, SGD with lr=0.05" in line for line in printed)
    text = log.read_text()
    assert "System environment" in text
    assert "SampleSeedHook" in text
    assert "stage_planes" in text
    runner.logger.info("one\ntwo")
    assert "two" in capfd.readouterr().out, "tables are printed from then on"


def test_missing_data_ends_in_two_lines(root, tmp_path):
    done = subprocess.run(
        [sys.executable, root / "tools/train.py", root / "configs/scrfd_0.5g.py", "--work-dir", tmp_path / "run",
         "--cfg-options", f"data_root={tmp_path}/elsewhere"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    first, second = [line for line in done.stderr.splitlines() if "arn" not in line][-2:]
    assert re.match(rf"train: error: {tmp_path}/elsewhere/.*bbx_gt.txt is missing: .*data_root='{tmp_path}/else", first)
    assert f"python tools/dataset/prepare_wider.py {tmp_path}/elsewhere/" in second


class TestOut:
    def test_works_with_several_evaluators(self, root, images, checkpoint, tmp_path):
        config = tiny_config(root, images, tmp_path)
        ours = config.test_evaluator
        config.test_evaluator = [dict(type="DumpDetResults", out_file_path=str(tmp_path / "r.pkl")), ours]
        evaluate_checkpoint(config, checkpoint, out=tmp_path / "out")
        assert len(read_predictions(tmp_path / "out").names) == 6

    @pytest.mark.parametrize("several", [False, True])
    def test_is_refused_where_no_evaluator_writes_it(self, several, root, images, tmp_path):
        config = tiny_config(root, images, tmp_path)
        config.test_evaluator = dict(type="CocoMetric", ann_file=str(images / "coco.json"))
        if several:
            config.test_evaluator = [config.test_evaluator, dict(type="CocoMetric")]
        with pytest.raises(ModelError, match=r"--out writes .* test_evaluator is CocoMetric.*add dict"):
            set_out_dir(config, str(tmp_path / "out"))


def test_a_network_that_predicts_nan_is_an_error_and_not_an_empty_image(root, images, checkpoint, tmp_path):
    config = tiny_config(root, images, tmp_path)
    state = load_checkpoint(checkpoint)["state_dict"]
    state["backbone.stem.0.conv.weight"] = torch.full_like(state["backbone.stem.0.conv.weight"], 3e38)
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    with pytest.raises(FaceDetError, match=r"\d+ of the \d+ \w+ that the network predicts are NaN or infinite"):
        evaluate_checkpoint(config, tmp_path / "w.pth")


def run_tool(root, tool, *arguments, env=None):
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}",
    }
    return subprocess.run(
        ["bash", root / "tools" / tool, *map(str, arguments)],
        capture_output=True, text=True, timeout=500, check=False, env={**environment, **(env or {})},
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="the machine has a GPU")
def test_two_processes_train_and_test_without_a_gpu(root, images, tmp_path):
    config = tiny_config(root, images, tmp_path / "run", train_cfg__val_interval=1)
    config.dump(tmp_path / "c.py")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    done = run_tool(root, "dist_train.sh", tmp_path / "c.py", 2, "--work-dir", tmp_path / "run", env={"PORT": port})
    assert done.returncode == 0, done.stderr[-3000:]
    checkpoint = tmp_path / "run" / "epoch_1.pth"
    done = run_tool(
        root, "dist_test.sh", tmp_path / "c.py", checkpoint, 2, "--work-dir", tmp_path / "run", env={"PORT": port}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert not math.isnan(float(done.stdout.splitlines()[-1].split()[-1]))


def test_the_scripts_for_several_processes_say_what_they_need(root):
    done = run_tool(root, "dist_train.sh", "config.py")
    assert done.returncode != 0
    assert "Usage: dist_train.sh CONFIG PROCESSES" in done.stderr
    done = run_tool(root, "dist_test.sh", "config.py", "w.pth")
    assert done.returncode != 0
    assert "Usage: dist_test.sh CONFIG CHECKPOINT PROCESSES" in done.stderr
