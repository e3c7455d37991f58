"""Training through the Runner: killed and resumed, on two processes, and stopped at a bad loss."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmdet")

from mmengine.structures import InstanceData  # noqa: E402
from model_samples import Malicious, face_sample, random_faces  # noqa: E402

from facedet_mm.errors import ModelError, TrainingError  # noqa: E402
from facedet_mm.plugin.apis.checkpoint import load_checkpoint  # noqa: E402
from facedet_mm.plugin.apis.overrides import move_data  # noqa: E402
from facedet_mm.plugin.apis.runner import choose_checkpoint  # noqa: E402
from facedet_mm.plugin.engine import AtomicLocalBackend, InvalidLossHook  # noqa: E402
from facedet_mm.plugin.engine.storage import latest_checkpoint  # noqa: E402

CONFIG = """
_base_ = {base!r}
model = dict(
    backbone=dict(stem_planes=(8, 8), stage_planes=(8, 8, 16, 16), stage_blocks=(1, 1, 1, 1)),
    neck=dict(in_channels=[8, 8, 16, 16], out_channels=8),
    bbox_head=dict(in_channels=8, feat_channels=8, norm_cfg=dict(num_groups=4)))
train_cfg = dict(max_epochs=4, val_interval=100)
train_dataloader = dict(batch_size=2, num_workers={workers})
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(save_best=None))
custom_hooks = [
    dict(type='SampleSeedHook'), dict(type='InvalidLossHook'), dict(type='EMAHook', momentum=0.1, update_buffers=True)]
