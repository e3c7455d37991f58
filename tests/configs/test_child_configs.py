"""The child configs that configs/README.md shows: short, and every entry that they are about changes."""

from __future__ import annotations

import re
import shutil
import zipfile

import pytest

pytest.importorskip("mmdet")

from conftest import ROOT
from mmdet.registry import DATASETS
from mmengine.config import Config
from mmengine.registry import init_default_scope
from own_data import write_coco, write_yolo

from facedet_mm.errors import ModelError
from facedet_mm.plugin.apis.build import load_config
from facedet_mm.plugin.apis.overrides import (
    move_data,
    scale_learning_rate,
    set_input_size,
    set_test_size,
    use_close_ups,
    use_tta,
)

CONFIGS = ROOT / "configs"
TITLES = ("Your own data", "Another batch size", "Another input size")


def child_config(title, tmp_path, base="scrfd_2.5g.py"):
    """Returns the config of a section of the README, on another base if wanted, read with mmengine's own function."""
    section = (CONFIGS / "README.md").read_text().partition(f"## {title}\n")[2]
    code = re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]
    assert len([line for line in code.splitlines() if line]) <= 10
    assert "'./scrfd_2.5g.py'" in code
    path = tmp_path / "child.py"
    path.write_text(code.replace("'./scrfd_2.5g.py'", repr(str(CONFIGS / base))))
    return Config.fromfile(path)


def changed_entries(config, base):
    """Returns the dotted names of all entries that differ, without the named steps of the pipelines."""

    def walk(old, new, name):
        if isinstance(old, dict) and isinstance(new, dict):
            for key in old.keys() | new.keys():
                yield from walk(old.get(key), new.get(key), f"{name}.{key}" if name else key)
        elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
            for a, b in zip(old, new, strict=True):
                yield from walk(a, b, f"{name}.{b['type']}" if isinstance(b, dict) and "type" in b else name)
        elif old != new:
            yield name

    used = ("_dataloader", "_evaluator", "_hooks", "_cfg", "model", "optim_wrapper", "param_scheduler", "tta_pipeline")
    names = walk(load_config(CONFIGS / base)._cfg_dict.to_dict(), config._cfg_dict.to_dict(), "")
    return {name for name in names if name.partition(".")[0].endswith(used)}


LOADERS = ("train_dataloader", "val_dataloader", "test_dataloader")


@pytest.mark.parametrize("base", ["scrfd_2.5g.py", "robust/scrfd_0.5g_kps_robust.py"])
def test_the_data_change_everywhere(base, tmp_path):
    config = child_config("Your own data", tmp_path, base)
    assert changed_entries(config, base) == {
        *(f"{loader}.dataset.{key}" for loader in LOADERS for key in ("data_root", "ann_file", "data_prefix.img")),
        *(f"{split}_evaluator.{key}" for split in ("val", "test") for key in ("ann_file", "ground_truth")),
        "default_hooks.checkpoint.save_best",
    }
    for loader, name in zip(LOADERS, ("train.txt", "val.txt", "val.txt"), strict=True):
        dataset = config[loader].dataset
        assert (dataset.data_root, dataset.ann_file, dataset.data_prefix.img) == ("data/mine/", name, "images")
    for evaluator in (config.val_evaluator, config.test_evaluator):
        assert evaluator == dict(type="WiderFaceMetric", ground_truth=None, ann_file="data/mine/val.txt")


def test_the_batch_size_changes(tmp_path):
    config = child_config("Another batch size", tmp_path)
    assert changed_entries(config, "scrfd_2.5g.py") == {"train_dataloader.batch_size", "train_dataloader.num_workers"}
    assert (config.train_dataloader.batch_size, config.train_dataloader.num_workers) == (16, 8)


SIZE_ENTRIES = {
    "model.data_preprocessor.test_size",
    "train_dataloader.dataset.pipeline.RandomSquareCrop.size",
    "val_dataloader.dataset.pipeline.KeepRatioResize.scale",
    "test_dataloader.dataset.pipeline.KeepRatioResize.scale",
}


@pytest.mark.parametrize("base", ["scrfd_2.5g.py", "scrfd_0.5g_kps.py", "robust/scrfd_10g_robust.py"])
def test_the_input_size_changes_everywhere_and_nothing_else_does(base, tmp_path):
    config = child_config("Another input size", tmp_path, base)
    assert changed_entries(config, base) == SIZE_ENTRIES
    steps = {
        step.type: step.get("size", step.get("scale")) for loader in LOADERS for step in config[loader].dataset.pipeline
    }
    assert (steps["RandomSquareCrop"], tuple(steps["KeepRatioResize"])) == (320, (320, 320))
    assert config.model.data_preprocessor.test_size == 320


def test_the_size_option_of_the_training_tool_does_the_same(tmp_path):
    config = load_config(CONFIGS / "scrfd_2.5g.py")
    set_input_size(config, "320")
    assert changed_entries(config, "scrfd_2.5g.py") == SIZE_ENTRIES
    expected = child_config("Another input size", tmp_path)
    for loader in LOADERS:
        assert config[loader] == expected[loader]
    assert config.model == expected.model


