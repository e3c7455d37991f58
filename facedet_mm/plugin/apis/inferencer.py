"""``FaceDetInferencer``: mmdet's ``DetInferencer`` for faces."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from mmdet.apis import DetInferencer
from mmdet.structures import DetDataSample

from facedet_mm.errors import ModelError
from facedet_mm.plugin.apis.build import load_config
from facedet_mm.plugin.apis.checkpoint import load_weights
from facedet_mm.zoo import config_path


class FaceDetInferencer(DetInferencer):
    """``DetInferencer`` that accepts this project's model names, loads weights safely and returns landmarks.

    Args:
        model: A model name (``'scrfd_0.5g_kps'``) or the path of a config.
        weights: Checkpoint of that config; it must fit the model completely.
        device: PyTorch device such as ``'cpu'`` or ``'cuda:0'``; by default the best available one.
        **kwargs: Arguments of ``DetInferencer``.

    Raises:
        ModelError: The model is unknown, the config cannot be read, or the weights are missing, unsafe or do not fit.

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
            raise ModelError(f"{model}: needs weights, a checkpoint (.pth) of this config")
        self._weights = weights
        config = load_config(model if str(model).endswith(".py") or Path(model).exists() else config_path(str(model)))
        # weights are not passed to the parent, which would unpickle any object in the file
        super().__init__(config, weights=None, device=device, **kwargs)

    def _load_weights_to_model(self, model: Any, checkpoint: dict | None, cfg: Any) -> None:
        del checkpoint, cfg
        load_weights(model, self._weights)
        model.dataset_meta = dict(classes=("face",), palette=[(0, 200, 0)])

    def pred2dict(self, data_sample: DetDataSample, pred_out_dir: str = "") -> dict:
        """Converts a prediction to a dict; ``keypoints`` (K, 5, 2) are nested lists if the model predicts them."""
        result = super().pred2dict(data_sample, pred_out_dir)
        if "keypoints" in data_sample.pred_instances:
            result["keypoints"] = data_sample.pred_instances.keypoints.tolist()
        return result
