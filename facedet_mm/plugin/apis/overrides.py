"""Changes that the tools make to a loaded config: data folder, input size, precision, learning rate, views."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import torch
from mmengine.config import Config, ConfigDict

from facedet_mm.errors import ModelError, TrainingError

_PACKED = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor", "flip", "flip_direction")
"""Default ``meta_keys`` of ``PackDetInputs``."""
_LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


def move_data(config: Config, root: str) -> None:
    """Makes all datasets and metrics of a config read from another folder.

    Args:
        config: Config to change: ``data_root`` of each dataset, and every path below one of these folders.
        root: New folder, instead of each ``data_root``.
    """
    loaders = [config[name] for name in _LOADERS if config.get(name)]
    roots = {entry.get("data_root") for loader in loaders for entry in walk_datasets(loader.dataset)} - {None, ""}
    old = sorted((folder.rstrip("/") + "/" for folder in roots), key=len, reverse=True)
    new = root.rstrip("/") + "/"

    def move(value: Any) -> Any:
        if isinstance(value, dict):
            for key, entry in value.items():
                value[key] = move(entry)
        elif isinstance(value, (list, tuple)):
            return type(value)(move(entry) for entry in value)
        elif isinstance(value, str):
            for folder in old:
                if f"{value}/".startswith(folder):
                    return new + value[len(folder) :]
        return value

    move(config._cfg_dict)


def walk_datasets(dataset: Any) -> Iterator[Any]:
    """Yields a dataset entry of a config and all entries that it wraps or joins."""
    yield dataset
    for inner in [dataset.get("dataset"), *dataset.get("datasets", ())]:
        if inner:
            yield from walk_datasets(inner)


def set_input_size(config: Config, size: str | int) -> None:
    """Changes the input size for training, validation and testing.

    Args:
        config: Config to change: the crops of its training pipeline, the resizing of its test pipelines, and the
            padding of its ``data_preprocessor``.
        size: Side of the square input in pixels, a multiple of 32.

    Raises:
        ModelError: The size is not a multiple of 32, or a pipeline has no step whose size could be changed.
    """
    side = _parse_side(size)
    for crop in _find_steps(config, "train_dataloader", "RandomSquareCrop"):
        crop.size = side
    for loader in ("val_dataloader", "test_dataloader"):
        for resize in _find_steps(config, loader, "KeepRatioResize"):
            resize.scale = (side, side)
    config.model.data_preprocessor.test_size = side


def set_test_size(config: Config, size: str | int) -> None:
    """Changes the input size for testing only.

    Args:
        config: Config to change: the resizing of its test pipeline and the padding of its ``data_preprocessor``.
        size: Side of the square input in pixels, a multiple of 32, or ``'original'`` for images that are not resized.

    Raises:
        ModelError: The size is neither ``'original'`` nor a multiple of 32, or the pipeline has no resizing step.
    """
    side = None if size == "original" else _parse_side(size)
    for resize in _find_steps(config, "test_dataloader", "KeepRatioResize"):
        if side is None:
            resize.pop("scale", None)
            resize.scale_factor = 1.0
        else:
            resize.scale = (side, side)
    config.model.data_preprocessor.test_size = side or 32


def use_amp(config: Config) -> None:
    """Turns on automatic mixed precision."""
    config.optim_wrapper.type = "AmpOptimWrapper"
    config.optim_wrapper.setdefault("loss_scale", "dynamic")


def use_cpu(config: Config) -> None:
    """Makes a config run without a GPU: processes talk through Gloo, and mixed precision is bfloat16.

    Raises:
        TrainingError: The launcher did not say how the processes find each other.
    """
    config.env_cfg.dist_cfg.backend = "gloo"
    if config.get("launcher") == "pytorch" and not torch.distributed.is_initialized():
        try:  # MMEngine's own start asks for a GPU
            torch.distributed.init_process_group("gloo")
        except ValueError as error:
            raise TrainingError(
                f"--launcher pytorch needs torchrun, which sets the environment of each process ({error}): "
                "start with bash tools/dist_train.sh CONFIG PROCESSES"
            ) from error
    if config.get("launcher", "none") != "none" and not config.get("model_wrapper_cfg"):  # the default asks for a GPU
        unused = config.get("find_unused_parameters", False)
        config.model_wrapper_cfg = dict(
            type="MMDistributedDataParallel", device_ids=None, broadcast_buffers=False, find_unused_parameters=unused
        )
    wrapper = config.get("optim_wrapper") or {}
    if wrapper.get("type") == "AmpOptimWrapper":
        wrapper.type = "CpuAmpOptimWrapper"
        for key in ("loss_scale", "dtype", "use_fsdp"):
            wrapper.pop(key, None)


def set_out_dir(config: Config, folder: str) -> None:
    """Makes the test metric write its predictions into a folder.

    Raises:
        ModelError: The config does not evaluate with ``WiderFaceMetric``.
    """
    evaluator = config.test_evaluator
    entries = list(evaluator) if isinstance(evaluator, (list, tuple)) else [evaluator]
    metrics = [metric for entry in entries for metric in entry.get("metrics", [entry])]
    writers = [metric for metric in metrics if metric.get("type") == "WiderFaceMetric"]
    if not writers:
        kinds = ", ".join(str(metric.get("type")) for metric in metrics)
        raise ModelError(
            f"--out writes the submission folder of WiderFaceMetric, but test_evaluator is {kinds}: "
            "add dict(type='WiderFaceMetric', ...) to it, or leave --out away"
        )
    writers[0].out_dir = folder


def scale_learning_rate(config: Config) -> None:
    """Turns on linear scaling of the learning rate with the total batch size.

    Raises:
        TrainingError: The config does not say for which total batch size its learning rate is meant.
    """
    if "base_batch_size" not in config.get("auto_scale_lr", {}):
        raise TrainingError("--auto-scale-lr needs auto_scale_lr = dict(base_batch_size=...) in the config")
    config.auto_scale_lr.enable = True


def use_tta(config: Config) -> None:
    """Turns on test-time augmentation: several views of each image are merged.

    Raises:
        ModelError: The config does not define the views.
    """
    if "tta_pipeline" not in config or "tta_model" not in config:
        raise ModelError(f"{config.filename}: --tta needs tta_pipeline and tta_model in the config")
    _wrap_model(config, config.tta_model)
    for entry in walk_datasets(config.test_dataloader.dataset):
        if "pipeline" in entry:
            entry.pipeline = config.tta_pipeline


def use_close_ups(config: Config) -> bool:
    """Makes testing look a second time, at a small view, for faces that fill the image, as the runtime does.

    Args:
        config: Config to change: its test pipeline, and its model if :func:`use_tta` has not wrapped it.

    Returns:
        Whether that is possible; it needs ``FaceDataPreprocessor``, a pipeline with ``KeepRatioResize`` and, with
        test-time augmentation, ``FaceTTAModel``. Otherwise nothing is changed.
    """
    wrapped = "module" in config.model
    model = config.model.module if wrapped else config.model
    datasets = [entry for entry in walk_datasets(config.test_dataloader.dataset) if "pipeline" in entry]
    pipelines = [_with_close_up(entry.pipeline) for entry in datasets]
    ours = model.get("data_preprocessor", {}).get("type") == "FaceDataPreprocessor"
    if not ours or None in pipelines or (wrapped and config.model.type != "FaceTTAModel"):
        return False
    for entry, pipeline in zip(datasets, pipelines, strict=True):
        entry.pipeline = pipeline
    if not wrapped:
        iou_thr = model.get("test_cfg", {}).get("nms", {}).get("iou_threshold", 0.45)
        _wrap_model(config, dict(type="FaceTTAModel", iou_thr=iou_thr))
    return True


def _wrap_model(config: Config, tta_model: dict) -> None:
    if config.model.data_preprocessor.type == "FaceDataPreprocessor":
        config.model.data_preprocessor.test_size = None
    config.model = ConfigDict(**tta_model, module=config.model)


def _with_close_up(steps: list[Any]) -> list[Any] | None:
    """Returns a test pipeline with one more view, or ``None`` if it has no ``KeepRatioResize``."""
    steps = deepcopy(list(steps))
    names = [step["type"] for step in steps]
    if "TestTimeAug" not in names and "KeepRatioResize" in names:
        first = names.index("KeepRatioResize")
        steps[first:] = [ConfigDict(type="TestTimeAug", transforms=[[step] for step in steps[first:]])]
    choices = steps[-1].get("transforms", [])
    resizing = [options for options in choices if options[0]["type"] == "KeepRatioResize"]
    if steps[-1]["type"] != "TestTimeAug" or not resizing:
        return None
    resizing[0].append(ConfigDict(type="CloseUpResize"))
    for pack in choices[-1]:
        pack.meta_keys = (*pack.get("meta_keys", _PACKED), "scale", "close_up")
    return steps


def _parse_side(size: str | int) -> int:
    if not str(size).isdigit() or int(size) == 0 or int(size) % 32:
        raise ModelError(f"--size must be 'original' (for testing) or a multiple of 32, not {size}")
    return int(size)


def _find_steps(config: Config, loader: str, step_type: str) -> list[Any]:
    pipelines = [entry.get("pipeline", ()) for entry in walk_datasets(config[loader].dataset)]
    steps = [step for pipeline in pipelines for step in pipeline if step["type"] == step_type]
    if not steps:
        raise ModelError(f"{config.filename}: the pipeline of {loader} has no {step_type} whose size could be changed")
    return steps
