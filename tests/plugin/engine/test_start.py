"""Runs that would start from noise, learn nothing or fail in the tenth epoch stop before their first step."""

from __future__ import annotations

import re

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmdet")

from mmengine.runner import Runner  # noqa: E402
from training_samples import draw_faces, tiny_config  # noqa: E402

from facedet_mm.errors import AnnotationError, ModelError, TrainingError  # noqa: E402
from facedet_mm.plugin.apis.build import build_model  # noqa: E402
from facedet_mm.plugin.apis.checkpoint import load_checkpoint  # noqa: E402
from facedet_mm.plugin.apis.runner import build_runner, choose_checkpoint, evaluate_checkpoint  # noqa: E402
from facedet_mm.plugin.engine.fit import check_complete  # noqa: E402
from facedet_mm.plugin.engine.loading import read_for_runner  # noqa: E402
from facedet_mm.plugin.engine.official_layout import rename  # noqa: E402
from facedet_mm.plugin.engine.storage import latest_checkpoint  # noqa: E402
from facedet_mm.zoo import config_path  # noqa: E402


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    draw_faces(folder)
    text = (folder / "wider.txt").read_text().splitlines(keepends=True)
    (folder / "half.txt").write_text("".join(text[:15]))
    return folder


@pytest.fixture(scope="module")
def trained(root, images, tmp_path_factory):
    """The folder of a finished run of one epoch."""
    folder = tmp_path_factory.mktemp("trained")
    build_runner(tiny_config(root, images, folder), training=True).train()
    return folder


def by_our_tool(config):
    build_runner(config, training=True).train()


def by_plain_mmengine(config):
    Runner.from_cfg(config).train()


TOOLS = pytest.mark.parametrize("train", [by_our_tool, by_plain_mmengine], ids=lambda tool: tool.__name__)
SEPARABLE = {"depthwise_conv.conv": "0", "depthwise_conv.bn": "1", "pointwise_conv.conv": "3", "pointwise_conv.bn": "4"}
BRANCHES = {"towers": "cls_stride_convs", "cls_convs": "stride_cls", "reg_convs": "stride_reg"}


def authors_name(key):
    """Returns what the authors' code calls a tensor of a MobileNet model without landmarks."""
    for ours, theirs in BRANCHES.items():
        key = re.sub(rf"bbox_head\.{ours}\.(\d)", rf"bbox_head.{theirs}.\1", key)
    if key.startswith("backbone."):
        for ours, theirs in SEPARABLE.items():
            key = key.replace(ours, theirs)
        key = re.sub(r"stages\.(\d)", lambda m: f"layer{int(m[1]) + 1}", key)
        key = key.replace("stem.0.conv", "stem.0.0").replace("stem.0.bn", "stem.0.1")
    return key


