"""Exports a checkpoint to an mmdeploy model directory: graph, TensorRT engine, and the files of mmdeploy's SDK."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mmdeploy.utils import get_backend

from facedet_mm.errors import FaceDetError
from facedet_mm.imaging.drawing import draw_faces
from facedet_mm.io.images import read_image, write_image
from facedet_mm.plugin.apis.build import build_model, load_config
from facedet_mm.plugin.apis.checkpoint import load_weights
from facedet_mm.plugin.deploy.mmdeploy_backend import build_backend, load_backend, predict, write_sdk_files
from facedet_mm.plugin.deploy.mmdeploy_compare import compare_backend
from facedet_mm.plugin.deploy.mmdeploy_graph import export_graph, fit_configs
from facedet_mm.plugin.deploy.mmdeploy_validation import check_configs, check_device
from facedet_mm.structures import Faces

_DRAWN_SCORE = 0.3
"""Score above which faces are drawn."""


@dataclass(frozen=True)
class Deployment:
    """Result of :func:`deploy`.

    Attributes:
        files: Files of the model directory.
        faces: Faces that PyTorch and the backend found in each image; empty if only the graph was written.
        differences: Largest differences between the two: ``scores``, and ``boxes`` and ``landmarks`` in pixels of
            the image; empty if no face was found or nothing was compared.
    """

    files: tuple[Path, ...]
    faces: Mapping[Path, tuple[Faces, Faces]]
    differences: Mapping[str, float]


def deploy(
    deploy_config: str | os.PathLike[str],
    model_config: str | os.PathLike[str],
    checkpoint: str | os.PathLike[str],
    images: Sequence[str | os.PathLike[str]],
    work_dir: str | os.PathLike[str],
    device: str = "cpu",
    dump_info: bool = False,
    onnx_only: bool = False,
    calibration_config: str | os.PathLike[str] | None = None,
) -> Deployment:
    """Exports a checkpoint through mmdeploy, and compares the faces of the backend with those of PyTorch.

    Args:
        deploy_config: Deploy config, one of ``configs/deploy`` or one built on them.
        model_config: Config of the model.
        checkpoint: Checkpoint of that config.
        images: Images to compare on, at least one.
        work_dir: Folder for ``end2end.onnx``, for TensorRT ``end2end.engine``, and two drawings of each image with
            the faces of PyTorch and of the backend. Unchanged on any error.
        device: ``'cpu'``, or ``'cuda:0'``, which TensorRT needs.
        dump_info: Whether to write ``deploy.json``, ``pipeline.json`` and ``detail.json`` for mmdeploy's SDK.
        onnx_only: Whether to write only the graph, on any machine, and compare nothing.
        calibration_config: Config whose ``val_dataloader`` loads the images for INT8; ``None`` means training images
            of ``model_config``.

    Raises:
        ModelError: A config, the checkpoint or the device is wrong or does not fit, the backend can't be built, or
            it computes in FP32 and finds other faces than PyTorch.
        MissingDependencyError: TensorRT or a package that it needs is missing.
        ImageError: An image can't be read.
        FaceDetError: ``work_dir`` can't be written.
    """
    deploy_cfg, model_cfg = load_config(deploy_config), load_config(model_config)
    check_configs(deploy_cfg, model_cfg)
    check_device(deploy_cfg, device, onnx_only)
    fit_configs(deploy_cfg, model_cfg)
    arrays = {Path(path): read_image(path) for path in images}
    model = build_model(model_cfg).eval()
    load_weights(model, checkpoint)
    with _staged(Path(work_dir)) as folder:
        expected = {} if onnx_only else {path: predict(model, deploy_cfg, model_cfg, path) for path in arrays}
        graph = export_graph(model, deploy_cfg, model_cfg, next(iter(arrays)), folder)
        faces: dict[Path, tuple[Faces, Faces]] = {}
        differences: dict[str, float] = {}
        if not onnx_only:
            backend_files = build_backend(graph, deploy_cfg, model_cfg, calibration_config, device)
            backend = load_backend(backend_files, deploy_cfg, model_cfg, device)
            faces = {path: (expected[path], predict(backend, deploy_cfg, model_cfg, path)) for path in arrays}
            differences = compare_backend(deploy_cfg, faces)
            for path, found in faces.items():
                for name, one in zip(("pytorch", get_backend(deploy_cfg).value), found, strict=True):
                    write_image(
                        folder / f"{path.stem}_{name}.jpg", draw_faces(arrays[path], one[one.scores > _DRAWN_SCORE])
                    )
        if dump_info:
            write_sdk_files(deploy_cfg, model_cfg, checkpoint, folder)
        names = sorted(path.name for path in folder.iterdir())
    return Deployment(tuple(Path(work_dir, name) for name in names), faces, differences)


@contextmanager
def _staged(work_dir: Path) -> Iterator[Path]:
    """Yields a folder whose files move to ``work_dir`` if the block ends without an error."""
    try:
        work_dir.parent.mkdir(parents=True, exist_ok=True)
        if work_dir.exists() and not work_dir.is_dir():
            raise NotADirectoryError(20, "not a folder")
        with tempfile.TemporaryDirectory(prefix=f".{work_dir.name}.", dir=work_dir.parent) as folder:
            yield Path(folder)
            work_dir.mkdir(exist_ok=True)
            for path in Path(folder).iterdir():
                path.replace(work_dir / path.name)
    except OSError as error:
        raise FaceDetError(f"cannot write {work_dir}: {error.strerror or error}") from error
