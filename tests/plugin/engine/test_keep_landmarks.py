"""A model with landmarks that is fine-tuned on faces without them keeps those that it has learned."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmdet")

from mmdet.structures import DetDataSample  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402
from training_samples import draw_faces, tiny_config  # noqa: E402

from facedet_mm.errors import TrainingError  # noqa: E402
from facedet_mm.plugin.apis.build import load_config  # noqa: E402
from facedet_mm.plugin.apis.checkpoint import load_checkpoint  # noqa: E402
from facedet_mm.plugin.apis.runner import build_runner, choose_checkpoint  # noqa: E402
from facedet_mm.plugin.engine import KeepLandmarksHook  # noqa: E402


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    draw_faces(folder)
    return folder


@pytest.fixture(scope="module")
def learned(root, images, tmp_path_factory):
    """Weights of a model that has learned landmarks, badly."""
    folder = tmp_path_factory.mktemp("learned")
    build_runner(tiny_config(root, images, folder, kps=True), training=True).train()
    return folder / "epoch_1.pth"


def without_landmarks(root, images, folder, learned, **options):
    config = tiny_config(root, images, folder, kps=True, load_from=str(learned), **options)
    config.train_dataloader.dataset.ann_file = "wider.txt"
    config.custom_hooks.append(
        dict(type="KeepLandmarksHook", score_thr=0.0, iou_thr=0.0)
    )  # the model has learned little
    return config


def hook_of(runner):
    (hook,) = [hook for hook in runner.hooks if isinstance(hook, KeepLandmarksHook)]
    return hook


def test_annotations_without_landmarks_train_on_those_of_the_loaded_model(root, images, learned, tmp_path):
    runner = build_runner(without_landmarks(root, images, tmp_path, learned), training=True)
    runner.train()
    losses = runner.message_hub.get_scalar("train/loss_landmarks").data[0]
    assert len(losses) == 3
    assert (losses > 0).all()
    before, saved = (load_checkpoint(path) for path in (learned, tmp_path / "epoch_1.pth"))
    teacher = hook_of(runner)._teacher.state_dict()
    for name, value in before["state_dict"].items():
        assert torch.equal(teacher[name], value), name
        assert torch.equal(saved["landmark_teacher"][name], value), name
    assert not torch.equal(
        saved["state_dict"]["bbox_head.reg_convs.0.weight"], before["state_dict"]["bbox_head.reg_convs.0.weight"]
    )


def test_a_resumed_run_equals_one_that_was_not_interrupted(root, images, learned, tmp_path):
    options = dict(train_cfg__max_epochs=2)
    build_runner(without_landmarks(root, images, tmp_path / "whole", learned, **options), training=True).train()
    config = without_landmarks(root, images, tmp_path / "resumed", learned, **options)
    choose_checkpoint(config, str(tmp_path / "whole" / "epoch_1.pth"))
    build_runner(config, training=True).train()
    whole, resumed = (load_checkpoint(tmp_path / name / "epoch_2.pth")["state_dict"] for name in ("whole", "resumed"))
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())


def test_the_hook_is_added_where_annotations_have_no_landmarks(root, images, learned, tmp_path):
    config = without_landmarks(root, images, tmp_path, learned)
    config.custom_hooks.pop()
    assert hook_of(build_runner(config, training=True)).score_thr == 0.1
    config.train_dataloader.dataset.ann_file = "retina.txt"
    config.custom_hooks = [hook for hook in config.custom_hooks if hook["type"] != "KeepLandmarksHook"]
    assert not any(isinstance(hook, KeepLandmarksHook) for hook in build_runner(config, training=True).hooks)


def test_without_learned_landmarks_the_run_does_not_start(root, images, tmp_path):
    build_runner(tiny_config(root, images, tmp_path / "boxes"), training=True).train()
    norm = dict(type="GN", num_groups=4)
    options = dict(
        model__bbox_head__norm_cfg=norm, model__bbox_head__share_levels=True, model__bbox_head__use_scale=True
    )
    config = without_landmarks(root, images, tmp_path / "a", tmp_path / "boxes" / "epoch_1.pth", **options)
    with pytest.raises(TrainingError, match="does not start from weights with landmarks"):
        build_runner(config, training=True).train()
    config = tiny_config(root, images, tmp_path / "b", kps=True)
    config.train_dataloader.dataset.ann_file = "wider.txt"
    assert build_runner(config, training=True).model.bbox_head.landmark_convs is None, "nothing to keep: boxes only"


def test_faces_take_the_landmarks_of_the_detection_on_them_and_keep_their_own():
    seen = InstanceData(
        bboxes=torch.tensor([[10.0, 10, 30, 30], [50, 50, 70, 70], [12, 10, 30, 30]]),
        keypoints=torch.arange(30.0).reshape(3, 5, 2),
    )

    class Teacher:
        test_cfg = SimpleNamespace(score_thr=0.02)

        def data_preprocessor(self, data, training):
            assert training is False
            return dict(inputs=torch.stack(data["inputs"]))

        def __call__(self, inputs, mode):  # noqa: ARG002
            return ()

        def predict_by_feat(self, batch_img_metas, cfg):
            assert (batch_img_metas, cfg.score_thr) == ([dict(img_shape=(64, 96))], 0.1)
            return [seen]

    hook = KeepLandmarksHook()
    hook._teacher = Teacher()
    hook._teacher.bbox_head = hook._teacher
    boxes = torch.tensor([[12.0, 10, 30, 30], [50, 50, 70, 70], [80, 10, 90, 20]])
    own = torch.full((5, 2), 60.0)
    faces = InstanceData(bboxes=boxes, keypoints=torch.zeros(3, 5, 2), keypoints_visible=torch.zeros(3, 5))
    faces.keypoints[1], faces.keypoints_visible[1, 0] = own, 1
    batch = dict(inputs=[torch.zeros(3, 64, 96)], data_samples=[DetDataSample(gt_instances=faces)])
    hook.before_train_iter(None, 0, batch)
    found = batch["data_samples"][0].gt_instances
    assert torch.equal(found.keypoints[0], seen.keypoints[2]), "the detection that overlaps most"
    assert torch.equal(found.keypoints[1], own)
    np.testing.assert_array_equal(found.keypoints_visible, [[1] * 5, [1, 0, 0, 0, 0], [0] * 5])


def test_the_config_in_the_documentation_trains(root, images, learned, tmp_path):
    text = (root / "docs" / "finetuning.md").read_text().split("```python\n")[1].split("```")[0]
    (tmp_path / "c.py").write_text(text.replace("./scrfd_0.5g_kps.py", str(root / "configs" / "scrfd_0.5g_kps.py")))
    written = load_config(tmp_path / "c.py")
    config = without_landmarks(root, images, tmp_path / "run", learned)
    assert written.load_from
    config.optim_wrapper, config.param_scheduler = written.optim_wrapper, written.param_scheduler
    runner = build_runner(config, training=True)
    runner.train()
    assert runner.message_hub.get_scalar("train/lr").data[0].tolist() == [1e-4] * 3
