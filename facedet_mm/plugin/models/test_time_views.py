"""``FaceTTAModel``: merges the views of an image as the runtime does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.model import BaseTTAModel

from facedet_mm.detectors.merging import merge_views
from facedet_mm.detectors.preprocess import Letterbox
from facedet_mm.detectors.turns import Turn
from facedet_mm.detectors.views import CLOSE_UP_SIDE, View, ViewPlan, limited
from facedet_mm.errors import ModelError
from facedet_mm.plugin.models.instances import faces_from_instances, instances_from_faces
from facedet_mm.structures import Faces


@MODELS.register_module()
class FaceTTAModel(BaseTTAModel):
    """Test-time augmentation with the rules of the runtime's detectors.

    Each view counts for the faces of the sizes that it sees well, a view made by ``CloseUpResize`` only for faces that
    fill a large part of the image; NMS keeps the best, and boxes and landmarks are voted
    (:mod:`facedet_mm.detectors.merging`). ``build_detector(input_size=[...], mirror=True)`` finds the same faces.

    Args:
        iou_thr: IoU above which two boxes are the same face.
        score_thr: Score above which a merged face counts: of mirrored views it is the mean of the two best looks.
        **kwargs: Arguments of ``BaseTTAModel``.

    Raises:
        ModelError: A view is flipped, but not horizontally.

    Example:
        In a config; the samples of ``tta_pipeline`` need ``ori_shape``, ``img_shape``, ``scale``, ``scale_factor``,
        ``flip``, ``flip_direction`` and, with close-ups, ``close_up``:

        >>> tta_model = dict(type="FaceTTAModel", iou_thr=0.45)
    """

    def __init__(self, iou_thr: float = 0.45, score_thr: float = 0.02, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.iou_thr, self.score_thr = iou_thr, score_thr

    def merge_preds(self, data_samples_list: Sequence[Sequence[DetDataSample]]) -> list[DetDataSample]:
        """Returns one sample for each image, its first, with the merged faces.

        Args:
            data_samples_list: For each image, the samples of its views, with ``pred_instances`` in pixels of the
                original, perhaps flipped image.
        """
        return [self._merge(samples) for samples in data_samples_list]

    def _merge(self, samples: Sequence[DetDataSample]) -> DetDataSample:
        usual = [sample for sample in samples if not sample.get("close_up", False)]
        views = limited([_view(sample) for sample in usual])
        found = [_faces(sample, view) for sample, view in zip(usual, views, strict=True)]
        vote = len(views) > 1
        if min(max(sample.img_shape) for sample in usual) >= 2 * CLOSE_UP_SIDE:
            small = [s for s in samples if s.get("close_up", False) and not s.get("flip", False)]
            views += [ViewPlan(()).close_up(_view(sample)) for sample in small]
            found += [faces_from_instances(sample.pred_instances) for sample in small]
        merged = merge_views(views, found, self.iou_thr, vote)
        samples[0].pred_instances = instances_from_faces(merged[merged.scores > self.score_thr])
        return samples[0]


def _view(sample: DetDataSample) -> View:
    height, width = sample.ori_shape[:2]
    size = sample.img_shape[1], sample.img_shape[0]
    view = View((0, 0, width, height), Letterbox((width, height), size, size))
    if not sample.get("flip", False):
        return view
    if sample.flip_direction != "horizontal":
        raise ModelError(f"FaceTTAModel merges views that are flipped horizontally, not {sample.flip_direction}")
    return replace(view, turn=Turn(size, mirrored=True), letterbox=Letterbox(size, size, size))


def _faces(sample: DetDataSample, view: View) -> Faces:
    """Returns the faces in pixels of the view's region or of its mirrored copy."""
    faces = faces_from_instances(sample.pred_instances)
    return faces.scale(*view.scale) if view.turn else faces
