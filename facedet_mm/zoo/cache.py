"""The folder of downloaded models, and fetching a model into it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from facedet_mm.errors import FaceDetError, ModelError
from facedet_mm.zoo.registry import asset_path, find_model


def cache_dir() -> Path:
    """Returns the folder of downloaded models: ``$FACEDET_HOME``, else ``facedet-mm`` in the user's cache folder.

    That folder is ``$XDG_CACHE_HOME`` or ``~/.cache`` on Linux, ``~/Library/Caches`` on macOS and ``%LOCALAPPDATA%``
    on Windows.

    Raises:
        FaceDetError: The home folder is unknown.

    Example:
        >>> "FACEDET_HOME" in os.environ or cache_dir().name == "facedet-mm"
        True
    """
    own = os.environ.get("FACEDET_HOME")
    with contextlib.suppress(RuntimeError):  # "Could not determine home directory"
        if own:
            return Path(own).expanduser()
        import platformdirs  # imported here so that importing the package stays cheap

        folder = platformdirs.user_cache_path("facedet-mm", appauthor=False, opinion=False)
        if folder.is_absolute():
            return folder
    raise FaceDetError("no home folder to keep models in; set FACEDET_HOME to a folder")


def cached_path(name: str) -> Path:
    """Returns the path of a model's downloaded file, whether it exists or not; you may also put the file there.

    Raises:
        ModelError: The model is unknown.
        FaceDetError: The home folder is unknown.

    Example:
        >>> cached_path("scrfd_34g").name
        'scrfd_34g.onnx'
    """
    return cache_dir() / f"{find_model(name).name}.onnx"


def weights_path(name: str) -> Path | None:
    """Returns the ``.onnx`` file of a model on this machine, bundled or downloaded; ``None`` when there is none.

    Raises:
        ModelError: The model is unknown.
        FaceDetError: The home folder is unknown.

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
    """Returns the ``.onnx`` file of a model, downloaded into :func:`cache_dir` if it isn't there, checked by SHA-256.

    The model's sources are tried in order. Proxies are read from ``HTTPS_PROXY``, ``HTTP_PROXY`` and ``NO_PROXY``.

    Args:
        name: Name of a model in the zoo.
        accept_license: Whether you have read the model's license and comply with it; required for weights that
            are for non-commercial use only.
        progress: Whether to show a progress bar on standard error when that is a terminal.
        notify: Called with a status message before each step that may take long.

    Raises:
        ModelError: The model is unknown or its license is not accepted.
        facedet_mm.zoo.download.DownloadError: No source serves the file; a ``ModelError``.
        FaceDetError: The file can't be written.

    Example:
        >>> fetch("yunet_n").name
        'yunet_n_dynamic.onnx'
    """
    model = find_model(name)
    if model.file:
        return asset_path(model.file)
    from facedet_mm.zoo.download import DownloadError, download, has_sha256

    path = cached_path(name)
    if has_sha256(path, model.sha256):
        return path
    if model.non_commercial and not accept_license:
        raise ModelError(
            f"{name}: the license of these weights is {model.license!r}. If your use complies with it, run "
            f"facedet models fetch {name} --accept-license, or call fetch({name!r}, accept_license=True)"
        )
    failures = []
    for source in model.sources:
        notify(f"downloading {source.url} ({(source.archive_size or model.size) / 1e6:.1f} MB)")
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
        f"cannot download {name}: {'; '.join(failures)}. Behind a proxy, set HTTPS_PROXY; or download the file by "
        f"other means and put it at {path}"
    )
