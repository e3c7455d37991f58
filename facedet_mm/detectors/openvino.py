"""``OpenVinoDetector``: SCRFD and YuNet files in OpenVINO, the fastest runtime on most CPUs."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any, Literal

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from facedet_mm.detectors.base import InputSizes
from facedet_mm.detectors.session import EXPECTED, SessionDetector, check_file
from facedet_mm.errors import ModelError

Precision = Literal["bf16", "f16", "f32"]


class OpenVinoDetector(SessionDetector):
    """Finds faces with an SCRFD or YuNet file, ``.onnx`` or OpenVINO's own ``.xml``, in OpenVINO.

    Thread-safe: each thread has its own inference request.

    Args:
        path: the file. Strides, anchors and normalisation come from its metadata or are told from its outputs.
        device: ``'cpu'``, ``'gpu'``, ``'gpu:1'``, ``'npu'`` or ``'auto'``, OpenVINO's names in any case.
        precision: the arithmetic inside; ``None`` is OpenVINO's choice: bfloat16 on CPUs that have it (twice as
            fast as float32, with scores that differ in the third digit), else float32.
        score_thr, iou_thr, input_size, threads, max_faces, tiles: as for
            :class:`~facedet_mm.detectors.onnx.OnnxDetector`.

    Raises:
        ModelError: the file is missing, damaged, no face detector, or does not take ``input_size``; the device is
            not there or does not take ``precision``.
        FaceDetError: a threshold, size or number is out of range.

    Example:
        >>> from facedet_mm.zoo import asset_path
        >>> detector = OpenVinoDetector(asset_path("yunet_n_dynamic.onnx"), score_thr=0.6, precision="f32")
        >>> len(detector.detect(asset_path("solvay_1927.jpg")))
        29
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        device: str = "cpu",
        precision: Precision | None = None,
        score_thr: float = 0.5,
        iou_thr: float = 0.4,
        input_size: InputSizes = 640,
        threads: int | None = None,
        max_faces: int | None = None,
        tiles: int | tuple[int, int] | None = None,
    ) -> None:
        session = OpenVinoSession(Path(path), device, precision, threads)
        super().__init__(session, score_thr, iou_thr, input_size, max_faces, tiles)


class OpenVinoSession:
    """A model file in OpenVINO; see :class:`~facedet_mm.detectors.session.Session`."""

    def __init__(self, path: Path, device: str, precision: Precision | None, threads: int | None) -> None:
        check_file(path)
        self.path = path
        core = ov.Core()
        if device.partition(":")[0].upper() not in {
            name.partition(".")[0] for name in [*core.available_devices, "AUTO"]
        }:
            raise ModelError(f"OpenVINO finds no device {device!r} here; there are {', '.join(core.available_devices)}")
        try:
            model = core.read_model(path)
        except RuntimeError as error:
            raise ModelError(f"{path} is no ONNX or OpenVINO file, or a damaged one: {error}; {EXPECTED}") from error
        self.input_shape = _sides(model.inputs[0]) if len(model.inputs) == 1 else ()
        if len(self.input_shape) != 4 or self.input_shape[1] != 3 or model.inputs[0].element_type != ov.Type.f32:
            described = ", ".join(str(i) for i in model.inputs)
            raise ModelError(f"{path} is no face detector: its input is {described}; {EXPECTED}")
        self.output_shapes = [_sides(output) for output in model.outputs]
        self.metadata = _metadata(model)
        options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if precision:
            options["INFERENCE_PRECISION_HINT"] = precision
        if threads:
            options["INFERENCE_NUM_THREADS"] = threads
        try:
            self._compiled = core.compile_model(model, device.upper().replace(":", "."), options)
        except RuntimeError as error:
            raise ModelError(f"{path} does not run on OpenVINO's {device!r}: {error}") from error
        self._of_thread = threading.local()

    def run(self, blob: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """See :meth:`Session.run <facedet_mm.detectors.session.Session.run>`."""
        if not hasattr(self._of_thread, "request"):
            self._of_thread.request = self._compiled.create_infer_request()
        try:
            # The outputs are views of the request's memory: used up before this thread's next run.
            result = self._of_thread.request.infer({0: blob}, share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            size = f"{blob.shape[3]} x {blob.shape[2]}"
            raise ModelError(f"{self.path} fails on a {size} input: {error}; {EXPECTED}") from error
        return [result[i] for i in range(len(self.output_shapes))]


def _sides(port: Any) -> tuple[int | None, ...]:
    shape = port.get_partial_shape()
    if shape.rank.is_dynamic:
        return ()
    return tuple(None if side.is_dynamic else side.get_length() for side in shape)


def _metadata(model: Any) -> str:
    """The metadata of an ONNX file, which OpenVINO keeps among its runtime information."""
    for place in (["framework", "facedet_mm"], ["facedet_mm"]):
        if model.has_rt_info(place):
            return str(model.get_rt_info(place).value)
    return ""
