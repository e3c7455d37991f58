"""``TorchDetector``: an SCRFD config and checkpoint behind the runtime's ``Detector`` protocol."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch
from mmengine.structures import InstanceData

from facedet_mm.apis.inferencer import FaceDetInferencer
from facedet_mm.detectors.base import Image, check_thresholds
from facedet_mm.detectors.letterbox import InputSize, Normalization, check_input_size, fit, make_blob
from facedet_mm.errors import ModelError
from facedet_mm.images import load_image
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
        pictures = [load_image(image) for image in images]
        boxes = [fit(p.shape[1], p.shape[0], self.input_size) for p in pictures]
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for i, box in enumerate(boxes):
            groups[box.canvas].append(i)
        faces: dict[int, Faces] = {}
        for group in groups.values():
            blob = make_blob([pictures[i] for i in group], [boxes[i] for i in group], self._normalization)
            metas = [dict(img_shape=boxes[i].resized[::-1], scale_factor=boxes[i].scale) for i in group]
            for i, result in zip(group, self._predict(blob, metas), strict=True):
                faces[i] = _to_faces(result)
        return [faces[i] for i in range(len(images))]

    @torch.inference_mode()
    def _predict(self, blob: np.ndarray, metas: list[dict]) -> list[InstanceData]:
        head = self.model.bbox_head
        cfg = head.test_cfg.copy()
        cfg.update(score_thr=self.score_thr, nms=dict(type="nms", iou_threshold=self.iou_thr))
        outputs = self.model(torch.from_numpy(blob).to(next(self.model.parameters()).device), mode="tensor")
        return head.predict_by_feat(*outputs, batch_img_metas=metas, cfg=cfg, rescale=True)


def _to_faces(result: InstanceData) -> Faces:
    keypoints = result.keypoints.cpu().numpy() if "keypoints" in result else None
    return Faces(result.bboxes.cpu().numpy(), result.scores.cpu().numpy(), keypoints)
