"""Loads configs and builds models from them."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmdet.registry import MODELS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from facedet_mm.errors import FaceDetError, ModelError
from facedet_mm.plugin.apis.compatibility import check_neck, check_parts
from facedet_mm.plugin.apis.overrides import move_data

_CONFIG_MISTAKES = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""Exceptions that MMDetection's classes raise when their arguments do not fit."""


def load_config(path: str | os.PathLike[str], options: Mapping[str, Any] | None = None) -> Config:
    """Reads a config file with its bases and runs its ``custom_imports``.

    Args:
        path: Config file.
        options: Entries to change, with dotted names, as ``--cfg-options`` takes them. ``data_root`` moves all
            datasets and metrics to another folder.

    Raises:
        ModelError: The file is missing or cannot be read.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such config file")
    try:
        config = Config.fromfile(path)
    except Exception as error:  # a config is a program, which can fail in any way
        raise ModelError(f"{path}: the config cannot be read ({type(error).__name__}: {error})") from error
    options = dict(options or {})
    if root := options.pop("data_root", None):
        move_data(config, str(root))
    config.merge_from_dict(options)
    return config


def build_model(config: str | os.PathLike[str] | Config) -> nn.Module:
    """Returns the detector that a config describes, with random weights.

    Raises:
        ModelError: The config cannot be read, has no ``model``, or the model cannot be built from it. For widths,
            levels, strides or classes that do not fit, the message says which value would be right.
    """
    cfg = config if isinstance(config, Config) else load_config(config)
    name = cfg.filename or "config"
    if "model" not in cfg:
        raise ModelError(f"{name}: the config has no `model`")
    init_default_scope(cfg.get("default_scope", "mmdet"))
    try:
        with mistakes_as(ModelError, "the model cannot be built"):
            check_neck(cfg.model.get("neck") or {})
            # detectors change the dict that they are built from
            model: nn.Module = MODELS.build(copy.deepcopy(cfg.model))
            check_parts(model)
    except FaceDetError as error:
        raise ModelError(f"{name}: {error}") from error
    return model


@contextmanager
def mistakes_as(error_type: type[FaceDetError], what: str) -> Iterator[None]:
    """Turns the exceptions of MMDetection's classes whose arguments do not fit into an error in one line.

    Args:
        error_type: Type of the error.
        what: Beginning of its message.

    Raises:
        FaceDetError: Of type ``error_type``, if the body raised one of these exceptions.
    """
    try:
        yield
    except _CONFIG_MISTAKES as error:
        reason = " ".join(str(error).split())
        raise error_type(f"{what} ({type(error).__name__}: {reason})") from error
