"""Converts official SCRFD weights, the authors' ``.pth`` or ONNX, to checkpoints of this project's configs."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from facedet_mm.errors import ModelError
from facedet_mm.plugin.apis.build import build_model
from facedet_mm.plugin.apis.checkpoint import load_weights, save_checkpoint
from facedet_mm.plugin.apis.official_onnx import read_official_onnx
from facedet_mm.plugin.apis.official_pth import read_official_pth
from facedet_mm.plugin.apis.onnx_comparison import compare_with_onnx, make_input
from facedet_mm.plugin.engine.fit import check_complete
from facedet_mm.plugin.engine.loading import check_tensors
from facedet_mm.version import __version__
from facedet_mm.zoo import config_path

TOLERANCE = 1e-4
"""Largest allowed difference between the source and the converted model: scores, and units of the stride."""


@dataclass(frozen=True)
class Conversion:
    """Result of a conversion.

    Attributes:
        model: Model name, which is also the name of its config.
        differences: Largest absolute difference to the reference for each output (``scores``, ``boxes`` and
            ``landmarks`` in units of the stride) on the test image; empty without a reference.
        faces: Number of faces found in the test image at score 0.5.
    """

    model: str
    differences: dict[str, float]
    faces: int


def convert(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    image: NDArray[np.uint8],
    reference: str | os.PathLike[str] | None = None,
) -> Conversion:
    """Converts official weights and checks the result on an image.

    Args:
        src: The authors' ``.pth`` (MMDetection 2.7 layout) or a published SCRFD ``.onnx``.
        dst: Checkpoint to write; the config of the same model loads it strictly. Not written on failure.
        image: Image (H, W, 3) uint8 BGR on which source and result are compared.
        reference: ONNX file of the same model to compare with; by default ``src`` itself if it is ONNX.

    Raises:
        ModelError: ``src`` is none of the eight SCRFD models, its weights are not finite numbers, the result does not
            reproduce the reference, or ``dst`` is an input.
    """
    src = Path(src)
    for source in filter(None, (src, reference)):
        if Path(dst).exists() and Path(source).exists() and Path(dst).samefile(source):
            raise ModelError(f"{dst}: is also the input; write the converted weights to another file")
    is_onnx = src.suffix.lower() == ".onnx"
    name, state = read_official_onnx(src) if is_onnx else read_official_pth(src)
    meta = dict(
        model=name,
        source=src.name,
        source_sha256=hashlib.sha256(src.read_bytes()).hexdigest(),
        facedet_mm_version=__version__,
        dataset_meta=dict(classes=("face",)),
    )
    model = build_model(config_path(name))
    check_tensors(state, str(src))
    check_complete(model, state, str(src))
    model.load_state_dict(state, strict=True)
    model.eval()
    if reference is None and is_onnx:
        reference = src
    differences = {} if reference is None else compare_with_onnx(model, reference, image)
    worst = float(np.max(list(differences.values()), initial=0.0))
    if not worst <= TOLERANCE:
        raise ModelError(
            f"{src}: looks like {name}, but the converted model differs from {reference} by {worst:.3g} "
            f"(allowed {TOLERANCE:g}), so nothing was written"
        )
    faces = count_faces(model, image)
    save_checkpoint(dict(meta=meta, state_dict=model.state_dict()), dst)
    load_weights(model, dst)
    return Conversion(name, differences, faces)


def count_faces(model: nn.Module, image: NDArray[np.uint8]) -> int:
    """Returns the number of faces that a model finds in an image at 640 pixels with a score above 0.5."""
    with torch.inference_mode():
        outputs = model(make_input(image, (640, 640)), mode="tensor")
    cfg = model.bbox_head.test_cfg.copy()
    cfg.score_thr = 0.5
    return len(model.bbox_head.predict_by_feat(*outputs, batch_img_metas=[dict(img_shape=(640, 640))], cfg=cfg)[0])
