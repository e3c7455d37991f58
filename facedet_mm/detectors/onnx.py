"""``OnnxDetector``: SCRFD and YuNet files in ONNX Runtime."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from facedet_mm.detectors.base import Image, check_thresholds, detect_fitted
from facedet_mm.detectors.decode import Head, recognise, to_faces
from facedet_mm.detectors.letterbox import InputSize, Letterbox, check_input_size
from facedet_mm.errors import MissingDependencyError, ModelError
from facedet_mm.structures import Faces

_EXPECTED = "expected an SCRFD or YuNet file: a float (N, 3, H, W) input and, for each stride, score and box outputs"
_PROBE_SIDE = 128
_BATCH = 8
_ERRORS_ONLY = 3


class OnnxDetector:
    """Finds faces with an SCRFD or YuNet ONNX file, in whatever flavour it was exported.

    Thread-safe: calls share nothing but the session.

    Args:
        path: the file. Strides, anchors and normalisation come from its metadata or are told from its outputs.
        device: ``None`` or ``'cpu'``, ``'cuda'``, ``'cuda:1'``.
        score_thr: only faces with a score above it come out.
        iou_thr: of two faces that overlap by more, the one with the lower score is dropped.
        input_size: an int (square), (width, height), ``'auto'`` (as a 640 square, with no more padding than
            the network needs: faster, same result) or ``'original'`` (the picture's own size).
        threads: threads of one inference; ``None`` leaves it to ONNX Runtime (a thread a core).

    Raises:
        ModelError: the file is missing, damaged, no face detector, or does not take ``input_size``.
        MissingDependencyError: the installed ONNX Runtime does not run on ``device``.
        FaceDetError: a threshold or size is out of range.

    Example:
        >>> from facedet_mm.zoo import asset_path
        >>> detector = OnnxDetector(asset_path("yunet_n_dynamic.onnx"), score_thr=0.6)
        >>> len(detector.detect(asset_path("solvay_1927.jpg")))
        29
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        device: str | None = None,
        score_thr: float = 0.5,
        iou_thr: float = 0.4,
        input_size: InputSize = 640,
        threads: int | None = None,
    ) -> None:
        check_thresholds(score_thr, iou_thr)
        self.score_thr = score_thr
        self.iou_thr = iou_thr
        self._path = Path(path)
        self._session = _open_session(self._path, device, threads)
        self._input = _check_input(self._path, self._session)
        self._outputs = [output.name for output in self._session.get_outputs()]
        self._head = self._recognise()
        self.input_size = input_size

    @property
    def input_size(self) -> InputSize:
        """What the network sees; see the class."""
        return self._input_size

    @input_size.setter
    def input_size(self, size: InputSize) -> None:
        size = check_input_size(size, self._head.divisor)
        fixed = self._fixed_size
        if fixed and size not in (fixed, fixed[0] if fixed[0] == fixed[1] else fixed, "auto"):
            raise ModelError(f"{self._path} takes only {fixed[0]} x {fixed[1]} pictures; pass input_size={fixed}")
        self._input_size: InputSize = fixed or size

    def detect(self, image: Image) -> Faces:
        """Faces of one picture; see :class:`~facedet_mm.detectors.base.Detector`."""
        return self._detect([image])[0]

    def detect_batch(self, images: Sequence[Image]) -> list[Faces]:
        """Faces of each picture; pictures of one input size run together where the file allows it."""
        step = _BATCH if self._takes_batches else 1
        parts = (self._detect(images[i : i + step]) for i in range(0, len(images), step))
        return [faces for part in parts for faces in part]

    def _detect(self, images: Sequence[Image]) -> list[Faces]:
        return detect_fitted(images, self._input_size, self._head.normalization, self._find, self._head.divisor)

    def _find(self, blob: NDArray[np.float32], boxes: Sequence[Letterbox]) -> Iterator[Faces]:
        for outputs, box in zip(self._run(blob), boxes, strict=True):
            yield to_faces(self._head, outputs, box, self.score_thr, self.iou_thr)

    @property
    def _fixed_size(self) -> tuple[int, int] | None:
        """(width, height) where the file allows no other."""
        height, width = self._input.shape[2:]
        return (width, height) if isinstance(width, int) and isinstance(height, int) else None

    @property
    def _takes_batches(self) -> bool:
        return not isinstance(self._input.shape[0], int) and all(
            len(output.shape) == 3 for output in self._session.get_outputs()
        )

    def _recognise(self) -> Head:
        width, height = self._fixed_size or (_PROBE_SIDE, _PROBE_SIDE)
        shapes = [tuple(output.shape) for output in self._session.get_outputs()]
        # A file with a free input may still declare the output sizes of the input it was exported with.
        if not (self._fixed_size and all(isinstance(d, int) for shape in shapes for d in shape)):
            blob = np.zeros((1, 3, height, width), np.float32)
            shapes = [output.shape for output in self._run_raw(blob)]
        try:
            metadata = json.loads(self._session.get_modelmeta().custom_metadata_map.get("facedet_mm", "{}"))
            return recognise(shapes, width, height, metadata)
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
            raise ModelError(f"{self._path} is no face detector that is known: {error}; {_EXPECTED}") from error

    def _run(self, blob: NDArray[np.float32]) -> Iterator[list[NDArray[np.float32]]]:
        """The outputs of each picture in ``blob``, (rows, D) each."""
        outputs = self._run_raw(blob)
        return ([output[i] if output.ndim == 3 else output for output in outputs] for i in range(len(blob)))

    def _run_raw(self, blob: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        try:
            outputs: list[NDArray[np.float32]] = self._session.run(self._outputs, {self._input.name: blob})
        except Exception as error:  # ONNX Runtime's errors have no common base
            size = f"{blob.shape[3]} x {blob.shape[2]}"
            raise ModelError(f"{self._path} fails on a {size} input: {error}; {_EXPECTED}") from error
        return outputs


def _open_session(path: Path, device: str | None, threads: int | None) -> ort.InferenceSession:
    if not path.is_file():
        raise ModelError(f"{path}: {'a folder, not a model file' if path.is_dir() else 'no such model file'}")
    if path.stat().st_size == 0:
        raise ModelError(f"{path}: empty model file (0 bytes)")
    providers = _providers(device)
    options = ort.SessionOptions()
    options.log_severity_level = _ERRORS_ONLY
    options.intra_op_num_threads = threads or 0
    # Between two runs ONNX Runtime's threads would spin on the cores that decode and resize the next picture.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        session = ort.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # ONNX Runtime's errors have no common base
        raise ModelError(f"{path} is no ONNX file, or a damaged one: {error}; {_EXPECTED}") from error
    if session.get_providers()[0] != _name(providers[0]):
        raise MissingDependencyError(
            f"device {device!r}: ONNX Runtime could not start CUDA; its driver, CUDA and cuDNN libraries must be "
            "installed and fit onnxruntime-gpu (pip install 'onnxruntime-gpu[cuda,cudnn]' brings the libraries)"
        )
    return session


def _providers(device: str | None) -> list[Any]:
    kind, _, index = (device or "cpu").partition(":")
    if kind == "cpu" and not index:
        return ["CPUExecutionProvider"]
    if kind != "cuda" or not (index or "0").isdigit():
        raise ModelError(f"device must be 'cpu', 'cuda' or 'cuda:N', not {device!r}")
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        raise MissingDependencyError(
            f"device {device!r} needs ONNX Runtime for GPUs: pip uninstall onnxruntime && pip install onnxruntime-gpu"
        )
    return [("CUDAExecutionProvider", {"device_id": int(index or 0)}), "CPUExecutionProvider"]


def _name(provider: Any) -> str:
    return str(provider if isinstance(provider, str) else provider[0])


def _check_input(path: Path, session: ort.InferenceSession) -> Any:
    """The session's only input, when a picture fits it."""
    inputs = session.get_inputs()
    described = ", ".join(f"{i.name} {i.type} {i.shape}" for i in inputs)
    first = inputs[0]
    if len(inputs) != 1 or first.type != "tensor(float)" or len(first.shape) != 4 or first.shape[1] != 3:
        raise ModelError(f"{path} is no face detector: its input is {described}; {_EXPECTED}")
    return first
