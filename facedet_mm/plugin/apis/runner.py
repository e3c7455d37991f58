"""Runs of the mmengine Runner, as ``tools/train.py`` and ``tools/test.py`` start them."""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config, ConfigDict, DictAction
from mmengine.device import get_device
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from facedet_mm.errors import ModelError, TrainingError
from facedet_mm.plugin.apis.build import build_model, load_config
from facedet_mm.plugin.apis.checkpoint import load_checkpoint, load_weights
from facedet_mm.plugin.apis.config_checks import check_landmarks
from facedet_mm.plugin.engine.storage import latest_checkpoint


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that training and testing share."""
    parser.add_argument("config", type=Path, help="config file")
    parser.add_argument("--work-dir", type=Path, help="folder for logs and checkpoints (work_dirs/<config>)")
    parser.add_argument(
        "--cfg-options", nargs="+", action=DictAction, default={}, metavar="KEY=VALUE",
        help="change entries of the config, e.g. train_dataloader.batch_size=4 data_root=...",
    )  # fmt: skip
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none", help="job launcher")
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)


def run_config(args: argparse.Namespace) -> Config:
    """The config that the shared arguments describe.

    Raises:
        ModelError: the config is missing or can't be read.
    """
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    config = load_config(args.config)
    options = dict(args.cfg_options or {})
    if root := options.pop("data_root", None):
        move_data(config, str(root))
    config.merge_from_dict(options)
    config.launcher = args.launcher
    if not torch.cuda.is_available():
        config.env_cfg.dist_cfg.backend = "gloo"
    config.work_dir = str(args.work_dir or config.get("work_dir") or Path("work_dirs") / args.config.stem)
    return config


def move_data(config: Config, root: str) -> None:
    """Lets all datasets and metrics of a config read from another folder."""
    old = config.get("data_root", "")
    root = root.rstrip("/") + "/"

    def move(value: Any) -> Any:
        if isinstance(value, dict):
            for key, entry in value.items():
                value[key] = move(entry)
        elif isinstance(value, (list, tuple)):
            return type(value)(move(entry) for entry in value)
        elif isinstance(value, str) and old and value.startswith(old):
            return root + value[len(old) :]
        return value

    move(config._cfg_dict)


def choose_checkpoint(config: Config, resume: str | None) -> None:
    """Sets what a run starts from: ``'auto'`` is the latest checkpoint of its folder, a path that file.

    Raises:
        ModelError: the checkpoint is missing, incomplete or unsafe.
    """
    if resume is None:
        return
    checkpoint = latest_checkpoint(config.work_dir) if resume == "auto" else Path(resume)
    config.resume = checkpoint is not None
    if checkpoint is not None:
        config.load_from = str(checkpoint)


def scale_learning_rate(config: Config) -> None:
    """Turns on linear scaling with the total batch.

    Raises:
        TrainingError: the config doesn't say for which total batch its rate is meant.
    """
    if "base_batch_size" not in config.get("auto_scale_lr", {}):
        raise TrainingError("--auto-scale-lr needs auto_scale_lr = dict(base_batch_size=...) in the config")
    config.auto_scale_lr.enable = True


def use_amp(config: Config) -> None:
    """Switches to mixed precision."""
    config.optim_wrapper.type = "AmpOptimWrapper"
    config.optim_wrapper.setdefault("loss_scale", "dynamic")


def build_runner(config: Config, training: bool = False) -> Runner:
    """The Runner of a config; what it loads is checked first to be nothing but weights and numbers.

    Args:
        config: What :func:`run_config` gives.
        training: Whether it is to train; then the annotations must have what the model learns.

    Raises:
        ModelError: the model can't be built, its parts don't fit each other, or the checkpoint can't be loaded.
        TrainingError: the model learns landmarks, and the annotations have none.
        AnnotationError: the annotations are missing or malformed.
    """
    build_model(config)
    if training:
        check_landmarks(config)
    if config.get("load_from"):
        load_checkpoint(config.load_from)
    return RUNNERS.build(config) if "runner_type" in config else Runner.from_cfg(config)


def evaluate_checkpoint(
    config: Config,
    checkpoint: str | os.PathLike[str],
    size: str | int | None = None,
    tta: bool = False,
    out: str | os.PathLike[str] | None = None,
) -> dict[str, float]:
    """Evaluates a checkpoint on the test set of a config.

    Args:
        config: What :func:`run_config` gives.
        checkpoint: Made for that config; it must fit it completely.
        size: A side in pixels, a multiple of 32, into whose square images are fitted, or ``'original'``.
        tta: Whether to join several views of each image, ``tta_pipeline`` and ``tta_model`` in the config.
        out: Folder for the predictions in submission format.

    Returns:
        What the config's metrics give, e.g. ``wider_face/hard`` as a fraction.

    Raises:
        FaceDetError: config, checkpoint, size or data are wrong.
    """
    if size is not None:
        set_test_size(config, size)
    if tta:
        use_tta(config)
    if out is not None:
        config.test_evaluator.out_dir = str(out)
    config.load_from, config.resume = None, False
    runner = build_runner(config)
    model = runner.model
    while hasattr(model, "module"):  # wrapped for several processes or several views
        model = model.module
    load_weights(model, checkpoint)
    return runner.test()


def set_test_size(config: Config, size: str | int) -> None:
    """Changes the size at which images are tested.

    Raises:
        ModelError: neither ``'original'`` nor a multiple of 32, or the pipeline has no resize to change.
    """
    pipeline = config.test_dataloader.dataset.pipeline
    resizes = [step for step in pipeline if step["type"] == "KeepRatioResize"]
    if not resizes:
        raise ModelError(f"{config.filename}: the test pipeline has no KeepRatioResize whose size could be changed")
    preprocessor = config.model.data_preprocessor
    if size == "original":
        resizes[0].pop("scale", None)
        resizes[0].scale_factor = 1.0
        preprocessor.test_size = 32
        return
    if not str(size).isdigit() or int(size) == 0 or int(size) % 32:
        raise ModelError(f"--size must be 'original' or a multiple of 32, not {size}")
    resizes[0].scale = (int(size), int(size))
    preprocessor.test_size = int(size)


def use_tta(config: Config) -> None:
    """Lets a test join several views of each image.

    Raises:
        ModelError: the config says nothing about the views.
    """
    if "tta_pipeline" not in config or "tta_model" not in config:
        raise ModelError(f"{config.filename}: --tta needs tta_pipeline and tta_model in the config")
    config.model.data_preprocessor.test_size = 32
    config.model = ConfigDict(**config.tta_model, module=config.model)
    config.test_dataloader.dataset.pipeline = config.tta_pipeline


def speed_table(config: Config, checkpoint: str | os.PathLike[str], sides: Sequence[int] = (320, 480, 640, 960)) -> str:
    """Milliseconds of a forward pass with decoding and NMS for one image, at several input sizes."""
    model = build_model(config).eval()
    load_weights(model, checkpoint)
    model.to(get_device())
    lines = [f"input     ms/image  images/s   ({get_device()}, batch 1, median of 20)"]
    for side in sides:
        batch = torch.randn(1, 3, side, side, device=get_device())
        sample = DetDataSample(metainfo=dict(img_shape=(side, side), scale_factor=(1.0, 1.0)))
        times = []
        with torch.inference_mode():
            for _ in range(25):
                start = time.perf_counter()
                model.predict(batch, [sample.clone()])
                if batch.is_cuda:
                    torch.cuda.synchronize()
                times.append(time.perf_counter() - start)
        ms = 1000 * statistics.median(times[5:])
        lines.append(f"{side:4} x {side:<4} {ms:8.2f} {1000 / ms:9.1f}")
    return "\n".join(lines)
