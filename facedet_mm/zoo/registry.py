"""The models this package knows: names, licenses, published figures and download sources."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facedet_mm.errors import ModelError

UNKNOWN_SCORE_THR = 0.5
"""Score threshold for models that are not in the table."""

_PACKAGE = Path(__file__).parents[1]
_OFFICIAL = {
    **{f"scrfd_{size}": f"scrfd_{ours}" for size, ours in (("500m", "0.5g"), ("1000m", "1g"), ("2500m", "2.5g"))},
    **{f"scrfd_{size}_kps": f"scrfd_{ours}_kps" for size, ours in (("500m", "0.5g"), ("2500m", "2.5g"))},
    **{
        f"scrfd_{size}_bnkps": f"scrfd_{ours}_kps"
        for size, ours in (("500m", "0.5g"), ("0.5g", "0.5g"), ("2500m", "2.5g"), ("2.5g", "2.5g"), ("10g", "10g"))
    },
    **dict.fromkeys(("det_500m", "buffalo_s", "buffalo_sc"), "scrfd_0.5g_kps"),
    **dict.fromkeys(("det_2.5g", "buffalo_m"), "scrfd_2.5g_kps"),
    **dict.fromkeys(("det_10g", "buffalo_l", "antelopev2", "scrfd"), "scrfd_10g_kps"),
    **dict.fromkeys(("yunet", "face_detection_yunet", "face_detection_yunet_2023mar"), "yunet_n"),
}
"""Names in InsightFace, in its packs of models and in OpenCV → ours."""


@dataclass(frozen=True)
class Source:
    """A public place to download a model's file from.

    Attributes:
        url: URL of the ``.onnx`` file, or of a zip archive that contains it.
        member: File name in the archive, without folders; ``None`` when ``url`` is the file itself.
        archive_size: Size of the archive in bytes.

    Example:
        >>> [source.member for source in find_model("scrfd_10g_kps").sources][-1]
        'det_10g.onnx'
    """

    url: str
    member: str | None = None
    archive_size: int = 0


@dataclass(frozen=True)
class ZooModel:
    """One row of ``assets/models.json``.

    Attributes:
        name: Name to pass to ``build_detector``.
        family: ``'scrfd'`` or ``'yunet'``.
        license: License of the published weights.
        file: File name of the bundled weights in ``assets``, ``None`` where the license forbids bundling.
        sha256: SHA-256 of the ``.onnx`` file, bundled or downloaded.
        size: Size of that file in bytes.
        verified: Whether the hash was computed from the file itself or confirmed by several independent
            publications; ``False`` when only the download source states it.
        params_m: Parameters in millions, as published.
        gflops: Multiply-adds in units of 10⁹ at 640×480, ``None`` where not published.
        ap: Published WIDER FACE val AP in percent: easy, medium, hard.
        ap_size: Input size of those figures, ``'640'`` or ``'original'``.
        score_thr: Recommended score threshold: the smallest at which the precision on WIDER FACE train images is 95 %,
            see ``tools/analysis/choose_thresholds.py``; 0.5 where that was not measured.
        at_score_thr: Precision and recall at it in percent, on 404 images of WIDER FACE val and for faces of all sizes;
            ``None`` where they were not measured.
        landmarks: Whether the model predicts five landmarks.
        config: Config file name in ``configs``.
        sources: Places to download the file from, best first; empty for a bundled model.

    Example:
        >>> find_model("yunet_n").license, find_model("scrfd_34g").non_commercial
        ('Apache-2.0', True)
    """

    name: str
    family: str
    license: str
    file: str | None
    sha256: str
    size: int
    verified: bool
    params_m: float
    gflops: float | None
    ap: tuple[float, float, float]
    ap_size: str
    score_thr: float
    at_score_thr: tuple[float, float] | None
    landmarks: bool
    config: str
    sources: tuple[Source, ...]

    @property
    def non_commercial(self) -> bool:
        """Whether the license forbids commercial use, so that the user must accept it before the download."""
        return "non-commercial" in self.license


def asset_path(name: str) -> Path:
    """Returns the path of a file that comes with the package: the default model, its license or the sample image.

    Example:
        >>> asset_path("solvay_1927.jpg").is_file()
        True
    """
    return _PACKAGE / "assets" / name


def find_model(name: str) -> ZooModel:
    """Returns the model called ``name``.

    Raises:
        ModelError: There is no such model; the message lists the known names.

    Example:
        >>> find_model("scrfd_2.5g").ap
        (93.78, 92.16, 77.87)
    """
    if name in MODELS:
        return MODELS[name]
    plain = name.strip().lower().replace(" ", "_")
    close = [_OFFICIAL[plain]] if plain in _OFFICIAL else difflib.get_close_matches(plain, MODELS, n=1)
    hint = f"; did you mean {close[0]}?" if close else "."
    raise ModelError(f"unknown model {name!r}{hint} Known: {', '.join(MODELS)}, an .onnx file or a .py config")


def config_path(name: str) -> Path:
    """Returns the MMDetection config of a zoo model, from the installed package or the checkout.

    Raises:
        ModelError: The model is unknown, or the file is missing.

    Example:
        >>> config_path("scrfd_34g").name
        'scrfd_34g.py'
    """
    config = find_model(name).config
    places = (_PACKAGE / "configs" / config, _PACKAGE.parent / "configs" / config)
    for place in places:
        if place.is_file():
            return place
    raise ModelError(f"the config of {name} is missing; looked for {places[0]} and {places[1]}")


def _read_table() -> dict[str, ZooModel]:
    return {row["name"]: _model(row) for row in json.loads(asset_path("models.json").read_text(encoding="utf-8"))}


def _model(row: dict[str, Any]) -> ZooModel:
    sources, at_score_thr = tuple(Source(**source) for source in row["sources"]), row["at_score_thr"]
    tuples = {"ap": tuple(row["ap"]), "at_score_thr": at_score_thr and tuple(at_score_thr), "sources": sources}
    return ZooModel(**{**row, **tuples})


MODELS = _read_table()
"""Model name → model."""
