"""``TorchDetector``: an SCRFD config and checkpoint behind the runtime's ``Detector`` protocol."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
from mmengine.structures import InstanceData

from facedet_mm.apis.inferencer import FaceDetInferencer
from facedet_mm.detectors.base import Image, check_thresholds, detect_fitted
from facedet_mm.detectors.letterbox import InputSize, Letterbox, Normalization, check_input_size
from facedet_mm.errors import ModelError
from facedet_mm.structures import Faces


class TorchDetector:
    """Finds faces with a model of the training half; on the same weights it agrees with ``OnnxDetector``.

    Args:
        config: A model name or the path of a config.
        weights: A checkpoint made for it.
        device: ``'cpu'``, ``'cuda'``, ``'cuda:1'``, …; ``None`` takes the best one at hand.
        score_thr: only faces with a score above it come out.
        iou_thr: of two faces that overlap by more, the one with the lower score is dropped.
        input_size: an int (square), (width, height), ``'auto'`` or ``'original'``.

    Raises:
        ModelError: unreadable config, missing, unsafe or unfit weights, a device that is not there.

    Example::

        detector = TorchDetector('configs/scrfd_2.5g.py', 'epoch_640.pth', device='cuda')
        faces = detector.detect('photo.jpg')
    """

    def __init__(
        self,
        config: str | os.PathLike[str],
        weights: str | os.PathLike[str],
        device: str | None = None,
        score_thr: float = 0.5,
        iou_thr: float = 0.4,
        input_size: InputSize = 640,
    ) -> None:
        check_thresholds(score_thr, iou_thr)
        self.score_thr, self.iou_thr = score_thr, iou_thr
        self.input_size = check_input_size(input_size)
        try:
            self.inferencer = FaceDetInferencer(config, weights, device, show_progress=False)
        except (RuntimeError, AssertionError) as error:
            raise ModelError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from error
        self.model = self.inferencer.model
        preprocessor = self.model.data_preprocessor
        self._normalization = Normalization(
            tuple(preprocessor.mean.flatten().tolist()),
            tuple(preprocessor.std.flatten().tolist()),
            to_rgb=preprocessor._channel_conversion,
        )

    def detect(self, image: Image) -> Faces:
        """Faces of one picture; see :class:`~facedet_mm.detectors.base.Detector`."""
        return self.detect_batch([image])[0]

    def detect_batch(self, images: Sequence[Image]) -> list[Faces]:
        """Faces of each picture; pictures of one input size run together."""
        return detect_fitted(images, self.input_size, self._normalization, self._find)

    @torch.inference_mode()
    def _find(self, blob: np.ndarray, boxes: Sequence[Letterbox]) -> list[Faces]:
        metas = [dict(img_shape=box.resized[::-1], scale_factor=box.scale) for box in boxes]
        head = self.model.bbox_head
        cfg = head.test_cfg.copy()
        cfg.update(score_thr=self.score_thr, nms=dict(type="nms", iou_threshold=self.iou_thr))
        outputs = self.model(torch.from_numpy(blob).to(next(self.model.parameters()).device), mode="tensor")
        return [_to_faces(r) for r in head.predict_by_feat(*outputs, batch_img_metas=metas, cfg=cfg, rescale=True)]


def _to_faces(result: InstanceData) -> Faces:
    keypoints = result.keypoints.cpu().numpy() if "keypoints" in result else None
    return Faces(result.bboxes.cpu().numpy(), result.scores.cpu().numpy(), keypoints)
