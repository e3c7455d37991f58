"""Models from config files, with errors for people."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from facedet_mm.errors import FaceDetError, ModelError
from facedet_mm.plugin.apis.config_checks import check_neck, check_parts


def load_config(path: str | os.PathLike[str]) -> Config:
    """A config file with its bases and ``custom_imports`` carried out.

    Raises:
        ModelError: the file is missing or can't be read.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such config file")
    try:
        return Config.fromfile(path)
    except Exception as error:
        raise ModelError(f"{path}: the config cannot be read ({type(error).__name__}: {error})") from error


def build_model(config: str | os.PathLike[str] | Config) -> nn.Module:
    """The detector that a config describes, with random weights.

    Raises:
        ModelError: the config can't be read, has no ``model``, or the model can't be built from it: widths, levels,
            strides or classes that don't fit are named with what would be right.
    """
    cfg = config if isinstance(config, Config) else load_config(config)
    name = cfg.filename or "config"
    if "model" not in cfg:
        raise ModelError(f"{name}: the config has no `model`")
    init_default_scope(cfg.get("default_scope", "mmdet"))
    try:
        check_neck(cfg.model.get("neck") or {})
        # detectors write into the dict that they are built from
        model: Any = MODELS.build(copy.deepcopy(cfg.model))
        check_parts(model)
    except FaceDetError as error:
        raise ModelError(f"{name}: {error}") from error
    except Exception as error:
        raise ModelError(f"{name}: the model cannot be built ({type(error).__name__}: {error})") from error
    return model
