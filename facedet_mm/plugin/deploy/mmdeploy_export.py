"""From a checkpoint to an mmdeploy model directory: graph, TensorRT engine, and what mmdeploy's SDK reads."""

from __future__ import annotations

import functools
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch import nn

from facedet_mm.errors import FaceDetError, ModelError
from facedet_mm.imaging.drawing import draw_faces
from facedet_mm.io.images import read_image, write_image
from facedet_mm.plugin.apis.build import build_model, load_config
from facedet_mm.plugin.apis.checkpoint import load_weights
from facedet_mm.plugin.apis.overrides import set_test_size
from facedet_mm.plugin.deploy.mmdeploy_compare import compare_faces, to_faces
from facedet_mm.plugin.deploy.mmdeploy_settings import check_configs, check_device
from facedet_mm.structures import Faces
from facedet_mm.system.dependencies import missing_dependency

try:
    from mmdeploy.apis import build_task_processor
    from mmdeploy.apis.onnx import export
    from mmdeploy.apis.utils import create_calib_input_data, to_backend
    from mmdeploy.backend.sdk.export_info import export2SDK
    from mmdeploy.codebase.base import BaseTask
    from mmdeploy.utils import get_backend, get_calib_filename, get_dynamic_axes, get_input_shape, get_ir_config
except ModuleNotFoundError as missing:
    raise missing_dependency("this deploys through mmdeploy 1.3.1", "mmdeploy", missing) from missing

CALIBRATION_IMAGES = 200
"""Training images, evenly chosen, that INT8 is calibrated with."""


@dataclass(frozen=True)
class Deployment:
    """What :func:`deploy` wrote and found.

    Attributes:
        files: the files of the model directory.
        faces: image → the faces that PyTorch and the back end found in it; empty if only the graph was written.
        differences: largest differences between the two: ``scores``, and in pixels of the image ``boxes`` and
            ``landmarks``; empty where no face was found, or nothing compared.
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
    """Exports a checkpoint through mmdeploy, and compares what the back end finds with what PyTorch finds.

    Args:
        deploy_config: one of ``configs/deploy``, or one built on them.
        model_config: of the model.
        checkpoint: made for it.
        images: images to compare on, at least one.
        work_dir: gets ``end2end.onnx``, for TensorRT ``end2end.engine``, and for every image what PyTorch and the
            back end find in it, drawn. Left as it was on any error.
        device: ``'cpu'``, or ``'cuda:0'``, which TensorRT needs.
        dump_info: also write ``deploy.json``, ``pipeline.json`` and ``detail.json`` for mmdeploy's SDK.
        onnx_only: only write the graph, on any machine, and compare nothing.
        calibration_config: a config whose ``val_dataloader`` gives the images for INT8; by default
            :data:`CALIBRATION_IMAGES` training images of ``model_config``.

    Raises:
        ModelError: a config, the checkpoint or the device is wrong or does not fit; the back end can't be built, or
            in FP32 does not find what PyTorch finds.
        MissingDependencyError: TensorRT or what it needs is missing.
        ImageError: an image can't be read.
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
            backend_files = _build(graph, deploy_cfg, model_cfg, calibration_config, device)
            backend = load_backend(backend_files, deploy_cfg, model_cfg, device)
            faces = {path: (expected[path], predict(backend, deploy_cfg, model_cfg, path)) for path in arrays}
            differences = compare_faces(deploy_cfg, faces)
            for path, found in faces.items():
                for name, one in zip(("pytorch", get_backend(deploy_cfg).value), found, strict=True):
                    write_image(folder / f"{path.stem}_{name}.jpg", draw_faces(arrays[path], one[one.scores > 0.3]))
        if dump_info:
            write_sdk_files(deploy_cfg, model_cfg, checkpoint, folder)
        names = sorted(path.name for path in folder.iterdir())
    return Deployment(tuple(Path(work_dir, name) for name in names), faces, differences)


