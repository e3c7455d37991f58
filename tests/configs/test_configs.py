"""Every config builds and trains one iteration with its own pipeline."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmdet")

from conftest import ROOT  # noqa: E402
from mmdet.models.losses import FocalLoss, SmoothL1Loss  # noqa: E402
from mmdet.models.task_modules.assigners import MaxIoUAssigner  # noqa: E402
from mmengine.dataset import Compose, pseudo_collate  # noqa: E402
from mmengine.optim import build_optim_wrapper  # noqa: E402
from torch import nn  # noqa: E402

from facedet_mm.plugin.apis.build import build_model, load_config  # noqa: E402

CONFIGS = sorted(p for p in (ROOT / "configs").rglob("*.py") if "_base_" not in p.parts and "deploy" not in p.parts)
FAST = [p for p in CONFIGS if not any(size in p.name for size in ("34g", "10g", "r50", "r152"))]
EPOCHS = {
    "custom_dataset": 20,
    "scrfd_0.5g_subset": 60,
    "retinaface_mnet0.25": 250,
    "retinaface_r50": 100,
    "retinaface_r152": 100,
}
"""Configs that do not train for 640 epochs."""


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    path = tmp_path_factory.mktemp("images") / "faces.png"
    image = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    cv2.imwrite(str(path), image)
    instances = [
        dict(
            bbox=[x, 100, x + s, 100 + s],
            bbox_label=0,
            ignore_flag=0,
            keypoints=[[x, 100]] * 5,
            keypoints_visible=[1] * 5,
        )
        for x, s in ((50, 20), (120, 60), (250, 110))
    ]
    return dict(img_path=str(path), img_id=0, instances=instances)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: str(p.relative_to(ROOT / "configs")))
def test_every_config_builds(path):
    config = load_config(path)
    model = build_model(config)
    assert model.bbox_head.num_classes == 1
    assert config.train_cfg.max_epochs == EPOCHS.get(path.stem, 640)


@pytest.mark.parametrize("path", FAST, ids=lambda p: str(p.relative_to(ROOT / "configs")))
def test_every_config_trains_one_iteration(path, image):
    np.random.seed(0)  # noqa: NPY002 - what the transforms draw from
    torch.manual_seed(0)
    config = load_config(path)
    model = build_model(config)
    model.init_weights()
    pipeline = Compose(config.train_dataloader.dataset.pipeline)
    batch = pseudo_collate([pipeline(dict(image, instances=[dict(i) for i in image["instances"]]))])
    size = config.train_dataloader.dataset.pipeline[2]["size"]
    assert batch["inputs"][0].shape == (3, size, size)
    assert batch["inputs"][0].dtype == torch.uint8
    assert model.data_preprocessor(batch, training=True)["inputs"].shape[2:] == (size, size)
    optimizer = build_optim_wrapper(model, config.optim_wrapper)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    losses = model.train_step(batch, optimizer)
    assert all(torch.isfinite(value) for value in losses.values())
    assert losses["loss"].item() > 0
    unchanged = [n for n, value in model.named_parameters() if torch.equal(value, before[n]) and value.ndim > 1]
    assert not unchanged


def test_images_are_padded_with_mid_gray_to_the_test_square_only_when_testing():
    preprocessor = build_model(ROOT / "configs" / "scrfd_0.5g.py").data_preprocessor
    data = dict(inputs=[torch.full((3, 300, 640), 255, dtype=torch.uint8)])
    tested, trained = (preprocessor(data, training)["inputs"] for training in (False, True))
    assert tested.shape == (1, 3, 640, 640)
    assert trained.shape == (1, 3, 320, 640)
    assert (tested[:, :, 300:] == 0).all()
    assert (tested[:, :, :300] == (255 - 127.5) / 128).all()


def head(name):
    return build_model(ROOT / "configs" / "ablation" / f"{name}.py").bbox_head


def test_ablations_change_what_they_say():
    losses = head("loss_focal_smoothl1")
    assert isinstance(losses.loss_cls, FocalLoss)
    assert isinstance(losses.loss_bbox, SmoothL1Loss)
    assert isinstance(head("assigner_iou").assigner, MaxIoUAssigner)
    assert not any(isinstance(m, nn.GroupNorm) for m in head("norm_bn").modules())
    assert head("landmarks_off").landmark_convs is None
    scales = (
        load_config(ROOT / "configs" / "ablation" / "crop_scales_1.0.py").train_dataloader.dataset.pipeline[2].scales
    )
    assert max(scales) == 1.0


def test_the_schedule_is_the_published_one():
    config = load_config(ROOT / "configs" / "scrfd_34g.py")
    assert config.optim_wrapper.optimizer == dict(type="SGD", lr=0.02, momentum=0.9, weight_decay=5e-4)
    assert config.auto_scale_lr.base_batch_size == 16
    warmup, steps = config.param_scheduler
    assert (warmup.end, steps.milestones, steps.gamma) == (3, [440, 544], 0.1)
    ten = load_config(ROOT / "configs" / "scrfd_10g.py")
    assert ten.optim_wrapper.optimizer.lr * ten.param_scheduler[0].start_factor == pytest.approx(1e-5)
    assert ten.auto_scale_lr.base_batch_size == 8


ROBUST = {
    "robust": ["RandomGaussianBlur", "RandomJPEG", "RandomGammaDark", "RandomFaceErasing"],
    "rotation": ["RandomFaceRotation"],
}
"""Ending of a config in robust/ → steps that it adds."""


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "robust").glob("*.py")), ids=lambda p: p.stem)
def test_robust_configs_add_their_augmentations_before_packing(path):
    model, _, kind = path.stem.rpartition("_")
    robust = [step.type for step in load_config(path).train_dataloader.dataset.pipeline]
    base = [step.type for step in load_config(path.parents[1] / f"{model}.py").train_dataloader.dataset.pipeline]
    assert robust == [*base[:-1], *ROBUST[kind], base[-1]]
    assert base[-1] == "PackFaceInputs"
