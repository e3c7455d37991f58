"""``OnnxDetector``: SCRFD and YuNet files in ONNX Runtime."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from facedet_mm.detectors.options import DetectorOptions
from facedet_mm.detectors.rewriting import open_fastest
from facedet_mm.detectors.session import (
    EXPECTED,
    NMS_INPUTS,
    SessionDetector,
    check_file,
    describe_size,
    readable_names,
    takes_images,
)
from facedet_mm.errors import FaceDetError, MissingDependencyError, ModelError

_ERRORS_ONLY, _FATAL_ONLY = 3, 4
_FLOATS = ("tensor(float)", "tensor(float16)", "tensor(double)")
"""Types of outputs; the first one needs no conversion."""


class _Device(NamedTuple):
    provider: str
    numbered: bool
    package: str
    needs: str


_DEVICES = {
    "cpu": _Device("CPUExecutionProvider", False, "onnxruntime", ""),
    "cuda": _Device(
        "CUDAExecutionProvider",
        True,
        "onnxruntime-gpu",
        "its driver, CUDA and cuDNN libraries must be installed and fit onnxruntime-gpu (pip install "
        "'onnxruntime-gpu[cuda,cudnn]' brings the libraries)",
    ),
    "tensorrt": _Device(
        "TensorrtExecutionProvider",
        True,
        "onnxruntime-gpu",
        "the driver, CUDA, cuDNN and TensorRT libraries must be installed and fit onnxruntime-gpu (pip install "
        "'onnxruntime-gpu[cuda,cudnn]' tensorrt brings the libraries)",
    ),
    "openvino": _Device("OpenVINOExecutionProvider", False, "onnxruntime-openvino", "the openvino package must fit it"),
    "coreml": _Device("CoreMLExecutionProvider", False, "onnxruntime", "it is part of the builds for macOS"),
    "directml": _Device("DmlExecutionProvider", True, "onnxruntime-directml", "it needs a GPU with DirectX 12"),
}
"""Device name without its number → execution provider, whether it takes a number, package and further needs."""


class OnnxDetector(SessionDetector):
    """Finds faces with an SCRFD or YuNet ONNX file in ONNX Runtime.

    Thread-safe: calls share nothing but the session.

    Args:
        path: Model file. Strides, anchors and normalization come from its metadata or from its outputs.
        **options: Settings of :class:`~facedet_mm.detectors.options.DetectorOptions`. ``device`` is ``'cpu'``,
            ``'cuda'``, ``'cuda:1'``, ``'tensorrt'``, ``'openvino'``, ``'coreml'`` or ``'directml'``, which are
            ONNX Runtime's execution providers; ``precision`` is not supported.

    Raises:
        ModelError: The file is missing, damaged, not a face detector, or does not take ``input_size``.
        MissingDependencyError: The installed ONNX Runtime does not support ``device``.
        FaceDetError: A value is out of range.

    Example:
        >>> from facedet_mm.zoo import asset_path
        >>> detector = OnnxDetector(asset_path("yunet_n_dynamic.onnx"), score_thr=0.6)
        >>> len(detector.detect(asset_path("solvay_1927.jpg")))
        29
    """

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        settings = DetectorOptions(**{"model": path, **options})
        if settings.precision is not None:
            raise FaceDetError(
                f"device {settings.device or 'cpu'!r} has no choice of precision in ONNX Runtime; device 'openvino' "
                "and NVIDIA's tensorrt package have one"
            )
        super().__init__(OrtSession(Path(path), settings.device, settings.threads), settings)


class OrtSession:
    """A model file in ONNX Runtime; see :class:`~facedet_mm.detectors.session.Session`."""

    def __init__(self, path: Path, device: str | None, threads: int | None) -> None:
        check_file(path)
        self.path = path
        providers = _providers(device)
        self.on_cpu = providers[0][0] == _DEVICES["cpu"].provider
        self._session, rewritten = open_fastest(
            path, lambda model: _open(path, model, device, threads), may_interleave=self.on_cpu
        )
        self.places, self.interleaved = (rewritten.places, rewritten.interleaved) if rewritten else ((), False)
        with readable_names(path):
            self._describe()

    def _describe(self) -> None:
        """Reads and checks what the file says of its inputs and outputs."""
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        described = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
        first = inputs[0]
        self.input_shape = _sides(first.shape)
        if self.interleaved:
            batch, _, height, values = self.input_shape
            self.input_shape = batch, 3, height, None if values is None else values // 3
        known = first.type in ("tensor(float)", "tensor(uint8)")
        if len(inputs) != 1 or not known or not takes_images(self.input_shape, first.type == "tensor(uint8)"):
            raise ModelError(f"{self.path} is not a face detector: its input is {described}; {EXPECTED}")
        strange = [f"{o.name} {o.type}" for o in outputs if o.type not in _FLOATS and len(o.shape) != 1]
        if strange:
            raise ModelError(f"{self.path} is not a face detector: its outputs are {', '.join(strange)}; {EXPECTED}")
        self._casts = any(output.type in _FLOATS[1:] for output in outputs)
        self._input_name = first.name
        self._output_names = [output.name for output in outputs]
        self.output_shapes = [_sides(output.shape) for output in outputs]
        free = {value.name for value in self._session.get_overridable_initializers()}
        self.options = NMS_INPUTS & free
        self.metadata = str(self._session.get_modelmeta().custom_metadata_map.get("facedet_mm", ""))

    def run(self, blob: NDArray[Any]) -> list[NDArray[np.float32]]:
        """Runs the network; see :meth:`Session.run <facedet_mm.detectors.session.Session.run>`."""
        return self.run_with(blob, {})

    def run_with(self, blob: NDArray[Any], values: Mapping[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        """Runs the network; see :class:`~facedet_mm.detectors.session.AdjustableSession`."""
        if self.interleaved:
            blob = blob.reshape(len(blob), 1, blob.shape[1], -1)
        try:
            outputs: list[NDArray[np.float32]] = self._session.run(
                self._output_names, {self._input_name: blob, **values}
            )
        except Exception as error:  # ONNX Runtime's errors have no common base
            raise ModelError(f"{self.path} fails on a {describe_size(blob)} input: {error}; {EXPECTED}") from error
        return [np.asarray(output, np.float32) for output in outputs] if self._casts else outputs


def _open(path: Path, content: str | bytes, device: str | None, threads: int | None) -> ort.InferenceSession:
    providers = _providers(device)
    options = ort.SessionOptions()
    on_cpu = providers[0][0] == _DEVICES["cpu"].provider
    options.log_severity_level = _FATAL_ONLY if on_cpu else _ERRORS_ONLY  # a device may say more than its exception
    options.intra_op_num_threads = threads or 0
    options.enable_mem_pattern = providers[0][0] != "DmlExecutionProvider"  # which does not support it
    # ONNX Runtime's threads would otherwise spin between runs, on the cores that decode and resize the next image.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # Work is split more finely towards its end, so that threads wait less for each other: 1 to 2 % on small networks.
    options.add_session_config_entry("session.dynamic_block_base", "8")
    try:
        # On a CPU there is nothing to fall back to, and ONNX Runtime would say so on standard output.
        session = ort.InferenceSession(content, options, providers=providers, enable_fallback=not on_cpu)
    except Exception as error:  # ONNX Runtime's errors have no common base
        raise ModelError(f"{path} is not an ONNX file, or it is damaged: {error}; {EXPECTED}") from error
    if session.get_providers()[0] != providers[0][0]:
        needs = _DEVICES[(device or "cpu").partition(":")[0]].needs
        raise MissingDependencyError(f"device {device!r}: ONNX Runtime could not start {providers[0][0]}; {needs}")
    return session


def _providers(device: str | None) -> list[tuple[str, dict[str, Any]]]:
    kind, colon, index = (device or "cpu").partition(":")
    entry = _DEVICES.get(kind)
    if entry is None or (colon and not (entry.numbered and index.isdigit())):
        known = ", ".join(f"'{name}'" for name in _DEVICES)
        raise ModelError(f"device must be one of {known}, or one with a GPU's number such as 'cuda:1', not {device!r}")
    if entry.provider not in ort.get_available_providers():
        raise MissingDependencyError(
            f"device {device!r} needs another build of ONNX Runtime: "
            f"pip uninstall onnxruntime && pip install {entry.package} ({entry.needs})"
        )
    wanted = [entry.provider]
    if kind == "tensorrt":
        wanted.append(_DEVICES["cuda"].provider)
    options = {"device_id": int(index or 0)} if entry.numbered else {}
    cpu = [] if kind == "cpu" else [(_DEVICES["cpu"].provider, dict[str, Any]())]
    return [*((provider, options) for provider in wanted), *cpu]


def _sides(shape: list[Any]) -> tuple[int | None, ...]:
    return tuple(side if isinstance(side, int) else None for side in shape)
