"""Graphs of mmdeploy: makes model and deploy config fit each other, and exports the graph."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from unittest import mock

import torch
from mmdeploy.apis import build_task_processor
from mmdeploy.apis.onnx import export
from mmdeploy.codebase.base import BaseTask
from mmdeploy.utils import get_backend, get_dynamic_axes, get_input_shape, get_ir_config
from mmengine.config import Config
from torch import nn

from facedet_mm.plugin.apis.overrides import set_test_size


@contextmanager
def torchscript_export() -> Iterator[None]:
    """Makes ``torch.onnx.export`` trace with TorchScript, which mmdeploy 1.3.1 needs to rewrite functions.

    Example::

        with torchscript_export():
            mmdeploy.apis.torch2onnx(...)
    """
    traced = functools.partial(torch.onnx.export, dynamo=False)
    with mock.patch.object(torch.onnx, "export", traced), warnings.catch_warnings():
        # tracing warns that sizes and thresholds become constants, as they should
        warnings.simplefilter("ignore")
        yield


def fit_configs(deploy_cfg: Config, model_cfg: Config) -> None:
    """Adapts the model's test pipeline to a fixed input size, and the deploy config's outputs to the model."""
    if shape := get_input_shape(deploy_cfg):
        set_test_size(model_cfg, shape[0])
    # mmdeploy reads test_pipeline, the Runner reads the dataset's pipeline
    model_cfg.test_pipeline = deepcopy(model_cfg.test_dataloader.dataset.pipeline)
    if not model_cfg.model.bbox_head.get("with_landmarks"):
        ir_config = get_ir_config(deploy_cfg)
        ir_config["output_names"] = [name for name in ir_config["output_names"] if name != "landmarks"]
        (ir_config.get("dynamic_axes") or {}).pop("landmarks", None)


def export_graph(
    model: nn.Module, deploy_cfg: Config, model_cfg: Config, image: str | os.PathLike[str], folder: Path
) -> Path:
    """Exports the graph of a model for the backend of ``deploy_cfg``, on any machine, and returns its path.

    Args:
        model: Model in eval mode, on the CPU.
        deploy_cfg: Deploy config, adapted by :func:`fit_configs`.
        model_cfg: Config of the model, adapted by :func:`fit_configs`.
        image: Image to trace with.
        folder: Folder for the file, whose name is in ``deploy_cfg``.
    """
    ir_config = get_ir_config(deploy_cfg)
    path = folder / ir_config["save_file"]
    data, inputs = build_task(deploy_cfg, model_cfg).create_input(
        os.fspath(image), get_input_shape(deploy_cfg), data_preprocessor=model.data_preprocessor
    )
    with torchscript_export():
        export(
            deepcopy(model),
            inputs,
            str(path.with_suffix("")),
            backend=get_backend(deploy_cfg).value,
            input_metas=dict(data_samples=data["data_samples"], mode="predict"),
            context_info=dict(deploy_cfg=deepcopy(deploy_cfg)),
            input_names=ir_config["input_names"],
            output_names=ir_config["output_names"],
            opset_version=ir_config["opset_version"],
            dynamic_axes=get_dynamic_axes(deploy_cfg),
            keep_initializers_as_inputs=False,
        )
    return path


def build_task(deploy_cfg: Config, model_cfg: Config) -> BaseTask:
    """Returns mmdeploy's task processor for the two configs."""
    return build_task_processor(model_cfg, deploy_cfg, device_type(deploy_cfg))


def device_type(deploy_cfg: Config) -> str:
    """Returns the device type that mmdeploy expects for a backend, even where nothing runs on the device."""
    return "cuda" if get_backend(deploy_cfg).value == "tensorrt" else "cpu"
