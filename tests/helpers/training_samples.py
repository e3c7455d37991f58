"""A tiny data set of drawn faces in several formats, and a tiny model that trains on it in a second."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from facedet_mm.plugin.apis.runner import prepare_config

LANDMARKS = ((0.3, 0.4), (0.7, 0.4), (0.5, 0.6), (0.35, 0.8), (0.65, 0.8))


def draw_faces(folder: Path, images: int = 6, landmarks: bool = True) -> list[list[tuple[int, int, int]]]:
    """Draws images with three faces each, with annotations in RetinaFace's, WIDER FACE's and COCO's format.

    Returns:
        For each image the faces, as left, top and side in pixels.
    """
    rng = np.random.default_rng(0)
    faces: list[list[tuple[int, int, int]]] = []
    (folder / "images").mkdir(parents=True)
    wider, retina = "", ""
    coco: dict[str, list] = dict(images=[], annotations=[], categories=[dict(id=1, name="face")])
    for i in range(images):
        image = rng.integers(0, 256, (96, 128, 3), np.uint8)
        faces.append([])
        wider, retina = f"{wider}{i}.png\n3\n", f"{retina}# {i}.png\n"
        coco["images"].append(dict(id=i, file_name=f"{i}.png", width=128, height=96))
        for _ in range(3):
            x, y, side = (int(v) for v in (*rng.integers(0, 60, 2), rng.integers(16, 36)))
            cv2.circle(image, (x + side // 2, y + side // 2), side // 2, (120, 150, 220), -1)
            faces[-1].append((x, y, side))
            points = [(x + side * u, y + side * v) for u, v in LANDMARKS]
            wider += f"{x} {y} {side} {side} 0 0 0 0 0 0\n"
            numbers = " ".join(f"{u:.1f} {v:.1f} 0" if landmarks else "-1 -1 -1" for u, v in points)
            retina += f"{x} {y} {side} {side} {numbers} 0.5\n"
            keypoints = [value for u, v in points for value in (u, v, 2)]
            number = len(coco["annotations"])
            coco["annotations"].append(
                dict(id=number, image_id=i, category_id=1, bbox=[x, y, side, side], area=side * side, iscrowd=0,
                     keypoints=keypoints, num_keypoints=5)
            )  # fmt: skip
        cv2.imwrite(str(folder / "images" / f"{i}.png"), image)
    (folder / "wider.txt").write_text(wider)
    (folder / "retina.txt").write_text(retina)
    (folder / "coco.json").write_text(json.dumps(coco))
    return faces


def learning_config(config_path: Path, data: Path, work_dir: Path, epochs: int):
    """Returns a config that learns the faces of :func:`draw_faces` within some epochs of three steps.

    Args:
        config_path: Config of a model with landmarks.
        data: Folder that :func:`draw_faces` filled.
        work_dir: Folder of the run.
        epochs: Number of epochs; validation and the checkpoint come at the end.
    """
    config = prepare_config(config_path, work_dir)
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        config[name].update(batch_size=2, num_workers=0, persistent_workers=False)
        config[name].dataset.update(data_root=str(data), ann_file="retina.txt", data_prefix=dict(img="images"))
    config.train_dataloader.dataset.pipeline[2].update(size=96, scales=(1.0,))
    for name in ("val_dataloader", "test_dataloader"):
        config[name].dataset.pipeline[1].scale = (128, 128)
    config.model.data_preprocessor.test_size = 128
    config.val_evaluator = config.test_evaluator = dict(type="WiderFaceMetric", ann_file=str(data / "wider.txt"))
    config.visualizer.vis_backends = []
    config.default_hooks.checkpoint.update(save_best=None, interval=epochs)
    config.train_cfg.update(max_epochs=epochs, val_interval=epochs)
    config.param_scheduler = []
    config.optim_wrapper.optimizer = dict(type="Adam", lr=3e-3)
    config.randomness = dict(seed=0)
    return config


def tiny_config(root: Path, data: Path, work_dir: Path, kps: bool = False, **options: object):
    """Returns a config that trains a tiny model on the images of :func:`draw_faces` for one epoch of three steps.

    Args:
        root: Root folder of the checkout.
        data: Folder that :func:`draw_faces` filled.
        work_dir: Folder of the run.
        kps: Whether the model learns landmarks.
        **options: Further entries of the config, with ``__`` instead of dots.
    """
    config = prepare_config(root / "configs" / f"scrfd_0.5g{'_kps' if kps else ''}.py", work_dir)
    model = config.model
    model.backbone.update(stem_planes=(8, 8), stage_planes=(8, 8, 16, 16), stage_blocks=(1, 1, 1, 1))
    model.neck.update(in_channels=[8, 8, 16, 16], out_channels=8)
    model.bbox_head.update(in_channels=8, feat_channels=8)
    if not kps:
        model.bbox_head.norm_cfg.num_groups = 4
    ann_file = "retina.txt" if kps else "wider.txt"
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        config[name].update(batch_size=2, num_workers=0, persistent_workers=False)
        config[name].dataset.update(data_root=str(data), ann_file=ann_file, data_prefix=dict(img="images"))
    config.train_dataloader.dataset.pipeline[2].size = 64
    for name in ("val_dataloader", "test_dataloader"):
        config[name].dataset.pipeline[1].scale = (128, 128)
    model.data_preprocessor.test_size = 128
    config.val_evaluator = dict(type="WiderFaceMetric", ann_file=str(data / "wider.txt"))
    config.test_evaluator = config.val_evaluator
    config.train_cfg.update(max_epochs=1, val_interval=100)
    config.visualizer.vis_backends = []
    config.default_hooks.checkpoint.save_best = None
    config.default_hooks.logger.interval = 1
    config.randomness = dict(seed=3)
    config.optim_wrapper.optimizer.lr = 0.05
    config.merge_from_dict({name.replace("__", "."): value for name, value in options.items()})
    return config
