"""What is done once, when an ONNX file is opened, so that less is to do for each image.

The head's branches become one convolution, what only rearranges their maps is cut off, and the first layer takes
pixels as they lie in memory.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import onnx
from onnx import TensorProto

from facedet_mm.detectors.heads import Place, input_of
from facedet_mm.detectors.rewriting.fusion import fuse_heads
from facedet_mm.detectors.rewriting.maps import give_maps
from facedet_mm.detectors.rewriting.stem import interleave


class Rewritten(NamedTuple):
    """An ONNX file that gives the same in less time.

    Attributes:
        content: the file's.
        places: where in the maps that it puts out each output of the original lies; empty if it puts out the same.
        interleaved: whether it takes (N, 1, H, 3 W), the BGR values of pixel after pixel, for (N, 3, H, W).
    """

    content: bytes
    places: tuple[Place, ...]
    interleaved: bool


def rewrite(path: Path, *, may_interleave: bool) -> Rewritten | None:
    """Reads an ONNX file and rewrites it; ``None`` if there is nothing to gain or it can't be read.

    Files whose weights lie beside them are left alone, too: their place would get lost.

    Args:
        path: of the file.
        may_interleave: whether the runtime gains by it.
    """
    try:
        model = onnx.load(path, load_external_data=False)
        if any(tensor.data_location == TensorProto.EXTERNAL for tensor in model.graph.initializer):
            return None
        branches = fuse_heads(model)
        if not branches:
            return None
        places = give_maps(model.graph, branches)
        interleaved = bool(places) and may_interleave and interleave(model.graph, flip=_takes_rgb(model, places))
        return Rewritten(model.SerializeToString(), places, interleaved)
    except Exception:  # a damaged file may raise anything; the runtime tells what is wrong with it
        return None


def _takes_rgb(model: onnx.ModelProto, places: Sequence[Place]) -> bool:
    scores = [place.map for place in places if place.values == 1].count(0)
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    return input_of(scores, json.loads(metadata.get("facedet_mm") or "{}"))[1].to_rgb
