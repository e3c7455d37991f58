"""Training and testing with the mmengine Runner, as ``tools/train.py`` and ``tools/test.py`` start it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, DictAction
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from facedet_mm.plugin.apis.build import build_model, load_config
from facedet_mm.plugin.apis.checkpoint import load_checkpoint, load_weights
from facedet_mm.plugin.apis.compatibility import check_landmarks
from facedet_mm.plugin.apis.overrides import set_test_size, use_tta
from facedet_mm.plugin.engine.storage import latest_checkpoint


def add_runner_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that training and testing share."""
    parser.add_argument("config", type=Path, help="config file")
    parser.add_argument("--work-dir", type=Path, help="folder for logs and checkpoints (default: work_dirs/CONFIG)")
    parser.add_argument(
        "--cfg-options", nargs="+", action=DictAction, default={}, metavar="KEY=VALUE",
        help="change entries of the config, e.g. train_dataloader.batch_size=4; data_root=DIR moves all data",
    )  # fmt: skip
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none", help="job launcher")
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)


def prepare_config(
    path: Path,
    work_dir: str | os.PathLike[str] | None = None,
    options: Mapping[str, Any] | None = None,
    launcher: str = "none",
    local_rank: int = 0,
) -> Config:
    """Returns a config that :func:`build_runner` can start.

    Args:
        path: Config file.
        work_dir: Folder for logs and checkpoints. By default the config's own, or ``work_dirs`` and its name.
        options: Entries to change, as in :func:`~facedet_mm.plugin.apis.build.load_config`.
        launcher: Program that started the processes: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.
        local_rank: Index of this process on its machine, where the launcher does not set ``LOCAL_RANK``.

    Raises:
        ModelError: The config is missing or cannot be read.
    """
    os.environ.setdefault("LOCAL_RANK", str(local_rank))
    config = load_config(path, options)
    config.launcher = launcher
    if not torch.cuda.is_available():
        config.env_cfg.dist_cfg.backend = "gloo"
    config.work_dir = str(work_dir or config.get("work_dir") or Path("work_dirs") / path.stem)
    return config


def choose_checkpoint(config: Config, resume: str | None) -> None:
    """Sets the checkpoint that a run starts from.

    Args:
        config: Config to change.
        resume: A checkpoint, ``'auto'`` for the latest one in the run's folder, or ``None`` to leave the config alone.
    """
    if resume is None:
        return
    checkpoint = latest_checkpoint(config.work_dir) if resume == "auto" else Path(resume)
    config.resume = checkpoint is not None
    if checkpoint is not None:
        config.load_from = str(checkpoint)


def build_runner(config: Config, training: bool = False) -> Runner:
    """Returns the Runner of a config, after checking that its checkpoint contains only weights and numbers.

    Args:
        config: A config from :func:`prepare_config`.
        training: Whether the Runner is going to train; then the annotations are checked too.

    Raises:
        ModelError: The model cannot be built, its parts do not fit each other, or the checkpoint cannot be loaded.
        TrainingError: The model learns landmarks, but the annotations have none.
        AnnotationError: The annotations are missing or malformed.
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
        config: A config from :func:`prepare_config`.
        checkpoint: Checkpoint of that config; it must fit the model completely.
        size: Side in pixels of the square that images are fitted into, a multiple of 32, or ``'original'``.
        tta: Whether to merge several views of each image; ``tta_pipeline`` and ``tta_model`` in the config.
        out: Folder for the predictions in submission format.

    Returns:
        The metrics of the config, e.g. ``wider_face/hard`` as a fraction.

    Raises:
        FaceDetError: The config, checkpoint, size or data are wrong.
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