class TestWeights:
    @pytest.fixture
    def official(self, root, images, tmp_path):
        """A file in the authors' layout, and its weights under our names."""
        state = build_model(tiny_config(root, images, tmp_path)).state_dict()
        state = {key: torch.rand_like(v) if v.is_floating_point() else v for key, v in state.items()}
        renamed = {authors_name(key): value for key, value in state.items()}
        assert [rename(key) for key in renamed] == list(state)
        renamed["bbox_head.integral.project"] = torch.ones(9)
        torch.save({"meta": {}, "state_dict": renamed}, tmp_path / "a.pth")
        return tmp_path / "a.pth", state

    @TOOLS
    def test_of_the_authors_are_loaded_without_conversion(self, train, official, root, images, tmp_path):
        path, state = official
        train(tiny_config(root, images, tmp_path / "run", load_from=str(path), optim_wrapper__optimizer__lr=0.0))
        loaded = load_checkpoint(tmp_path / "run" / "epoch_1.pth")["state_dict"]
        changed = {key.rpartition(".")[2] for key, value in state.items() if not torch.equal(loaded[key], value)}
        assert changed <= {"running_mean", "running_var", "num_batches_tracked"}

    def test_of_a_published_file_fit_its_config_completely(self, data):
        file = data / "weights" / "scrfd_500m_bnkps.pth"
        check_complete(build_model(config_path("scrfd_0.5g_kps")), read_for_runner(file, "cpu"), file.name)

    @TOOLS
    def test_of_another_size_stop_the_run_and_name_the_converter(self, train, root, images, tmp_path):
        torch.save({"state_dict": build_model(config_path("scrfd_2.5g")).state_dict()}, tmp_path / "other.pth")
        config = tiny_config(root, images, tmp_path / "run", load_from=str(tmp_path / "other.pth"))
        with pytest.raises(
            ModelError, match=r"other\.pth: \d+ of the \d+ tensors of the backbone .*convert_insightface"
        ):
            train(config)
        assert latest_checkpoint(tmp_path / "run") is None

    @pytest.mark.parametrize("part", ["model", "model.backbone"])
    def test_of_another_size_in_init_cfg_stop_the_run(self, part, root, images, tmp_path):
        torch.save({"state_dict": build_model(config_path("scrfd_2.5g")).state_dict()}, tmp_path / "other.pth")
        config = tiny_config(root, images, tmp_path / "run")
        init = dict(type="Pretrained", checkpoint=str(tmp_path / "other.pth"))
        config.merge_from_dict({f"{part}.init_cfg": {**init, **({"prefix": "backbone."} if "back" in part else {})}})
        with pytest.raises(ModelError, match=r"other\.pth: .*random weights"):
            by_plain_mmengine(config)

    def test_of_a_model_without_landmarks_start_one_with_them(self, root, images, trained, tmp_path):
        config = tiny_config(root, images, tmp_path, kps=True, load_from=str(trained / "epoch_1.pth"))
        by_our_tool(config)
        assert "of bbox_head start from random values" in next(tmp_path.glob("*/*.log")).read_text()

    def test_of_a_backbone_alone_are_loaded_by_init_cfg(self, root, images, trained, tmp_path):
        config = tiny_config(root, images, tmp_path)
        config.model.backbone.init_cfg = dict(
            type="Pretrained", checkpoint=str(trained / "epoch_1.pth"), prefix="backbone."
        )
        by_our_tool(config)


class TestResuming:
    @TOOLS
    @pytest.mark.parametrize(
        ("part", "message"),
        [("optimizer", "no optimizer state"), ("message_hub", "no log"), ("meta", "no epoch and iteration")],
    )
    def test_from_a_file_without_state_is_refused(self, train, part, message, root, images, trained, tmp_path):
        checkpoint = load_checkpoint(trained / "epoch_1.pth")
        del checkpoint[part]
        torch.save(checkpoint, tmp_path / "w.pth")
        config = tiny_config(root, images, tmp_path / "run", load_from=str(tmp_path / "w.pth"), resume=True)
        with pytest.raises(ModelError, match=rf"w\.pth: has {message}.*load_from=.*without --resume"):
            train(config)

    @TOOLS
    def test_from_another_model_is_refused(self, train, root, images, trained, tmp_path):
        config = tiny_config(
            root, images, tmp_path / "run", kps=True, load_from=str(trained / "epoch_1.pth"), resume=True
        )
        with pytest.raises(ModelError, match=r"epoch_1\.pth: .*(weights do not fit the config|of other parameters)"):
            train(config)

    @TOOLS
    def test_with_another_optimizer_is_refused(self, train, root, images, trained, tmp_path):
        config = tiny_config(root, images, tmp_path / "run", load_from=str(trained / "epoch_1.pth"), resume=True)
        config.optim_wrapper.optimizer = dict(type="AdamW", lr=0.001)
        with pytest.raises(ModelError, match=r"its optimizer is another one \(AdamW needs"):
            train(config)

    def test_a_run_that_counts_iterations_goes_on_from_its_latest_file(self, tmp_path):
        for number in (9, 10):
            torch.save({}, tmp_path / f"iter_{number}.pth")
        assert latest_checkpoint(tmp_path).name == "iter_10.pth"

    def test_resume_in_the_config_uses_the_latest_file_and_not_an_empty_note(self, root, images, trained, tmp_path):
        (tmp_path / "last_checkpoint").write_text("")
        (tmp_path / "epoch_1.pth").write_bytes((trained / "epoch_1.pth").read_bytes())
        by_our_tool(tiny_config(root, images, tmp_path, resume=True, train_cfg__max_epochs=2))
        assert load_checkpoint(tmp_path / "epoch_2.pth")["meta"]["epoch"] == 2