@contextmanager
def torchscript_export() -> Iterator[None]:
    """Inside it ``torch.onnx.export`` traces with TorchScript: mmdeploy 1.3.1 rewrites functions as they are traced.

    Example::

        with torchscript_export():
            mmdeploy.apis.torch2onnx(...)
    """
    traced = functools.partial(torch.onnx.export, dynamo=False)
    with mock.patch.object(torch.onnx, "export", traced), warnings.catch_warnings():
        # of tracing: sizes and thresholds are meant to become constants
        warnings.simplefilter("ignore")
        yield


def fit_configs(deploy_cfg: Config, model_cfg: Config) -> None:
    """Makes the test pipeline of a model fit a fixed input, and the outputs of a deploy config fit the model."""
    if shape := get_input_shape(deploy_cfg):
        set_test_size(model_cfg, shape[0])
    # mmdeploy reads test_pipeline, the Runner what the dataset has
    model_cfg.test_pipeline = deepcopy(model_cfg.test_dataloader.dataset.pipeline)
    if not model_cfg.model.bbox_head.get("with_landmarks"):
        ir_config = get_ir_config(deploy_cfg)
        ir_config["output_names"] = [name for name in ir_config["output_names"] if name != "landmarks"]
        (ir_config.get("dynamic_axes") or {}).pop("landmarks", None)


def export_graph(
    model: nn.Module, deploy_cfg: Config, model_cfg: Config, image: str | os.PathLike[str], folder: Path
) -> Path:
    """The graph of a model for the back end of ``deploy_cfg``, on any machine.

    Args:
        model: in eval mode, on the CPU.
        deploy_cfg, model_cfg: as :func:`fit_configs` leaves them.
        image: an image to trace with.
        folder: gets the file that ``deploy_cfg`` names.

    Raises:
        FaceDetError: the file can't be written.
    """
    ir_config = get_ir_config(deploy_cfg)
    path = folder / ir_config["save_file"]
    data, inputs = _task(deploy_cfg, model_cfg).create_input(
        os.fspath(image), get_input_shape(deploy_cfg), data_preprocessor=model.data_preprocessor
    )
    with torchscript_export():
        export(
            deepcopy(model),
            inputs,
            str(path.with_suffix("")),
            backend=get_backend(deploy_cfg).value,
            input_metas=dict(data_samples=data["data_samples"], mode="predict"),
            context_info=dict(deploy_cfg=deepcopy(deploy_cfg)),
            input_names=ir_config["input_names"],
            output_names=ir_config["output_names"],
            opset_version=ir_config["opset_version"],
            dynamic_axes=get_dynamic_axes(deploy_cfg),
            keep_initializers_as_inputs=False,
        )
    return path


def load_backend(
    files: Sequence[str | os.PathLike[str]], deploy_cfg: Config, model_cfg: Config, device: str = "cpu"
) -> nn.Module:
    """The detector of mmdeploy that runs ``files``; its ``test_step`` takes what that of an mmdet detector takes."""
    task = build_task_processor(model_cfg, deploy_cfg, device)
    return task.build_backend_model([os.fspath(file) for file in files], task.update_data_preprocessor)


def predict(model: nn.Module, deploy_cfg: Config, model_cfg: Config, image: str | os.PathLike[str]) -> Faces:
    """Faces that a PyTorch or back-end model finds in an image, with the thresholds of the deploy config."""
    data, _ = _task(deploy_cfg, model_cfg).create_input(os.fspath(image), get_input_shape(deploy_cfg))
    if head := getattr(model, "bbox_head", None):
        settings = deploy_cfg.codebase_config.post_processing
        head.test_cfg.update(
            score_thr=settings.score_threshold,
            nms=dict(type="nms", iou_threshold=settings.iou_threshold),
            nms_pre=settings.pre_top_k,
            max_per_img=settings.keep_top_k,
        )
    with torch.inference_mode():
        return to_faces(model.test_step(data)[0].pred_instances)


