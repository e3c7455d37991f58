"""The models this package knows: names, licences, published figures, and where their files lie."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path

from facedet_mm.errors import ModelError

_PACKAGE = Path(__file__).parent


@dataclass(frozen=True)
class ZooModel:
    """One row of ``assets/models.json``.

    Attributes:
        name: what ``build_detector`` takes.
        family: ``'scrfd'`` or ``'yunet'``.
        licence: of the published weights.
        file: the bundled weights in ``assets``, ``None`` where they may not be bundled.
        sha256: of that file.
        params_m: parameters in millions, as published.
        gflops: multiply-adds in units of 10⁹ at 640×480, ``None`` where not published.
        ap: published WIDER FACE val AP in percent: easy, medium, hard.
        ap_size: the input size of those figures, ``'640'`` or ``'original'``.
        landmarks: whether it gives five landmarks.
        config: its file in ``configs``, ``None`` where it can't be trained here.
    """

    name: str
    family: str
    licence: str
    file: str | None
    sha256: str | None
    params_m: float
    gflops: float | None
    ap: tuple[float, float, float]
    ap_size: str
    landmarks: bool
    config: str | None


def _read_table() -> dict[str, ZooModel]:
    rows = json.loads(asset_path("models.json").read_text(encoding="utf-8"))
    return {row["name"]: ZooModel(**{**row, "ap": tuple(row["ap"])}) for row in rows}


def asset_path(name: str) -> Path:
    """A file that comes with the package: the default model, its licence, the sample picture."""
    return _PACKAGE / "assets" / name


def find_model(name: str) -> ZooModel:
    """The row of ``name``.

    Raises:
        ModelError: there is none; the message holds the names there are.
    """
    if name in MODELS:
        return MODELS[name]
    close = difflib.get_close_matches(name, MODELS, n=1)
    hint = f"; did you mean {close[0]}?" if close else "."
    raise ModelError(f"unknown model {name!r}{hint} Known: {', '.join(MODELS)}, an .onnx file or a .py config")


def config_path(name: str) -> Path:
    """The MMDetection config of a zoo model, in the installed package or beside it in a checkout.

    Raises:
        ModelError: an unknown model, or one without a config.
    """
    config = find_model(name).config
    if config is None:
        raise ModelError(f"{name} has no training config; it runs from an .onnx file only")
    places = (_PACKAGE / "configs" / config, _PACKAGE.parent / "configs" / config)
    for place in places:
        if place.is_file():
            return place
    raise ModelError(f"the config of {name} is missing; looked for {places[0]} and {places[1]}")


MODELS = _read_table()
"""Name → model."""
