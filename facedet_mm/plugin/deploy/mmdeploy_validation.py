"""Validation of deploy configs, models and devices before anything is exported."""

from __future__ import annotations

from importlib.util import find_spec

import onnxruntime
import torch
from mmengine.config import Config

from facedet_mm.errors import MissingDependencyError, ModelError

REWRITERS = "facedet_mm.plugin.deploy.mmdeploy_rewriters"
BACKENDS = ("onnxruntime", "tensorrt")
TENSORRT = "8.6.1"
"""mmdeploy 1.3.1's operators are linked against TensorRT 8, and it calls what TensorRT 10 removed."""
MAX_TENSORRT_TOPK = 5120
"""Largest number of boxes that TRTBatchedNMS takes."""


def check_configs(deploy_cfg: Config, model_cfg: Config) -> None:
    """Checks that a deploy config is for this project's models, and that the model is one of them.

    Raises:
        ModelError: A config is wrong; the message names the file, the entry and the right value.
    """
    name = deploy_cfg.filename
    codebase = deploy_cfg.get("codebase_config") or {}
    if REWRITERS not in codebase.get("module", ()) or codebase.get("model_type") != "face_end2end":
        raise ModelError(
            f"{name}: not a deploy config for faces; use one of configs/deploy, or build on one with _base_"
        )
    backend = (deploy_cfg.get("backend_config") or {}).get("type")
    if backend not in BACKENDS:
        raise ModelError(f"{name}: backend_config.type must be {' or '.join(BACKENDS)}, not {backend!r}")
    settings = codebase.get("post_processing") or {}
    if backend == "tensorrt" and not 0 < settings.get("pre_top_k", -1) <= MAX_TENSORRT_TOPK:
        raise ModelError(f"{name}: post_processing.pre_top_k must be 1 to {MAX_TENSORRT_TOPK} for TensorRT")
    if settings.get("pre_top_k", -1) < settings.get("keep_top_k", 0) or settings.get("keep_top_k", 0) < 1:
        raise ModelError(
            f"{name}: post_processing needs 1 <= keep_top_k <= pre_top_k, because landmarks are selected by index"
        )
    shape = (deploy_cfg.get("onnx_config") or {}).get("input_shape")
    if shape is not None and (len(shape) != 2 or shape[0] != shape[1] or shape[0] < 32 or shape[0] % 32):
        raise ModelError(f"{name}: onnx_config.input_shape must be a square with sides in multiples of 32, not {shape}")
    if model_cfg.get("model", {}).get("bbox_head", {}).get("type") != "SCRFDHead":
        raise ModelError(
            f"{model_cfg.filename}: not the config of an SCRFD model (model.bbox_head.type is not SCRFDHead)"
        )


def check_device(deploy_cfg: Config, device: str, onnx_only: bool) -> None:
    """Checks that a backend can be built and run on ``device`` on this machine.

    Args:
        deploy_cfg: Deploy config that passed :func:`check_configs`.
        device: ``'cpu'``, ``'cuda'``, ``'cuda:1'``, …
        onnx_only: Whether only the graph is exported.

    Raises:
        ModelError: The device does not exist or does not fit the backend.
        MissingDependencyError: A package that the backend needs is not installed.
    """
    try:
        kind = torch.device(device).type
    except RuntimeError:
        kind = ""
    if kind not in ("cpu", "cuda"):
        raise ModelError(f"--device {device}: must be cpu, cuda or cuda:NUMBER")
    if onnx_only:
        return
    backend = deploy_cfg.backend_config.type
    if backend == "tensorrt" and kind == "cpu":
        raise ModelError(
            "TensorRT builds engines on an NVIDIA GPU: --device cuda:0 on a machine with one; "
            "--onnx-only writes the graph for it on any machine"
        )
    if kind == "cuda" and (torch.device(device).index or 0) >= torch.cuda.device_count():
        raise ModelError(f"--device {device}: PyTorch sees {torch.cuda.device_count()} NVIDIA GPUs on this machine")
    if backend == "tensorrt":
        _check_tensorrt("calib_config" in deploy_cfg)
    elif kind == "cuda" and "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        raise MissingDependencyError(f"--device {device}: pip install onnxruntime-gpu in place of onnxruntime")


def _check_tensorrt(calibrates: bool) -> None:
    needs = {"tensorrt": f"tensorrt=={TENSORRT}", **({"pycuda": "pycuda", "h5py": "h5py"} if calibrates else {})}
    if missing := [package for module, package in needs.items() if find_spec(module) is None]:
        raise MissingDependencyError(f"mmdeploy 1.3.1 with TensorRT needs: pip install {' '.join(missing)}")
    import tensorrt

    if not tensorrt.__version__.startswith("8."):
        raise MissingDependencyError(
            f"TensorRT {tensorrt.__version__} is installed, mmdeploy 1.3.1 works with TensorRT 8 only: "
            f"pip install tensorrt=={TENSORRT}"
        )