@pytest.mark.parametrize("kind", ["plain", "joined", "repeated", "iterations", "iterations of a finite sampler"])
def test_a_resumed_run_ends_with_the_weights_of_one_that_was_not_interrupted(kind, root, images, tmp_path):
    def config(folder):
        made = tiny_config(root, images, tmp_path / folder, train_cfg__max_epochs=3)
        dataset = made.train_dataloader.dataset
        if kind == "joined":
            made.train_dataloader.dataset = dict(type="ConcatDataset", datasets=[dataset, dict(dataset)])
        if kind == "repeated":
            made.train_dataloader.dataset = dict(type="RepeatDataset", dataset=dataset, times=2)
        if kind.startswith("iterations"):
            made.train_cfg = dict(type="IterBasedTrainLoop", max_iters=9, val_interval=1000)
            made.param_scheduler = []
            made.default_hooks.checkpoint.update(by_epoch=False, interval=4)
            made.log_processor.by_epoch = False
            if kind == "iterations":
                made.train_dataloader.sampler = dict(type="InfiniteSampler", shuffle=True)
        return made

    by_our_tool(config("whole"))
    interrupted = config("parts")
    interrupted.train_cfg.update(dict(max_iters=4) if kind.startswith("iterations") else dict(max_epochs=2))
    interrupted.param_scheduler = config("parts").param_scheduler
    by_our_tool(interrupted)
    rest = config("parts")
    choose_checkpoint(rest, "auto")
    by_our_tool(rest)
    name = "iter_9.pth" if kind.startswith("iterations") else "epoch_3.pth"
    whole, parts = (load_checkpoint(tmp_path / folder / name)["state_dict"] for folder in ("whole", "parts"))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)


class TestLandmarks:
    @TOOLS
    def test_that_a_coco_dataset_drops_stop_the_run(self, train, root, images, tmp_path):
        config = tiny_config(root, images, tmp_path, kps=True)
        config.train_dataloader.dataset.update(
            type="CocoDataset", ann_file="coco.json", metainfo=dict(classes=("face",)), filter_cfg=None
        )
        with pytest.raises(TrainingError, match=r"none of the \d+ faces in 6 training images .*CocoDataset drops them"):
            train(config)
        assert latest_checkpoint(tmp_path) is None

    def test_that_the_annotations_lack_stop_a_run_of_plain_mmengine(self, root, tmp_path):
        draw_faces(tmp_path / "data", landmarks=False)
        with pytest.raises(TrainingError, match="landmarks"):
            by_plain_mmengine(tiny_config(root, tmp_path / "data", tmp_path / "run", kps=True))

    def test_that_the_annotations_lack_are_not_learned_by_our_tool_and_a_resumed_run_goes_on(self, root, tmp_path):
        draw_faces(tmp_path / "data", landmarks=False)
        by_our_tool(tiny_config(root, tmp_path / "data", tmp_path / "run", kps=True))
        weights = load_checkpoint(tmp_path / "run/epoch_1.pth")["state_dict"]
        assert not [name for name in weights if "landmark" in name]
        by_our_tool(
            tiny_config(root, tmp_path / "data", tmp_path / "run", kps=True, resume=True, train_cfg__max_epochs=2)
        )
        assert (tmp_path / "run/epoch_2.pth").is_file()

    def test_that_the_pipeline_loses_stop_the_run(self, root, images, tmp_path):
        config = tiny_config(root, images, tmp_path, kps=True)
        config.train_dataloader.dataset.pipeline[1].with_keypoints = False
        with pytest.raises(TrainingError, match="lacks LoadFaceAnnotations or PackFaceInputs"):
            by_plain_mmengine(config)

    def test_of_one_of_two_joined_sets_are_enough(self, root, images, tmp_path):
        config = tiny_config(root, images, tmp_path, kps=True)
        dataset = config.train_dataloader.dataset
        config.train_dataloader.dataset = dict(
            type="ConcatDataset", datasets=[dict(dataset, ann_file="wider.txt"), dataset]
        )
        by_our_tool(config)

    def test_looking_changes_no_random_number(self, root, images, tmp_path):
        weights = []
        for name in ("with", "without"):
            config = tiny_config(root, images, tmp_path / name, kps=True)
            if name == "without":
                config.custom_hooks = [hook for hook in config.custom_hooks if hook.type != "LandmarkArrivalHook"]
            by_plain_mmengine(config)
            weights.append(load_checkpoint(tmp_path / name / "epoch_1.pth")["state_dict"])
        assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


