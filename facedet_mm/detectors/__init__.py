"""Detectors: an image in, :class:`~facedet_mm.structures.Faces` out; imported by video and every room above it."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from facedet_mm.detectors.base import Detector, Image
from facedet_mm.detectors.choosing import choices
from facedet_mm.detectors.onnx import OnnxDetector
from facedet_mm.detectors.options import DetectorOptions, InputSizes
from facedet_mm.detectors.preprocess import InputSize
from facedet_mm.errors import MissingDependencyError, ModelError
from facedet_mm.system.dependencies import missing_dependency
from facedet_mm.system.settings import takes
from facedet_mm.zoo import config_path, find_model, weights_path

__all__ = [
    "Detector",
    "DetectorOptions",
    "Image",
    "InputSize",
    "InputSizes",
    "OnnxDetector",
    "build_detector",
    "open_detector",
]

_CHECKPOINTS = (".pth", ".pt")
_LOG = logging.getLogger(__name__)


@takes(DetectorOptions)
def build_detector(options: DetectorOptions) -> Detector:
    """Builds the detector for a model; without arguments, the one for the bundled model.

    Takes the settings of :class:`~facedet_mm.detectors.options.DetectorOptions`, by position or keyword.

    Raises:
        ModelError: The model is unknown, a file is missing or of another kind, or needed weights are not given.
        MissingDependencyError: A package that the backend or device needs is not installed.
        FaceDetError: A value is out of range, or the backend does not support a setting.

    Example:
        >>> build_detector(score_thr=0.6).options.score_thr
        0.6
    """
    return open_detector(options)


def open_detector(options: DetectorOptions) -> Detector:
    """Builds the detector for a settings value; see :func:`build_detector`.

    Example:
        >>> open_detector(DetectorOptions(input_size=320)).options.input_size
        320
    """
    model, weights = options.model, options.weights
    if _suffix(model) in _CHECKPOINTS:
        raise ModelError(f"{model} is a checkpoint: pass it as weights, and a model name or config as model")
    if _suffix(model) == ".onnx":
        if weights is not None:
            raise ModelError(f"{model} contains its own weights; leave weights={os.fspath(weights)!r} out")
        return _file_detector(model, options)
    entry = None if _suffix(model) == ".py" else find_model(os.fspath(model))
    if weights is None:
        path = None if entry is None else weights_path(entry.name)
        if path is None:
            raise ModelError(_missing_weights(model))
        return _file_detector(path, options)
    if _suffix(weights) == ".onnx":
        return _file_detector(weights, options)
    if _suffix(weights) not in _CHECKPOINTS:
        raise ModelError(f"weights must be an .onnx or .pth file, not {weights}")
    return _torch_detector(model if entry is None else config_path(entry.name), weights, vars(options))


def _file_detector(path: str | os.PathLike[str], options: DetectorOptions) -> Detector:
    if options.device == "auto":
        return _fastest_detector(path, options)
    backend = (options.device or "cpu").partition(":")[0]
    if backend == "tensorrt":
        return _tensorrt_detector(path, vars(options))
    if backend != "openvino":
        return OnnxDetector(path, **vars(options))
    try:
        from facedet_mm.detectors.openvino import OpenVinoDetector
    except ImportError as error:
        raise missing_dependency("device 'openvino'", "openvino", error) from error
    return OpenVinoDetector(path, **vars(options))


def _fastest_detector(path: str | os.PathLike[str], options: DetectorOptions) -> Detector:
    """Returns a detector on the fastest device that works; the log says which."""
    failures = list[str]()
    *others, last = choices(path, options.precision)
    for choice in others:
        try:
            detector = _file_detector(path, replace(options, device=choice.device))
        except (MissingDependencyError, ModelError) as error:
            failures.append(f"; {choice.device} does not work: {error}")
            continue
        _LOG.info("device 'auto': %s (%s)%s", choice.device, choice.reason, "".join(failures))
        return detector
    detector = _file_detector(path, replace(options, device=last.device))
    _LOG.info("device 'auto': %s (%s)%s", last.device, last.reason, "".join(failures))
    return detector


def _tensorrt_detector(path: str | os.PathLike[str], options: Mapping[str, Any]) -> Detector:
    """Returns a detector in NVIDIA's TensorRT where it is installed, else in ONNX Runtime's TensorRT provider."""
    try:
        from facedet_mm.detectors.tensorrt import TensorRTDetector
    except ImportError as error:
        if error.name != "tensorrt":
            raise missing_dependency("device 'tensorrt'", "tensorrt", error) from error
        missing = missing_dependency("device 'tensorrt'", "tensorrt", error)
    else:
        _LOG.info("device 'tensorrt': running in NVIDIA's TensorRT")
        return TensorRTDetector(path, **options)
    try:
        detector = OnnxDetector(path, **options)
    except MissingDependencyError as error:
        raise MissingDependencyError(f"{missing}; or, for ONNX Runtime's TensorRT provider: {error}") from error
    _LOG.warning(
        "device 'tensorrt': running in ONNX Runtime's TensorRT provider; the tensorrt package is not installed"
    )
    return detector


def _torch_detector(
    config: str | os.PathLike[str], weights: str | os.PathLike[str], options: Mapping[str, Any]
) -> Detector:
    """Returns a PyTorch detector: the only import of the plugin by the runtime, by name and only on demand."""
    try:
        module = importlib.import_module("facedet_mm.plugin.apis.torch_detector")
    except ImportError as error:
        raise missing_dependency("a .pth checkpoint runs in PyTorch and MMDetection", "train", error) from error
    if options["device"] == "auto":
        options = {**options, "device": None}
        _LOG.info("device 'auto': PyTorch's best one, which is a GPU where there is one")
    return cast(Detector, module.TorchDetector(**{**options, "config": config, "weights": weights}))


def _missing_weights(model: str | os.PathLike[str]) -> str:
    if _suffix(model) == ".py":
        return f"{model} is a config and needs its checkpoint: pass weights='….pth'"
    return (
        f"{model} needs weights: the official ones are for non-commercial research, so they are not bundled. "
        f"Run facedet models fetch {model}, or pass weights='….onnx' or weights='….pth'; a .pth in the authors' "
        "MMDetection 2.7 layout must first go through tools/convert_insightface.py"
    )


def _suffix(path: str | os.PathLike[str]) -> str:
    return Path(path).suffix.lower()
