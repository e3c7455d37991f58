"""Rewrites ONNX files when they are opened, so that each image takes less work; detectors and deploy import it.

The branches of a head become one convolution, nodes that only rearrange their maps are cut off, and the first layer
takes pixels as they lie in memory. An input of one size becomes one of any size.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import onnx

from facedet_mm.detectors.contents import check_contents, read_onnx
from facedet_mm.detectors.heads import Place, input_of
from facedet_mm.detectors.metadata import read_metadata
from facedet_mm.detectors.rewriting.freeing import free_axes
from facedet_mm.detectors.rewriting.fusion import fuse_heads
from facedet_mm.detectors.rewriting.graphs import has_external_weights
from facedet_mm.detectors.rewriting.maps import replace_rows_by_maps
from facedet_mm.detectors.rewriting.proof import Rewritten, disproof
from facedet_mm.detectors.rewriting.stem import interleave
from facedet_mm.errors import ModelError

Opened = TypeVar("Opened")

_KEPT = ((), ("batch",), ("batch", "height", "width"))
"""Axes of the input that stay as they are, in the order of trying."""


def open_fastest(
    path: Path, open_model: Callable[[str | bytes], Opened], *, may_interleave: bool
) -> tuple[Opened, Rewritten | None]:
    """Opens a model file in its rewritten form, or as it is if that is not possible.

    Args:
        path: Model file.
        open_model: Opens a path or the content of a file in a runtime; it raises :class:`ModelError` if it fails.
        may_interleave: Whether the runtime is faster with an interleaved input.

    Returns:
        What ``open_model`` returned, and the rewritten file, or ``None`` for the original one.

    Raises:
        ModelError: The original file does not open, or it holds what :func:`check_contents` refuses.
    """
    reason: str | None = None
    for kept in _KEPT:
        rewritten = rewrite(path, may_interleave=may_interleave, kept=kept)
        if rewritten is None:
            return open_model(str(path)), None
        reason = disproof(path, rewritten)
        if reason is None:
            try:
                return open_model(rewritten.content), rewritten
            except ModelError as error:
                reason = f"it does not open: {error}"
        if not rewritten.freed:
            break
    opened = open_model(str(path))
    logging.getLogger(__name__).warning(
        "%s: running the file as it is, which is slower, because its optimized form can't be used (%s)",
        path,
        " ".join(str(reason).split()),
    )
    return opened, None


def free(path: Path) -> bytes | None:
    """Returns the content of an ONNX file with an input of any size, proven; ``None`` if its size is free or must stay.

    Raises:
        ModelError: The file holds what :func:`check_contents` refuses.
    """
    for kept in _KEPT[:2]:
        model = _read(path)
        freed = free_axes(model, kept) if model else ()
        if not model or "height" not in freed:
            return None
        content: bytes = model.SerializeToString()
        if disproof(path, Rewritten(content, (), False, freed=freed)) is None:
            return content
    return None


def rewrite(path: Path, *, may_interleave: bool, kept: Collection[str] = ()) -> Rewritten | None:
    """Reads an ONNX file and rewrites it.

    Args:
        path: Model file.
        may_interleave: Whether the runtime is faster with an interleaved input.
        kept: Axes of the input that are not freed: ``'batch'``, ``'height'``, ``'width'``.

    Returns:
        The rewritten file, or ``None`` if there is nothing to gain, or if the file is damaged or has external weights;
        what is wrong with it, the runtime reports.

    Raises:
        ModelError: The file holds what :func:`check_contents` refuses.
    """
    model = _read(path)
    if model is None:
        return None
    try:
        metadata = read_metadata(next((p.value for p in model.metadata_props if p.key == "facedet_mm"), ""))
    except ValueError:
        return None
    freed = free_axes(model, kept)
    branches = fuse_heads(model)
    if not branches and not freed:
        return None
    places = replace_rows_by_maps(model.graph, branches) if branches else ()
    to_rgb = _takes_rgb(places, metadata) if places and may_interleave else None
    interleaved = to_rgb is not None and interleave(model.graph, flip=to_rgb)
    return Rewritten(model.SerializeToString(), places, interleaved, bool(to_rgb), freed)


def _read(path: Path) -> onnx.ModelProto | None:
    """Returns a checked file that lies in one piece, or ``None``."""
    model = read_onnx(path)
    if model is None:
        return None
    check_contents(path, model)
    return None if has_external_weights(model.graph) else model


def _takes_rgb(places: Sequence[Place], metadata: Mapping[str, Any]) -> bool:
    """Returns whether the network takes RGB."""
    scores = [place.map for place in places if place.values == 1].count(0)
    return input_of(scores, metadata)[1].to_rgb
