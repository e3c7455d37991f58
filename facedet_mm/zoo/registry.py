"""The models this package knows: names, licenses, published figures, and where their files lie or come from."""

from __future__ import annotations

import difflib
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facedet_mm.errors import FaceDetError, ModelError

_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Source:
    """A public place that a model's file can be fetched from.

    Attributes:
        url: of the ``.onnx`` file, or of a zip archive that holds it.
        member: its file name in the archive, without folders; ``None`` when ``url`` is the file itself.
        archive_size: of the archive, in bytes.

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
        name: what ``build_detector`` takes.
        family: ``'scrfd'`` or ``'yunet'``.
        license: of the published weights.
        file: the bundled weights in ``assets``, ``None`` where they may not be bundled.
        sha256: of the ``.onnx`` file, bundled or fetched.
        size: of that file, in bytes.
        verified: whether the hash was computed from the file itself, or several publications independent of each
            other give the same; ``False`` where only the place that the file comes from states it.
        params_m: parameters in millions, as published.
        gflops: multiply-adds in units of 10⁹ at 640×480, ``None`` where not published.
        ap: published WIDER FACE val AP in percent: easy, medium, hard.
        ap_size: the input size of those figures, ``'640'`` or ``'original'``.
        landmarks: whether it gives five landmarks.
        config: its file in ``configs``, ``None`` where it can't be trained here.
        sources: where the file can be fetched, best first; empty for a bundled one.

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
    landmarks: bool
    config: str | None
    sources: tuple[Source, ...]

    @property
    def non_commercial(self) -> bool:
        """Whether the license forbids commercial use, so that the user is asked before the weights are fetched."""
        return "non-commercial" in self.license


def _read_table() -> dict[str, ZooModel]:
    return {row["name"]: _model(row) for row in json.loads(asset_path("models.json").read_text(encoding="utf-8"))}


def _model(row: dict[str, Any]) -> ZooModel:
    sources = tuple(Source(**source) for source in row["sources"])
    return ZooModel(**{**row, "ap": tuple(row["ap"]), "sources": sources})


def asset_path(name: str) -> Path:
    """A file that comes with the package: the default model, its license, the sample image.

    Example:
        >>> asset_path("solvay_1927.jpg").is_file()
        True
    """
    return _PACKAGE / "assets" / name


def find_model(name: str) -> ZooModel:
    """The row of ``name``.

    Raises:
        ModelError: there is none; the message holds the names there are.

    Example:
        >>> find_model("scrfd_2.5g").ap
        (93.78, 92.16, 77.87)
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

    Example:
        >>> config_path("scrfd_34g").name
        'scrfd_34g.py'
    """
    config = find_model(name).config
    if config is None:
        raise ModelError(f"{name} has no training config; it runs from an .onnx file only")
    places = (_PACKAGE / "configs" / config, _PACKAGE.parent / "configs" / config)
    for place in places:
        if place.is_file():
            return place
    raise ModelError(f"the config of {name} is missing; looked for {places[0]} and {places[1]}")


def cache_dir() -> Path:
    """The folder of fetched models: ``$FACEDET_HOME``, else ``facedet-mm`` in the platform's cache folder.

    That is ``$XDG_CACHE_HOME`` or ``~/.cache``, ``~/Library/Caches`` on macOS, ``%LOCALAPPDATA%`` on Windows.

    Raises:
        FaceDetError: there is no home folder.

    Example:
        >>> "FACEDET_HOME" in os.environ or cache_dir().name == "facedet-mm"
        True
    """
    variable, fallback = _CACHES.get(sys.platform, ("XDG_CACHE_HOME", ".cache"))
    given = Path(os.environ.get(variable, ""))
    try:
        if own := os.environ.get("FACEDET_HOME"):
            return Path(own).expanduser()
        return (given if given.is_absolute() else Path.home() / fallback) / "facedet-mm"
    except RuntimeError as error:
        raise FaceDetError("no home folder to keep models in; set FACEDET_HOME to a folder") from error


def cached_path(name: str) -> Path:
    """Where the fetched file of a model lies or would lie; a file put there by hand is used as well.

    Raises:
        ModelError: an unknown model.
        FaceDetError: there is no home folder.

    Example:
        >>> cached_path("scrfd_34g").name
        'scrfd_34g.onnx'
    """
    return cache_dir() / f"{find_model(name).name}.onnx"


def weights_path(name: str) -> Path | None:
    """The ``.onnx`` file of a model that is on this machine, bundled or fetched; ``None`` when there is none.

    Raises:
        ModelError: an unknown model.
        FaceDetError: there is no home folder.

    Example:
        >>> weights_path("yunet_n").name
        'yunet_n_dynamic.onnx'
    """
    model = find_model(name)
    path = asset_path(model.file) if model.file else cached_path(name)
    return path if os.path.isfile(path) else None


def fetch(
    name: str,
    accept_license: bool = False,
    *,
    progress: bool = False,
    notify: Callable[[str], None] = lambda _: None,
) -> Path:
    """The ``.onnx`` file of a model; downloaded into :func:`cache_dir` unless it is there, and checked by SHA-256.

    Its places are tried one after the other. A download that is cut goes on where it ended, now or at the next
    call. Proxies are taken from ``HTTPS_PROXY`` and its kin.

    Args:
        name: a name of the zoo.
        accept_license: you have read the model's license and keep to it; needed for weights that are for
            non-commercial use only.
        progress: show a bar on standard error when that is a terminal.
        notify: gets a sentence for whatever makes the user wait.

    Raises:
        ModelError: an unknown model, or a license that is not accepted.
        facedet_mm.zoo.download.DownloadError: no place serves the file; a ``ModelError``.
        FaceDetError: the file can't be written.

    Example:
        >>> fetch("yunet_n").name
        'yunet_n_dynamic.onnx'
    """
    from facedet_mm.zoo.download import DownloadError, download, has_sha256

    model = find_model(name)
    if model.file:
        return asset_path(model.file)
    path = cached_path(name)
    if has_sha256(path, model.sha256):
        return path
    if model.non_commercial and not accept_license:
        raise ModelError(
            f"{name}: the license of these weights is {model.license!r}. If your use is within it, say so: "
            f"facedet models fetch {name} --accept-license, or fetch({name!r}, accept_license=True)"
        )
    failures = []
    for source in model.sources:
        notify(f"fetching {source.url} ({(source.archive_size or model.size) / 1e6:.1f} MB)")
        try:
            download(
                source.url,
                path,
                sha256=model.sha256,
                size=model.size,
                member=source.member,
                archive_size=source.archive_size,
                progress=progress,
                notify=notify,
            )
        except DownloadError as error:
            failures.append(str(error))
        else:
            return path
    raise DownloadError(
        f"cannot fetch {name}: {'; '.join(failures)}. Behind a proxy set HTTPS_PROXY; a file fetched by other means "
        f"can be put at {path}"
    )


_CACHES = {"darwin": ("", "Library/Caches"), "win32": ("LOCALAPPDATA", "AppData/Local")}
"""Platform → variable that holds the folder of caches, and its usual place in the home folder."""
MODELS = _read_table()
"""Name → model."""
