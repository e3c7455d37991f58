"""``FaceDetInferencer``: mmdet's ``DetInferencer`` for faces."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mmdet.apis import DetInferencer
from mmdet.structures import DetDataSample
from torch import nn

from facedet_mm.errors import ModelError
from facedet_mm.plugin.apis.build import load_config
from facedet_mm.plugin.apis.checkpoint import load_weights
from facedet_mm.zoo import config_path


class FaceDetInferencer(DetInferencer):
    """``DetInferencer`` that knows this project's model names, loads weights safely and keeps landmarks.

    Args:
        model: A model name (``'scrfd_0.5g_kps'``) or the path of a config.
        weights: A checkpoint made for that config; it must fit it completely.
        device: ``'cpu'``, ``'cuda:0'``, …; by default the best one at hand.
        **kwargs: Those of ``DetInferencer``.

    Raises:
        ModelError: unknown model, unreadable config, missing, unsafe or unfit weights.

    Example::

        inferencer = FaceDetInferencer('scrfd_0.5g_kps', 'scrfd_0.5g_kps.pth')
        faces = inferencer('photo.jpg')['predictions'][0]  # bboxes, scores, labels, keypoints
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        weights: str | os.PathLike[str],
        device: str | None = None,
        **kwargs: Any,
    ) -> None:
        if weights is None:
            raise ModelError(f"{model}: weights are needed, a checkpoint (.pth) made for this config")
        self._weights = weights
        config = load_config(model if str(model).endswith(".py") or Path(model).exists() else config_path(str(model)))
        # the weights do not go through the parent: it falls back to unpickling whatever a file contains
        super().__init__(config, weights=None, device=device, **kwargs)

    def _load_weights_to_model(self, model: nn.Module, checkpoint: dict | None, cfg: Any) -> None:
        del checkpoint, cfg
        load_weights(model, self._weights)
        model.dataset_meta = dict(  # type: ignore[assignment]
            classes=("face",), palette=[(0, 200, 0)]
        )

    def pred2dict(self, data_sample: DetDataSample, pred_out_dir: str = "") -> dict:
        """As the parent, with ``keypoints`` (K, 5, 2) as nested lists where the model predicts them."""
        result = super().pred2dict(data_sample, pred_out_dir)
        if "keypoints" in data_sample.pred_instances:
            result["keypoints"] = data_sample.pred_instances.keypoints.tolist()
        return result
