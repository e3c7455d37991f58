"""Training and testing with the mmengine Runner, as ``tools/train.py`` and ``tools/test.py`` start it."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import torch
from mmengine.config import Config, DictAction
from mmengine.logging import print_log
from mmengine.registry import RUNNERS
from mmengine.runner import Runner
from torch import nn

from facedet_mm.detectors.views import CLOSE_UP_SIDE
from facedet_mm.errors import ModelError, TrainingError
from facedet_mm.plugin.apis.build import build_model, load_config, mistakes_as
from facedet_mm.plugin.apis.checkpoint import load_weights
from facedet_mm.plugin.apis.compatibility import check_landmarks, check_loaders
from facedet_mm.plugin.apis.overrides import (
    set_out_dir,
    set_test_size,
    use_close_ups,
    use_cpu,
    use_tta,
    walk_datasets,
)
from facedet_mm.plugin.datasets.transforms import check_transforms
from facedet_mm.plugin.engine.fit import check_complete, check_resumable, check_start
from facedet_mm.plugin.engine.loading import read_for_runner
from facedet_mm.plugin.engine.quiet import QuietRunner
from facedet_mm.plugin.engine.storage import latest_checkpoint

_CLOSE_UPS = f"Each image is searched again, {CLOSE_UP_SIDE} pixels large, for faces that fill it (--no-close-ups)"
_NO_CLOSE_UPS = (
    "No second search for faces that fill the image: it needs FaceDataPreprocessor, KeepRatioResize in the test "
    "pipeline and, with --tta, FaceTTAModel"
)
_CHECKS = ("CheckpointFitHook", "LandmarkArrivalHook", "ValidationImagesHook")


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
    """Returns the Runner of a config whose checkpoint, data and parts were checked.

    Args:
        config: A config from :func:`prepare_config`.
        training: Whether the Runner is going to train; then the annotations are checked too, and the data loaders are
            built.

    Raises:
        ModelError: The model cannot be built, its parts do not fit each other, or the checkpoint cannot be loaded or is
            of another model.
        TrainingError: The model learns landmarks, but the annotations have none, or a data loader cannot be built.
        AnnotationError: The annotations are missing or malformed.
    """
    model = build_model(config)
    if config.get("resume") and not config.get("load_from"):
        choose_checkpoint(config, "auto")
    if training:
        check_loaders(config)
        if check_landmarks(config):
            model = build_model(config)
        pipelines = [entry.get("pipeline") for entry in walk_datasets(config.train_dataloader.dataset)]
        check_transforms([pipelines, config.get("custom_hooks")])  # a hook may hold the pipeline of the last epochs
    if config.get("load_from"):
        _check_checkpoint(config, model, training)
    _add_hooks(config)
    if not torch.cuda.is_available():
        use_cpu(config)
    with mistakes_as(TrainingError, f"{config.filename}: the run cannot be prepared"):
        runner = RUNNERS.build(config) if "runner_type" in config else QuietRunner.from_cfg(config)
        # each of these builds datasets and pipelines
        _ = (runner.train_loop, runner.val_loop) if training else runner.test_loop
        if training:
            runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    return runner


def _check_checkpoint(config: Config, model: nn.Module, training: bool) -> None:
    """Checks a checkpoint on this machine before anything else is built; the hook checks those from elsewhere."""
    name = str(config.load_from)
    if re.match(r"[\w+.-]+://", name):
        return
    checkpoint = read_for_runner(os.path.expanduser(name), "cpu")
    if config.get("resume"):
        check_resumable(checkpoint, name)
    if training and not config.get("resume"):
        check_start(model, checkpoint, name)
    else:
        check_complete(model, checkpoint, name)


def _add_hooks(config: Config) -> None:
    """Adds the hooks that check a run to those of a config that replaced them."""
    hooks = list(config.get("custom_hooks") or [])
    present = {hook.get("type") for hook in hooks if isinstance(hook, Mapping)}
    config.custom_hooks = [*hooks, *(dict(type=name) for name in _CHECKS if name not in present)]


def end_process(status: int) -> NoReturn:
    """Ends a tool; one of several processes ends at once, because Gloo's threads sometimes abort an orderly end."""
    if torch.distributed.is_initialized():
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(status)
    sys.exit(status)


def evaluate_checkpoint(
    config: Config,
    checkpoint: str | os.PathLike[str],
    size: str | int | None = None,
    tta: bool = False,
    close_ups: bool = False,
    out: str | os.PathLike[str] | None = None,
) -> dict[str, float]:
    """Evaluates a checkpoint on the test set of a config.

    Args:
        config: A config from :func:`prepare_config`.
        checkpoint: Checkpoint of that config; it must fit the model completely.
        size: Side in pixels of the square that images are fitted into, a multiple of 32, or ``'original'``.
        tta: Whether to merge several views of each image; ``tta_pipeline`` and ``tta_model`` in the config.
        close_ups: Whether to look a second time, at a small view, for faces that fill the image, as the runtime does.
            A line in the log says if the config does not allow it.
        out: Folder for the predictions in submission format.

    Returns:
        The metrics of the config, e.g. ``wider_face/hard`` as a fraction.

    Raises:
        FaceDetError: The config, checkpoint, size or data are wrong.
    """
    if size is not None and tta:
        raise ModelError("--size and --tta exclude each other: the sizes of --tta are in tta_pipeline of the config")
    if size is not None:
        set_test_size(config, size)
    if tta:
        use_tta(config)
    possible = close_ups and use_close_ups(config)
    if out is not None:
        set_out_dir(config, str(out))
    config.load_from, config.resume = None, False
    check_loaders(config)
    runner = build_runner(config)
    model = runner.model
    while hasattr(model, "module"):  # wrapped for several processes or several views
        model = model.module
    load_weights(model, checkpoint)
    if close_ups:
        print_log(_CLOSE_UPS if possible else _NO_CLOSE_UPS, logger="current")
    return runner.test()