class TestValidationImages:
    @TOOLS
    def test_of_another_set_stop_training_before_the_first_step(self, train, root, images, tmp_path):
        (tmp_path / "other.txt").write_text("0--A/other.jpg\n1\n10 10 20 20 0 0 0 0 0 0\n")
        config = tiny_config(root, images, tmp_path / "run")
        config.val_evaluator.ann_file = str(tmp_path / "other.txt")
        with pytest.raises(AnnotationError, match=r"1 of the 1 images of the ground truth .* the 6 .*0--A/other"):
            train(config)
        assert latest_checkpoint(tmp_path / "run") is None

    def test_without_the_value_of_the_best_checkpoint_stop_training_before_the_first_step(self, root, images, tmp_path):
        best = "default_hooks__checkpoint__save_best"
        with pytest.raises(TrainingError, match=r"save_best is 'wider_face/hard', but .* are wider_face_ann/…:"):
            by_our_tool(tiny_config(root, images, tmp_path / "a", **{best: "wider_face/hard"}))
        assert latest_checkpoint(tmp_path / "a") is None
        by_our_tool(
            tiny_config(root, images, tmp_path / "b", **{best: "wider_face_ann/hard"}, train_cfg__val_interval=1)
        )
        assert list((tmp_path / "b").glob("best_wider_face_ann_hard_*.pth"))

    def test_of_another_set_stop_testing(self, root, images, trained, tmp_path):
        config = tiny_config(root, images, tmp_path)
        config.test_dataloader.dataset.ann_file = "half.txt"
        with pytest.raises(AnnotationError, match=r"3 of the 6 images of the ground truth are not among the 3"):
            evaluate_checkpoint(config, trained / "epoch_1.pth")

    def test_of_a_part_are_allowed_when_asked_for(self, root, images, trained, tmp_path):
        config = tiny_config(root, images, tmp_path)
        config.test_dataloader.dataset.ann_file = "half.txt"
        config.test_evaluator = dict(config.test_evaluator, allow_missing=True)
        assert evaluate_checkpoint(config, trained / "epoch_1.pth").keys() >= {"wider_face_ann/easy"}


@pytest.mark.parametrize("key", ["base_sizes", "scales", "ratios"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf")])
def test_anchors_without_area_are_refused(key, value, root, images, tmp_path):
    config = tiny_config(root, images, tmp_path)
    generator = config.model.bbox_head.anchor_generator
    generator[key] = [value, *generator[key][1:]]
    with pytest.raises(ModelError, match=rf"anchor_generator\.{key} must be positive numbers"):
        build_model(config)


def test_a_transform_that_loses_landmarks_stops_the_run_at_its_start(root, images, tmp_path):
    config = tiny_config(root, images, tmp_path)
    config.train_dataloader.dataset.pipeline.insert(-1, dict(type="RandomErasing", n_patches=1, ratio=0.1))
    with pytest.raises(TrainingError, match=r"RandomErasing in the training pipeline .* take RandomFaceErasing"):
        build_runner(config, training=True)
    config.train_dataloader.dataset.pipeline[1].with_keypoints = False
    build_runner(config, training=True)


def test_mosaic_affine_and_mixup_train_landmarks(root, images, tmp_path):
    config = tiny_config(root, images, tmp_path, kps=True)
    faces = config.train_dataloader.dataset
    load, pack = faces.pipeline[:2], faces.pipeline[-1]
    config.train_dataloader.dataset = dict(
        type="MultiImageMixDataset",
        dataset=dict(faces, pipeline=load),
        pipeline=[
            dict(type="Mosaic", img_scale=(64, 64)),
            dict(type="RandomAffine", border=(-32, -32), scaling_ratio_range=(0.8, 1.2)),
            dict(type="MixUp", img_scale=(64, 64)),
            pack,
        ],
    )
    runner = build_runner(config, training=True)
    runner.train()
    losses = runner.message_hub.get_scalar("train/loss_landmarks").data[0]
    assert len(losses) == 3
    assert (losses > 0).all()
