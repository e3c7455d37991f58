"""Calibration data for INT8 through mmdeploy."""

from __future__ import annotations

import os
from copy import deepcopy
from pathlib import Path

from mmdeploy.apis.utils import create_calib_input_data
from mmengine.config import Config
from mmengine.runner import Runner
from torch import nn

from facedet_mm.errors import ModelError
from facedet_mm.plugin.apis.build import load_config

CALIBRATION_IMAGES = 200
"""Number of training images, evenly chosen, with which INT8 is calibrated."""


def write_calibration(
    model: nn.Module, model_cfg: Config, path: Path, dataset_config: str | os.PathLike[str] | None = None
) -> None:
    """Writes the network inputs of images to the HDF5 file from which mmdeploy calibrates INT8.

    Args:
        model: Model whose preprocessing is applied.
        model_cfg: Config of the model.
        path: File to write.
        dataset_config: Config whose ``val_dataloader`` loads the images; by default :data:`CALIBRATION_IMAGES`
            training images of ``model_cfg`` go through its test pipeline.

    Raises:
        ModelError: ``dataset_config`` can't be read or has no ``val_dataloader``.
        AnnotationError: The annotations are missing or malformed.
    """
    if dataset_config is not None:
        dataloader = load_config(dataset_config).get("val_dataloader")
        if dataloader is None:
            raise ModelError(f"{dataset_config}: INT8 is calibrated with images of val_dataloader, which is missing")
    else:
        dataloader, train = deepcopy(model_cfg.test_dataloader), model_cfg.train_dataloader.dataset
        dataloader.dataset.update(ann_file=train.ann_file, data_prefix=train.data_prefix)
    dataloader.batch_size = 1
    loader = Runner.build_dataloader(dataloader)
    if dataset_config is None and len(loader.dataset) > CALIBRATION_IMAGES:
        step = len(loader.dataset) / CALIBRATION_IMAGES
        dataloader.dataset.indices = [int(i * step) for i in range(CALIBRATION_IMAGES)]
        loader = Runner.build_dataloader(dataloader)
    create_calib_input_data(
        str(path), model, loader, get_tensor_func=lambda batch: model.data_preprocessor(batch)["inputs"]
    )
