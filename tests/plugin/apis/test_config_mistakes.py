"""Mistakes in configs are reported when the model is built, with the wrong entry and the right value."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmdet")

from conftest import ROOT  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402
from own_data import coco  # noqa: E402

from facedet_mm.errors import ModelError, TrainingError  # noqa: E402
from facedet_mm.plugin.apis import compatibility  # noqa: E402
from facedet_mm.plugin.apis.build import build_model, load_config  # noqa: E402
from facedet_mm.plugin.apis.compatibility import check_landmarks  # noqa: E402

WIDER = "0--A/a.jpg\n1\n10 10 20 20 0 0 0 0 0 0\n"
WITHOUT_POINTS = "# 0--A/a.jpg\n10 10 20 20 " + "-1 -1 -1 " * 5 + "0.5\n"
WITH_POINTS = "# 0--A/a.jpg\n10 10 20 20 " + "12 13 0 " * 5 + "0.5\n"

MISTAKES: list[tuple[str, dict[str, Any], str, str]] = [
    (
        "scrfd_2.5g",
        {"bbox_head.norm_cfg.num_groups": 24},
        "num_groups=24 does not fit feat_channels=64",
        "set norm_cfg.num_groups to 1, 2, 4, 8, 16, 32 or 64",
    ),
    (
        "scrfd_0.5g",  # its depthwise convolutions are normalized at the width of the neck, 16
        {"bbox_head.norm_cfg.num_groups": 32},
        "num_groups=32 does not fit in_channels=16",
        "set norm_cfg.num_groups to 1, 2, 4, 8 or 16",
    ),
    (
        "scrfd_2.5g",
        {"backbone.norm_cfg": dict(type="GN", num_groups=16)},
        "num_groups=16 does not fit half_of_base_channels=12 and stage_planes=",
        "set norm_cfg.num_groups to 1, 2 or 4",
    ),
    ("scrfd_2.5g", {"bbox_head.num_classes": 80}, "not 80", "set bbox_head.num_classes=1"),
    ("scrfd_2.5g", {"bbox_head.stacked_convs": 0}, "stacked_convs", "at least 1"),
    (
        "scrfd_2.5g",
        {"bbox_head.anchor_generator.strides": [8, 16, 32, 64]},
        "4 strides [8, 16, 32, 64] and 3 base_sizes [16, 64, 256]",
        "one base size",
    ),
    ("scrfd_2.5g", {"bbox_head.anchor_generator.strides": [32, 16, 8]}, "[32, 16, 8]", "ascend like [8, 16, 32]"),
    (
        "scrfd_2.5g",
        {"bbox_head.anchor_generator.strides": [4, 8, 16]},
        "features at strides [8, 16, 32], but the head has anchors at [4, 8, 16]",
        "set bbox_head.anchor_generator.strides=[8, 16, 32]",
    ),
    (
        "scrfd_2.5g",
        {"neck.start_level": 0},
        "uses 4 stages of the backbone, but neck.num_outs=3",
        "set neck.num_outs=4",
    ),
    ("scrfd_2.5g", {"neck.num_outs": 5}, "neck.num_outs=5", "one entry per level"),
    (
        "scrfd_2.5g",
        {"backbone.stage_planes": (24, 48, 64, 80)},
        "neck.in_channels=[24, 48, 48, 80]",
        "set neck.in_channels=[24, 48, 64, 80]",
    ),
    (
        "scrfd_34g",  # a bottleneck gives four times its planes
        {"neck.in_channels": [56, 56, 144, 184]},
        "neck.in_channels=[56, 56, 144, 184]",
        "set neck.in_channels=[224, 224, 576, 736]",
    ),
    ("scrfd_2.5g", {"neck.out_channels": 32}, "bbox_head.in_channels=24", "set bbox_head.in_channels=32"),
    ("scrfd_2.5g", {"backbone.stage_blocks": (3, 5, 3)}, "stage_blocks", "4 positive numbers, one per stage"),
    ("scrfd_2.5g", {"backbone.stage_planes": (24, 48, 0, 80)}, "stage_planes", "4 positive numbers"),
    ("scrfd_2.5g", {"backbone.block": "Basic"}, "'Basic'", "one of ['BasicBlock', 'Bottleneck']"),
    ("scrfd_0.5g", {"backbone.stem_planes": (16,)}, "stem_planes", "needs 2 numbers"),
    ("scrfd_0.5g", {"bbox_head.use_kps": True}, "takes no use_kps", "with_landmarks"),
]


def changed(name: str, changes: dict[str, Any]) -> Any:
    config = load_config(ROOT / "configs" / f"{name}.py")
    config.merge_from_dict({f"model.{key}": value for key, value in changes.items()})
    return config


@pytest.mark.parametrize(("name", "changes", "culprit", "remedy"), MISTAKES, ids=lambda v: str(v)[:40])
def test_a_mistake_is_an_error_that_names_the_entry_and_the_remedy(
    name: str, changes: dict[str, Any], culprit: str, remedy: str
) -> None:
    with pytest.raises(ModelError) as caught:
        build_model(changed(name, changes))
    message = str(caught.value)
    assert message.startswith(str(ROOT / "configs" / f"{name}.py"))
    assert culprit in message
    assert remedy in message


def test_the_remedies_are_right() -> None:
    build_model(changed("scrfd_2.5g", {"bbox_head.norm_cfg.num_groups": 32}))
    build_model(
        changed("scrfd_2.5g", {"backbone.stage_planes": (24, 48, 64, 80), "neck.in_channels": [24, 48, 64, 80]})
    )
    changes = {"neck.start_level": 0, "neck.num_outs": 4, "bbox_head.anchor_generator.strides": [4, 8, 16, 32]}
    changes["bbox_head.anchor_generator.base_sizes"] = [8, 16, 64, 256]
    assert len(build_model(changed("scrfd_2.5g", changes)).bbox_head.scales) == 4
    more = {
        "neck.num_outs": 4,
        "bbox_head.anchor_generator.strides": [8, 16, 32, 64],
        "bbox_head.anchor_generator.base_sizes": [16, 64, 256, 512],
    }
    features = build_model(changed("scrfd_2.5g", more)).extract_feat(torch.zeros(1, 3, 128, 128))
    assert [128 // feature.shape[-1] for feature in features] == [8, 16, 32, 64]


def test_building_leaves_the_config_as_it_was() -> None:
    config = load_config(ROOT / "configs" / "scrfd_0.5g.py")
    before = config.model.to_dict()
    build_model(config)
    assert config.model.to_dict() == before


class TestLandmarks:
    @pytest.fixture
    def config(self, tmp_path: Path) -> Any:
        config = load_config(ROOT / "configs" / "scrfd_0.5g_kps.py")
        config.train_dataloader.dataset.update(data_root=str(tmp_path), ann_file="train.txt")
        return config

    @pytest.mark.parametrize("text", [WIDER, WITHOUT_POINTS], ids=["WIDER", "RetinaFace, all -1"])
    def test_annotations_without_any_turn_them_off(
        self, config: Any, tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        lines: list[str] = []
        monkeypatch.setattr(compatibility, "print_log", lambda line, _: lines.append(line))
        (tmp_path / "train.txt").write_text(text)
        assert check_landmarks(config)
        assert build_model(config).bbox_head.landmark_convs is None
        (line,) = lines
        assert line.startswith(f"{tmp_path}/train.txt has no landmarks: the model learns boxes only")
        assert not check_landmarks(config)

    def test_annotations_with_some_are_taken(self, config: Any, tmp_path: Path) -> None:
        (tmp_path / "train.txt").write_text(WITH_POINTS + WITHOUT_POINTS.replace("a.jpg", "b.jpg"))
        check_landmarks(config)

    def test_are_not_asked_of_a_model_without(self, tmp_path: Path) -> None:
        config = load_config(ROOT / "configs" / "scrfd_0.5g.py")
        config.train_dataloader.dataset.update(data_root=str(tmp_path), ann_file="gone.txt")
        check_landmarks(config)

    def test_are_found_in_one_of_several_joined_data_sets(self, config: Any, tmp_path: Path) -> None:
        (tmp_path / "train.txt").write_text(WIDER)
        first = config.train_dataloader.dataset.copy()
        config.train_dataloader.dataset = dict(type="ConcatDataset", datasets=[first, dict(first, ann_file="b.txt")])
        (tmp_path / "b.txt").write_text(WITH_POINTS)
        assert not check_landmarks(config)
        (tmp_path / "b.txt").write_text(WIDER)
        assert check_landmarks(config)

    def test_are_found_in_other_formats(self, config: Any, tmp_path: Path) -> None:
        (tmp_path / "faces.json").write_text(json.dumps(coco()))
        config.train_dataloader.dataset.update(type="FaceDataset", ann_file="faces.json")
        assert not check_landmarks(config)
        config.train_dataloader.dataset.landmarks = False
        assert check_landmarks(config)

    def test_must_be_loaded_by_the_pipeline(self, config: Any, tmp_path: Path) -> None:
        (tmp_path / "train.txt").write_text(WITH_POINTS)
        config.train_dataloader.dataset.pipeline[1].with_keypoints = False
        with pytest.raises(TrainingError, match=r"with_keypoints=False.*set it to True"):
            check_landmarks(config)

    def test_must_have_a_loss(self, config: Any) -> None:
        config.model.bbox_head.loss_landmarks = None
        with pytest.raises(ModelError, match=r"loss_landmarks is not set.*SmoothL1Loss"):
            check_landmarks(config)

    def test_that_a_batch_lacks_are_told_by_the_head(self) -> None:
        model = build_model(ROOT / "configs" / "scrfd_0.5g_kps.py")
        outputs = model.bbox_head(model.extract_feat(torch.zeros(1, 3, 64, 64)))
        faces = InstanceData(bboxes=torch.tensor([[8.0, 8, 40, 40]]), labels=torch.zeros(1, dtype=torch.long))
        with pytest.raises(TrainingError, match=r"the annotations have none.*with_landmarks=False"):
            model.bbox_head.loss_by_feat(*outputs, [faces], [{}])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["model.bbox_head.norm_cfg.type=GN", "model.bbox_head.norm_cfg.num_groups=7"], "set norm_cfg.num_groups to"),
        (["load_from=gone.pth"], r"gone\.pth"),
    ],
    ids=["groups", "weights"],
)
def test_the_training_tool_prints_one_line_and_no_traceback(tmp_path: Path, options: list[str], message: str) -> None:
    (tmp_path / "train.txt").write_text(WIDER)
    dataset = [f"train_dataloader.dataset.data_root={tmp_path}", "train_dataloader.dataset.ann_file=train.txt"]
    command = [sys.executable, ROOT / "tools" / "train.py", ROOT / "configs" / "scrfd_0.5g_kps.py"]
    command += ["--work-dir", tmp_path / "run", "--cfg-options", *dataset, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert re.match(rf"train: error: .*{message}", done.stderr.splitlines()[-1])
    assert not (tmp_path / "run").exists()