def write_sdk_files(
    deploy_cfg: Config, model_cfg: Config, checkpoint: str | os.PathLike[str], folder: str | os.PathLike[str]
) -> None:
    """Writes ``deploy.json``, ``pipeline.json`` and ``detail.json``, by which mmdeploy's SDK runs a model directory."""
    view = deepcopy(model_cfg)
    for step in view.test_pipeline:
        if step.type == "KeepRatioResize":
            # with its scope, the name is not what mmdeploy looks for to turn the ratio off for a fixed input
            step.update(type="mmdet.Resize", keep_ratio=True)
    # the SDK pads after normalization, with zeros
    view.model.data_preprocessor.pad_size_divisor = view.model.data_preprocessor.test_size
    view.model.test_cfg.score_thr = deploy_cfg.codebase_config.post_processing.score_threshold
    export2SDK(deploy_cfg, view, os.fspath(folder), pth=os.fspath(checkpoint), device=_device_of(deploy_cfg))


def write_calibration(
    model: nn.Module, model_cfg: Config, path: Path, dataset_config: str | os.PathLike[str] | None = None
) -> None:
    """Writes network inputs of images into the HDF5 file that mmdeploy calibrates INT8 with.

    Args:
        model: whose preprocessing is applied.
        model_cfg: its config.
        path: file to write.
        dataset_config: a config whose ``val_dataloader`` gives the images; by default training images of
            ``model_cfg``, through its test pipeline.

    Raises:
        ModelError: ``dataset_config`` can't be read or has no ``val_dataloader``.
        AnnotationError: the annotations are missing or malformed.
    """
    if dataset_config is not None:
        dataloader = load_config(dataset_config).get("val_dataloader")
        if dataloader is None:
            raise ModelError(f"{dataset_config}: INT8 is calibrated with the images of val_dataloader, it has none")
    else:
        dataloader, train = deepcopy(model_cfg.test_dataloader), model_cfg.train_dataloader.dataset
        dataloader.dataset.update(ann_file=train.ann_file, data_prefix=train.data_prefix)
    dataloader.batch_size = 1
    loader = Runner.build_dataloader(dataloader)
    if dataset_config is None and len(loader.dataset) > CALIBRATION_IMAGES:
        step = len(loader.dataset) / CALIBRATION_IMAGES
        dataloader.dataset.indices = [int(i * step) for i in range(CALIBRATION_IMAGES)]
        loader = Runner.build_dataloader(dataloader)
    create_calib_input_data(
        str(path), model, loader, get_tensor_func=lambda batch: model.data_preprocessor(batch)["inputs"]
    )


def _build(
    graph: Path, deploy_cfg: Config, model_cfg: Config, calibration_config: str | os.PathLike[str] | None, device: str
) -> list[str]:
    """The files that the back end runs; ONNX Runtime takes the graph as it is."""
    backend = get_backend(deploy_cfg).value
    if name := get_calib_filename(deploy_cfg):
        write_calibration(build_model(model_cfg), model_cfg, graph.with_name(name), calibration_config)
    try:
        return list(to_backend(backend, [str(graph)], str(graph.parent), deploy_cfg=deploy_cfg, device=device))
    except Exception as error:  # TensorRT's builder raises whatever it likes
        raise ModelError(f"{backend} cannot be built from {graph.name} ({type(error).__name__}: {error})") from error


def _task(deploy_cfg: Config, model_cfg: Config) -> BaseTask:
    return build_task_processor(model_cfg, deploy_cfg, _device_of(deploy_cfg))


def _device_of(deploy_cfg: Config) -> str:
    """The kind of device that mmdeploy wants to be told for a back end, also where it is only described."""
    return "cuda" if get_backend(deploy_cfg).value == "tensorrt" else "cpu"


@contextmanager
def _staged(work_dir: Path) -> Iterator[Path]:
    """A folder whose files move into ``work_dir`` when the block ends without an error."""
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
