"""Converts checkpoints of RetinaFace's PyTorch implementation, biubug6/Pytorch_Retinaface."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from facedet_mm.errors import ModelError
from facedet_mm.plugin.apis.build import build_model
from facedet_mm.plugin.apis.checkpoint import load_checkpoint, load_weights, save_checkpoint
from facedet_mm.plugin.engine.fit import check_complete
from facedet_mm.version import __version__

_LAYERS = {"0": "conv", "1": "bn", "3": "conv", "4": "bn"}
"""Index in the authors' sequences → name in a ``ConvModule``."""
_CONTEXT = {
    "conv3X3": "conv3x3",
    "conv5X5_1": "context_module.conv5x5_1",
    "conv5X5_2": "context_module.conv5x5_2",
    "conv7X7_2": "context_module.conv7x7_2",
    "conv7x7_3": "context_module.conv7x7_3",
}
_HEADS = {"ClassHead": "cls_convs", "BboxHead": "reg_convs", "LandmarkHead": "landmark_convs"}


def convert_retinaface(
    config: str | os.PathLike[str], src: str | os.PathLike[str], dst: str | os.PathLike[str]
) -> dict[str, Tensor]:
    """Converts the authors' weights into a checkpoint of one of this project's configs.

    Args:
        config: Config of the same model.
        src: The authors' ``.pth``.
        dst: Checkpoint to write. Not written on failure.

    Returns:
        The weights under this project's names.

    Raises:
        ModelError: The config or the file can't be read, the weights are not those of RetinaFace, do not fit the
            config or are not finite, or ``dst`` is an input.
    """
    src = Path(src)
    if Path(dst).exists() and src.exists() and Path(dst).samefile(src):
        raise ModelError(f"{dst}: is also the input; write the converted weights to another file")
    weights = load_checkpoint(src)["state_dict"]
    if not any(re.match(r"(module\.)?ClassHead\.", key) for key in weights):
        raise ModelError(
            f"{src}: has not the layout of Pytorch_Retinaface; its first weights are {next(iter(weights))}"
        )
    state = rename_retinaface(weights)
    model = build_model(config)
    check_complete(model, state, str(src))
    source = dict(source=src.name, source_sha256=hashlib.sha256(src.read_bytes()).hexdigest())
    meta = dict(**source, facedet_mm_version=__version__, dataset_meta=dict(classes=("face",)))
    save_checkpoint(dict(meta=meta, state_dict=state), dst)
    load_weights(model, dst)
    return state


def rename_retinaface(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns weights in the authors' layout under this project's names."""
    return {_rename(key.removeprefix("module.")): value for key, value in weights.items()}


def _rename(key: str) -> str:
    if match := re.fullmatch(r"body\.stage(\d)\.(\d)\.(?:(\d)\.)?(\w+)", key):
        stage, block, layer, value = match.groups()
        return f"backbone.{_block(int(stage), int(block), int(layer))}.{value}"
    if match := re.fullmatch(r"fpn\.(output|merge)(\d)\.(\d)\.(\w+)", key):
        kind, level, layer, value = match.groups()
        convs = "lateral_convs" if kind == "output" else "merge_convs"
        return f"neck.{convs}.{int(level) - 1}.{_LAYERS[layer]}.{value}"
    if match := re.fullmatch(r"ssh(\d)\.(\w+)\.(\d)\.(\w+)", key):
        level, conv, layer, value = match.groups()
        return f"neck.context.ssh_module{int(level) - 1}.{_CONTEXT.get(conv, conv)}.{_LAYERS[layer]}.{value}"
    if match := re.fullmatch(r"(\w+Head)\.(\d)\.conv1x1\.(\w+)", key):
        return f"bbox_head.{_HEADS.get(match[1], match[1])}.{match[2]}.{match[3]}"
    return re.sub(r"^body\.", "backbone.", key)  # a ResNet


def _block(stage: int, block: int, layer: int) -> str:
    """Returns the name of a layer of MobileNet-0.25; the authors' first stage holds our stem and two stages."""
    if stage == 1 and block == 0:
        return f"stem.0.{_LAYERS[str(layer)]}"
    part = "depthwise_conv" if layer < 2 else "pointwise_conv"
    if stage == 1:
        place = "stem.1" if block == 1 else f"stages.{block // 2 - 1}.{block % 2}"
    else:
        place = f"stages.{stage}.{block}"
    return f"{place}.{part}.{_LAYERS[str(layer)]}"
