"""Backends of mmdeploy: builds one, runs it, and describes it for mmdeploy's SDK."""

from __future__ import annotations

import os
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path

import torch
from mmdeploy.apis import build_task_processor
from mmdeploy.apis.utils import to_backend
from mmdeploy.backend.sdk.export_info import export2SDK
from mmdeploy.utils import get_backend, get_calib_filename, get_input_shape
from mmengine.config import Config
from torch import nn

from facedet_mm.errors import ModelError
from facedet_mm.plugin.apis.build import build_model
from facedet_mm.plugin.deploy.mmdeploy_calibration import write_calibration
from facedet_mm.plugin.deploy.mmdeploy_graph import build_task, device_type
from facedet_mm.plugin.models.instances import faces_from_instances
from facedet_mm.structures import Faces


def build_backend(
    graph: Path, deploy_cfg: Config, model_cfg: Config, calibration_config: str | os.PathLike[str] | None, device: str
) -> list[str]:
    """Builds the files that the backend runs, and returns their paths; ONNX Runtime runs the graph itself.

    Args:
        graph: The exported graph; other files are written beside it.
        deploy_cfg: Deploy config.
        model_cfg: Config of the model.
        calibration_config: Config whose ``val_dataloader`` loads the images for INT8; ``None`` means training images
            of ``model_cfg``.
        device: Device that builds.

    Raises:
        ModelError: The backend can't be built.
    """
    backend = get_backend(deploy_cfg).value
    if name := get_calib_filename(deploy_cfg):
        write_calibration(build_model(model_cfg), model_cfg, graph.with_name(name), calibration_config)
    try:
        return list(to_backend(backend, [str(graph)], str(graph.parent), deploy_cfg=deploy_cfg, device=device))
    except Exception as error:  # the errors of TensorRT's builder have no common base
        raise ModelError(f"{backend} cannot be built from {graph.name} ({type(error).__name__}: {error})") from error


def load_backend(
    files: Sequence[str | os.PathLike[str]], deploy_cfg: Config, model_cfg: Config, device: str = "cpu"
) -> nn.Module:
    """Returns mmdeploy's detector that runs ``files``, with the ``test_step`` of an mmdet detector."""
    task = build_task_processor(model_cfg, deploy_cfg, device)
    return task.build_backend_model([os.fspath(file) for file in files], task.update_data_preprocessor)


def predict(model: nn.Module, deploy_cfg: Config, model_cfg: Config, image: str | os.PathLike[str]) -> Faces:
    """Returns the faces that a PyTorch or backend model finds in an image with the deploy config's thresholds."""
    data, _ = build_task(deploy_cfg, model_cfg).create_input(os.fspath(image), get_input_shape(deploy_cfg))
    if head := getattr(model, "bbox_head", None):
        settings = deploy_cfg.codebase_config.post_processing
        head.test_cfg.update(
            score_thr=settings.score_threshold,
            nms=dict(type="nms", iou_threshold=settings.iou_threshold),
            nms_pre=settings.pre_top_k,
            max_per_img=settings.keep_top_k,
        )
    with torch.inference_mode():
        return faces_from_instances(model.test_step(data)[0].pred_instances)


def write_sdk_files(
    deploy_cfg: Config, model_cfg: Config, checkpoint: str | os.PathLike[str], folder: str | os.PathLike[str]
) -> None:
    """Writes ``deploy.json``, ``pipeline.json`` and ``detail.json``, which mmdeploy's SDK reads."""
    view = deepcopy(model_cfg)
    for step in view.test_pipeline:
        if step.type == "KeepRatioResize":
            # mmdeploy turns keep_ratio off for a fixed input, unless the name has a scope
            step.update(type="mmdet.Resize", keep_ratio=True)
    # the SDK pads with zeros after normalization
    view.model.data_preprocessor.pad_size_divisor = view.model.data_preprocessor.test_size
    view.model.test_cfg.score_thr = deploy_cfg.codebase_config.post_processing.score_threshold
    export2SDK(deploy_cfg, view, os.fspath(folder), pth=os.fspath(checkpoint), device=device_type(deploy_cfg))