def test_the_views_of_a_child_config_are_merged_and_get_a_second_look(tmp_path):
    config = child_config("Other views for `tools/test.py --tta`", tmp_path)
    use_tta(config)
    assert use_close_ups(config)
    assert (config.model.type, config.model.module.data_preprocessor.test_size) == ("FaceTTAModel", None)
    resizing, _, (pack,) = config.test_dataloader.dataset.pipeline[-1].transforms
    assert [step.get("scale") for step in resizing] == [(640, 640), (1280, 1280), None]
    assert resizing[-1].type == "CloseUpResize"
    assert {"flip", "scale", "close_up"} <= set(pack.meta_keys)
    assert len(config.tta_pipeline[-1].transforms[0]) == 2


@pytest.mark.parametrize("size", ["original", "100", "0", "-32", "huge"])
def test_a_size_that_training_cannot_use_is_refused(size):
    with pytest.raises(ModelError, match="multiple of 32"):
        set_input_size(load_config(CONFIGS / "scrfd_2.5g.py"), size)


def test_testing_at_the_original_size_leaves_training_alone():
    config = load_config(CONFIGS / "scrfd_2.5g.py")
    set_test_size(config, "original")
    assert changed_entries(config, "scrfd_2.5g.py") == {
        "model.data_preprocessor.test_size",
        "test_dataloader.dataset.pipeline.KeepRatioResize.scale",
        "test_dataloader.dataset.pipeline.KeepRatioResize.scale_factor",
    }


def test_data_of_a_child_config_move_too(tmp_path):
    config = child_config("Your own data", tmp_path)
    move_data(config, "/elsewhere")
    assert {config[loader].dataset.data_root for loader in LOADERS} == {"/elsewhere/"}
    assert config.val_evaluator.ann_file == config.test_evaluator.ann_file == "/elsewhere/val.txt"
    assert "data/mine" not in config.pretty_text


def test_only_paths_below_the_old_folder_move():
    config = load_config(CONFIGS / "scrfd_2.5g.py")
    config.train_dataloader.dataset.ann_file = "data/wider_face_small/train.txt"
    move_data(config, "/elsewhere/")
    assert config.train_dataloader.dataset.ann_file == "data/wider_face_small/train.txt"
    assert config.val_evaluator.ground_truth == "/elsewhere/ground_truth"


def test_no_config_indexes_a_pipeline_and_no_variable_does_nothing():
    steps = {"load_faces", "crop_faces", "augmentations", "pack_faces", "load_image", "resize_image", "pack_image"}
    known = {
        *steps, "load_truth",
        "train_pipeline", "test_pipeline", "robust_augmentations", "rotation_augmentations",
        "custom_imports", "custom_hooks",
        "default_scope", "default_hooks", "env_cfg", "visualizer", "log_processor", "log_level", "load_from", "resume",
        "model", "train_cfg", "val_cfg", "test_cfg", "param_scheduler", "optim_wrapper", "auto_scale_lr", "tta_model",
        "tta_pipeline", "data", "epochs", *LOADERS, "val_evaluator", "test_evaluator",
    }  # fmt: skip
    for path in CONFIGS.rglob("*.py"):
        assert not re.search(r"pipeline\[|augmentations\[", path.read_text()), path
        if not {"_base_", "deploy"} & set(path.parts):
            assert set(load_config(path)) <= known, path


def test_the_learning_rate_is_scaled_on_request_only():
    config = load_config(CONFIGS / "scrfd_34g.py")
    assert config.auto_scale_lr.enable is False
    scale_learning_rate(config)
    assert config.auto_scale_lr == dict(enable=True, base_batch_size=16)


def documented_child(page, marker, tmp_path):
    """Returns the config of ``custom_dataset.py`` with a block that a page shows."""
    blocks = re.findall(r"```python\n(.*?)```", (CONFIGS.parent / "docs" / page).read_text(), re.DOTALL)
    (code,) = [block for block in blocks if marker in block]
    path = tmp_path / "child.py"
    path.write_text(f"_base_ = {str(CONFIGS / 'custom_dataset.py')!r}\n{code}")
    return Config.fromfile(path)


def test_the_documented_config_joins_sets_of_two_formats(tmp_path):
    config = documented_child("own_data.md", "ConcatDataset", tmp_path)
    joined = config.train_dataloader.dataset
    write_coco(tmp_path / "data/mine")
    (tmp_path / "data/mine/faces.json").rename(tmp_path / "data/mine/train.json")
    write_yolo(tmp_path / "data/yolo")
    places = {"data/mine/": tmp_path / "data/mine", "data/yolo/": tmp_path / "data/yolo"}
    for part in joined.datasets:
        part.data_root = str(places[part.data_root])
    init_default_scope("mmdet")
    dataset = DATASETS.build(joined)
    assert len(dataset) == 3
    assert all(dataset[i]["inputs"].shape == (3, 640, 640) for i in (0, 2))


def test_the_documented_config_reads_images_from_an_archive(tmp_path, monkeypatch):
    config = documented_child("datasets.md", "backend='zip'", tmp_path)
    path = write_coco(tmp_path / "data/mine")
    path.rename(path.with_name("train.json"))
    with zipfile.ZipFile(path.with_name("images.zip"), "w") as archive:
        for name in ("a.png", "b.jpg"):
            archive.write(path.parent / "images" / name, f"images/{name}")
    shutil.rmtree(path.parent / "images")
    monkeypatch.chdir(tmp_path)
    init_default_scope("mmdet")
    dataset = DATASETS.build(config.train_dataloader.dataset)
    assert len(dataset) == 1, "the image without faces is filtered"
    assert dataset[0]["inputs"].shape == (3, 640, 640)
