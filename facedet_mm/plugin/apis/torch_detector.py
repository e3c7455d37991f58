"""``TorchDetector``: an SCRFD config and checkpoint behind the runtime's ``Detector`` protocol."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from facedet_mm.detectors.base import CPU_BATCH_PIXELS, LetterboxDetector, NetworkInput
from facedet_mm.detectors.options import DetectorOptions
from facedet_mm.detectors.preprocess import Letterbox, Normalization
from facedet_mm.detectors.views import Seen
from facedet_mm.errors import FaceDetError, ModelError
from facedet_mm.plugin.apis.inferencer import FaceDetInferencer
from facedet_mm.plugin.models.instances import faces_from_instances


class TorchDetector(LetterboxDetector):
    """Finds faces with a model of the plugin; with the same weights it agrees with ``OnnxDetector``.

    Args:
        config: Model name or path of a config.
        weights: Checkpoint made for it.
        **options: Settings of :class:`~facedet_mm.detectors.options.DetectorOptions`. ``device`` is ``'cpu'``,
            ``'cuda'``, ``'cuda:1'``, …; without it the best available device is used. ``threads`` and ``precision``
            are not supported.

    Raises:
        ModelError: The config can't be read, the weights are missing, unsafe or do not fit, or the device does not
            exist.
        FaceDetError: A value is out of range.

    Example::

        detector = TorchDetector('configs/scrfd_2.5g.py', 'epoch_640.pth', device='cuda')
        faces = detector.detect('photo.jpg')
    """

    def __init__(self, config: str | os.PathLike[str], weights: str | os.PathLike[str], **options: Any) -> None:
        settings = DetectorOptions(**{"model": config, **options, "weights": weights})
        if settings.threads is not None:
            raise FaceDetError("threads is for .onnx files; PyTorch reads its number of threads from OMP_NUM_THREADS")
        if settings.precision is not None:
            raise FaceDetError("precision is for .onnx files; a checkpoint runs in the precision of its weights")
        try:
            self.inferencer = FaceDetInferencer(config, weights, settings.device, show_progress=False)
        except (RuntimeError, AssertionError) as error:
            raise ModelError(f"device {settings.device!r} cannot be used: {str(error).splitlines()[0]}") from error
        self._model = self.inferencer.model
        preprocessor = self._model.data_preprocessor
        normalization = Normalization(
            tuple(preprocessor.mean.flatten().tolist()),
            tuple(preprocessor.std.flatten().tolist()),
            to_rgb=preprocessor._channel_conversion,
        )
        self._device = next(self._model.parameters()).device
        batch_pixels = CPU_BATCH_PIXELS if self._device.type == "cpu" else math.inf
        super().__init__(settings, NetworkInput(os.fspath(config), normalization, batch_pixels=batch_pixels))

    @torch.inference_mode()
    def _infer(self, blob: np.ndarray, letterboxes: Sequence[Letterbox], score_thr: float) -> list[Seen]:
        metas = [dict(img_shape=letterbox.resized[::-1], scale_factor=letterbox.scale) for letterbox in letterboxes]
        head = self._model.bbox_head
        cfg = head.test_cfg.copy()
        cfg.update(score_thr=score_thr, nms=dict(type="nms", iou_threshold=self.options.iou_thr))
        outputs = self._model(torch.from_numpy(blob).to(self._device), mode="tensor")
        results = head.predict_by_feat(*outputs, batch_img_metas=metas, cfg=cfg, rescale=True)
        return [Seen(faces_from_instances(result), close_up=True) for result in results]