optim_wrapper = dict(optimizer=dict(lr=0.05))
randomness = dict(seed=3)
visualizer = dict(vis_backends=[])
"""


@pytest.fixture(scope="module")
def run(root, tmp_path_factory):
    """A tiny data set of noise with drawn faces, and configs that train a tiny model on it."""
    folder = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(0)
    lines = []
    for split in ("train", "val"):
        images = folder / f"WIDER_{split}" / "images" / "0--Noise"
        images.mkdir(parents=True)
        lines.clear()
        for i in range(8):
            image = rng.integers(0, 256, (96, 128, 3), np.uint8)
            faces = []
            for _ in range(3):
                x, y, side = *rng.integers(0, 60, 2), rng.integers(12, 36)
                cv2.ellipse(
                    image,
                    (int(x + side // 2), int(y + side // 2)),
                    (int(side // 2),) * 2,
                    0,
                    0,
                    360,
                    (120, 150, 220),
                    -1,
                )
                faces.append(f"{x} {y} {side} {side} 0 0 0 0 0 0")
            cv2.imwrite(str(images / f"{i}.png"), image)
            lines += [f"0--Noise/{i}.png", "3", *faces]
        (folder / "wider_face_split").mkdir(exist_ok=True)
        (folder / "wider_face_split" / f"wider_face_{split}_bbx_gt.txt").write_text("\n".join(lines) + "\n")
    for workers in (0, 2):
        text = CONFIG.format(base=str(root / "configs" / "scrfd_0.5g.py"), workers=workers)
        text += f"train_dataloader['persistent_workers'] = {workers > 0}\n"
        text += "val_dataloader = dict(num_workers=0, persistent_workers=False)\n"
        annotations = "data/wider_face/wider_face_split/wider_face_val_bbx_gt.txt"
        text += f"val_evaluator = dict(ground_truth=None, ann_file={annotations!r})\n"
        text += "test_evaluator = val_evaluator\ntest_dataloader = val_dataloader\n"
        (folder / f"workers{workers}.py").write_text(text)
    return folder


def train(root, run, work_dir, *extra, config="workers2.py", wait=True):
    command = [sys.executable, root / "tools" / "train.py", run / config, "--work-dir", work_dir, *extra]
    command += ["--cfg-options", f"data_root={run}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    if not wait:
        return process
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output[-3000:]
    return output


def weights(path):
    checkpoint = load_checkpoint(path)
    return {**checkpoint["state_dict"], **{f"ema {k}": v for k, v in checkpoint.get("ema_state_dict", {}).items()}}


def assert_equal_weights(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@pytest.mark.slow
def test_a_killed_and_resumed_run_ends_with_the_weights_of_one_that_was_not(root, run, tmp_path):
    train(root, run, tmp_path / "whole", config="workers0.py")
    killed = train(root, run, tmp_path / "killed", wait=False)
    log = ""
    for line in killed.stdout:
        log += line
        if "Epoch(train) [3][2/4]" in line:
            break
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert "Epoch(train) [3][2/4]" in log, log[-3000:]
    assert latest_checkpoint(tmp_path / "killed").name == "epoch_2.pth"
    # what a kill in the middle of writing leaves with other writers: it must not be picked up, nor break the run
    (tmp_path / "killed" / ".epoch_3.tmp.pth").write_bytes(b"half")
    (tmp_path / "killed" / "last_checkpoint").write_text("")
    log = train(root, run, tmp_path / "killed", "--resume")
    assert "resumed epoch: 2" in log
    # with other numbers of workers, too: the augmentation depends on seed, epoch and image alone
    assert_equal_weights(weights(tmp_path / "killed" / "epoch_4.pth"), weights(tmp_path / "whole" / "epoch_4.pth"))
    first = weights(tmp_path / "whole" / "epoch_4.pth")
    assert any(name.startswith("ema ") for name in first)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    backend, path = AtomicLocalBackend(), tmp_path / "epoch_1.pth"
    backend.put(b"old", path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(Exception, match=r"epoch_1\.pth.*No space left"):
        backend.put(b"new", path)
    monkeypatch.undo()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["epoch_1.pth"]


def test_the_latest_checkpoint_is_the_one_with_the_highest_epoch(tmp_path):
    assert latest_checkpoint(tmp_path) is None
    for name in ("epoch_9.pth", "epoch_10.pth", "best_wider_face_hard_epoch_12.pth", "epoch_x.pth"):
        (tmp_path / name).touch()
    assert latest_checkpoint(tmp_path).name == "epoch_10.pth"


def test_a_loss_that_is_not_finite_stops_the_run_and_names_the_images():
    class Runner:
        epoch, iter = 2, 17

    samples = [InstanceData(metainfo=dict(img_path=f"{i}.jpg")) for i in range(2)]
    hook = InvalidLossHook()
    fine = {"loss": torch.tensor(1.0), "loss_cls": torch.tensor(0.5)}
    hook.after_train_iter(Runner, 0, dict(data_samples=samples), fine)
    for value in (float("nan"), float("inf")):
        with pytest.raises(TrainingError, match=r"loss_cls = (nan|inf) at epoch 3, iteration 18.*0\.jpg, 1\.jpg"):
            hook.after_train_iter(Runner, 0, dict(data_samples=samples), {**fine, "loss_cls": torch.tensor(value)})


WORKER = """
import sys, torch
import torch.distributed as dist
sys.path[:0] = {paths!r}
from test_training import normed_model, joint_samples, step
rank, world = int(sys.argv[1]), 2
dist.init_process_group('gloo', init_method='tcp://127.0.0.1:{port}', rank=rank, world_size=world)
model = torch.nn.parallel.DistributedDataParallel(normed_model())
images, samples = joint_samples()
half = slice(2 * rank, 2 * rank + 2)
losses = [step(model, images[half], samples[half]) for _ in range(2)]
torch.save(dict(losses=losses, state=model.module.state_dict()), {out!r} + f'/rank{{rank}}.pt')
"""


def normed_model():
    """A small model whose norms do not look across the batch, so that splitting a batch changes nothing else."""
    from facedet_mm.plugin.apis.build import build_model, load_config
    from facedet_mm.zoo import config_path

    torch.manual_seed(0)
    cfg = load_config(config_path("scrfd_0.5g_kps"))
    norm = dict(type="GN", num_groups=4)
    cfg.model.backbone.update(stem_planes=(8, 8), stage_planes=(8, 8, 16, 16), stage_blocks=(1,) * 4, norm_cfg=norm)
    cfg.model.neck.update(in_channels=[8, 8, 16, 16], out_channels=8)
    cfg.model.bbox_head.update(in_channels=8, feat_channels=8, norm_cfg=norm)
    model = build_model(cfg)
    model.forward = model.loss  # what DistributedDataParallel calls
    return model.train()


def joint_samples():
    rng = np.random.default_rng(5)
    images = torch.from_numpy(rng.normal(0, 1, (4, 3, 128, 128)).astype(np.float32))
    return images, [face_sample(random_faces(rng, n, 128, 8, 60), np.ones((n, 5, 2)) * 50) for n in (1, 0, 9, 4)]


def step(model, images, samples):
    """One SGD step; gives the losses."""
    losses = model(images, samples)
    model.zero_grad()
    sum(losses.values()).backward()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.05 * parameter.grad
    return {name: loss.item() for name, loss in losses.items()}


@pytest.mark.slow
def test_two_processes_compute_the_losses_and_weights_of_one_with_the_joint_batch(tmp_path):
    model = normed_model()
    images, samples = joint_samples()
    expected = [step(model, images, samples) for _ in range(2)]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = WORKER.format(paths=[str(Path(__file__).parent), *sys.path], port=port, out=str(tmp_path))
    workers = [subprocess.Popen([sys.executable, "-c", code, str(rank)], stderr=subprocess.PIPE) for rank in (0, 1)]
    for worker in workers:
        _, errors = worker.communicate(timeout=200)
        assert worker.returncode == 0, errors.decode()[-3000:]
    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    for i, losses in enumerate(expected):
        for name, value in losses.items():
            assert np.mean([rank["losses"][i][name] for rank in ranks]) == pytest.approx(value, rel=1e-5), name
    for name, value in model.state_dict().items():
        assert torch.allclose(ranks[0]["state"][name], value, atol=1e-6), name
        assert torch.equal(ranks[0]["state"][name], ranks[1]["state"][name]), name


def test_all_paths_of_a_config_move_with_data_root(root):
    from facedet_mm.plugin.apis.build import load_config

    config = load_config(root / "configs" / "scrfd_2.5g_kps.py")
    move_data(config, "/elsewhere")
    assert config.train_dataloader.dataset.data_root == "/elsewhere/"
    assert config.val_evaluator.ground_truth == "/elsewhere/ground_truth"
    assert "data/wider_face" not in config.pretty_text


def test_an_unsafe_checkpoint_is_not_resumed_from(tmp_path, root):
    from facedet_mm.plugin.apis.build import load_config
    from facedet_mm.plugin.apis.runner import build_runner

    torch.save({"state_dict": {"a": torch.zeros(1)}, "meta": Malicious(tmp_path / "run")}, tmp_path / "epoch_3.pth")
    config = load_config(root / "configs" / "scrfd_0.5g.py")
    config.work_dir = str(tmp_path)
    choose_checkpoint(config, "auto")
    assert config.load_from == str(tmp_path / "epoch_3.pth")
    with pytest.raises(ModelError, match="refused"):
        build_runner(config)
    assert not (tmp_path / "run").exists()


def test_a_first_run_with_resume_still_starts_from_the_weights_of_its_config(tmp_path):
    from mmengine.config import Config

    config = Config(dict(work_dir=str(tmp_path), load_from="official.pth", resume=False))
    choose_checkpoint(config, "auto")
    assert (config.load_from, config.resume) == ("official.pth", False)
    torch.save({"epoch": 1}, tmp_path / "epoch_1.pth")
    choose_checkpoint(config, "auto")
    assert (config.load_from, config.resume) == (str(tmp_path / "epoch_1.pth"), True)
