"""``TorchDetector``: an SCRFD config and checkpoint behind the runtime's ``Detector`` protocol."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

import numpy as np
import torch
from mmengine.structures import InstanceData

from facedet_mm.detectors.base import CPU_BATCH_PIXELS, InputSizes, LetterboxDetector, NetworkInput
from facedet_mm.detectors.preprocess import Letterbox, Normalization
from facedet_mm.errors import ModelError
from facedet_mm.plugin.apis.inferencer import FaceDetInferencer
from facedet_mm.structures import Faces


class TorchDetector(LetterboxDetector):
    """Finds faces with a model of the training half; on the same weights it agrees with ``OnnxDetector``.

    Args:
        config: A model name or the path of a config.
        weights: A checkpoint made for it.
        device: ``'cpu'``, ``'cuda'``, ``'cuda:1'``, …; ``None`` takes the best one at hand.
        score_thr: only faces with a score above it come out.
        iou_thr: of two faces that overlap by more, the one with the lower score is dropped.
        input_size, max_faces, tiles: as for :class:`~facedet_mm.detectors.onnx.OnnxDetector`.

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
        input_size: InputSizes = 640,
        max_faces: int | None = None,
        tiles: int | tuple[int, int] | None = None,
    ) -> None:
        try:
            self.inferencer = FaceDetInferencer(config, weights, device, show_progress=False)
        except (RuntimeError, AssertionError) as error:
            raise ModelError(f"device {device!r} cannot be used: {str(error).splitlines()[0]}") from error
        self.model = self.inferencer.model
        preprocessor = self.model.data_preprocessor
        normalization = Normalization(
            tuple(preprocessor.mean.flatten().tolist()),
            tuple(preprocessor.std.flatten().tolist()),
            to_rgb=preprocessor._channel_conversion,
        )
        network = NetworkInput(
            os.fspath(config),
            normalization,
            batch_pixels=CPU_BATCH_PIXELS if next(self.model.parameters()).device.type == "cpu" else math.inf,
        )
        super().__init__(network, score_thr, iou_thr, input_size, max_faces, tiles)

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
