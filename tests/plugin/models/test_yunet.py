"""YuNet against the authors' files, its losses against the formulas, and its training through the Runner."""

from __future__ import annotations

import math

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmdet")

from mmengine.structures import InstanceData  # noqa: E402
from model_samples import face_sample  # noqa: E402
from training_samples import draw_faces, learning_config  # noqa: E402

from facedet_mm import build_detector  # noqa: E402
from facedet_mm.detectors.preprocess import Normalization, fit, make_blob  # noqa: E402
from facedet_mm.errors import ModelError, TrainingError  # noqa: E402
from facedet_mm.io.images import read_image  # noqa: E402
from facedet_mm.plugin.apis.build import build_model, load_config  # noqa: E402
from facedet_mm.plugin.apis.checkpoint import load_weights  # noqa: E402
from facedet_mm.plugin.apis.complexity import complexity  # noqa: E402
from facedet_mm.plugin.apis.runner import build_runner  # noqa: E402
from facedet_mm.zoo import asset_path  # noqa: E402

SIZES = ("yunet_n", "yunet_s")


@pytest.fixture
def head(root):
    return build_model(root / "configs" / "yunet_n.py").bbox_head


@pytest.mark.parametrize(("name", "published"), [("yunet_n", 75_856), ("yunet_s", 54_608)])
def test_parameters_are_those_of_the_authors(root, name, published):
    assert complexity(root / "configs" / f"{name}.py")[0] == published


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize("size", [(640, 640), (480, 320)])
def test_the_authors_checkpoint_gives_the_outputs_of_their_onnx_file(root, data, name, size):
    model = build_model(root / "configs" / f"{name}.py").eval()
    load_weights(model, data / "yunet" / f"{name}.pth")
    image = read_image(asset_path("solvay_1927.jpg"))
    letterbox = fit(image.shape[1], image.shape[0], size)
    blob = make_blob([image], [letterbox], Normalization((0, 0, 0), (1, 1, 1), to_rgb=False))
    with torch.inference_mode():
        inputs = model.data_preprocessor(dict(inputs=[torch.from_numpy(blob[0])]), training=True)["inputs"]
        kinds = model(inputs, mode="tensor")
    session = onnxruntime.InferenceSession(str(data / "yunet" / f"{name}_dynamic.onnx"))
    names = [f"{kind}_{stride}" for kind in ("cls", "obj", "bbox", "kps") for stride in (8, 16, 32)]
    theirs = session.run(names, {"input": blob})
    ours = [level.sigmoid() if i < 2 else level for i, levels in enumerate(kinds) for level in levels]
    for mine, other in zip(ours, theirs, strict=True):
        assert np.abs(mine[0].flatten(1).T.numpy() - other[0]).max() < 1e-4


@pytest.mark.parametrize("name", SIZES)
def test_the_torch_detector_finds_the_faces_of_the_onnx_detector(root, data, name):
    image = read_image(asset_path("solvay_1927.jpg"))
    ours = build_detector(root / "configs" / f"{name}.py", data / "yunet" / f"{name}.pth", device="cpu", score_thr=0.1)
    theirs = build_detector(data / "yunet" / f"{name}_dynamic.onnx", score_thr=0.1)
    found, expected = ours.detect(image), theirs.detect(image)
    assert len(found) == len(expected) > 30
    for values in ("boxes", "scores", "landmarks"):
        assert np.allclose(getattr(found, values), getattr(expected, values), atol=0.01)


def test_landmarks_can_be_left_out(root):
    config = load_config(root / "configs" / "yunet_n.py", {"model.bbox_head.with_landmarks": False})
    model = build_model(config).eval()
    maps = model(torch.zeros(1, 3, 64, 64), mode="tensor")
    assert maps[3] == [None] * 3
    (faces,) = model.bbox_head.predict_by_feat(*maps, batch_img_metas=[dict(img_shape=(64, 64))])
    assert "keypoints" not in faces
    losses = model.bbox_head.loss_by_feat(*maps, [face_sample([[8, 8, 40, 40]]).gt_instances], [{}])
    assert sorted(losses) == ["loss_bbox", "loss_cls", "loss_obj"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bbox_head.num_classes": 2}, "YuNetHead detects one class, face"),
        ({"backbone.stage_channels": (16, 16, 16)}, "stage_channels needs 5 numbers"),
        ({"neck.in_channels": [64, 32, 64]}, "TinyFPN adds its levels"),
        ({"backbone.stage_channels": (64, 64, 32, 32, 32)}, r"neck.in_channels=\[64, 64, 64\], but .* \[32, 32, 32\]"),
        ({"bbox_head.in_channels": 32}, "the neck has 64 output channels"),
    ],
)
def test_parts_that_do_not_fit_are_named(root, options, message):
    config = load_config(root / "configs" / "yunet_n.py", {f"model.{key}": value for key, value in options.items()})
    with pytest.raises(ModelError, match=message):
        build_model(config)


LEVELS = ((8, 8), (16, 4), (32, 2))
"""Stride and side of the maps of a 64×64 image."""


def maps_for(targets, sure=20.0):
    """Outputs of the head in which one cell of each target (stride, x, y, box, landmarks) is right, the others far off.

    The wanted values are worked out from the text of the reference: center and landmarks in strides from the cell's
    corner, size as a logarithm in strides.
    """
    kinds = [[torch.full((1, values, side, side), fill) for _, side in LEVELS] for values, fill in MAPS]
    for stride, x, y, (x1, y1, x2, y2), landmarks in targets:
        level = [stride for stride, _ in LEVELS].index(stride)
        for kind, logit in zip(kinds[:2], (sure, sure), strict=True):
            kind[level][0, 0, y, x] = logit
        center = (x1 + x2) / 2 / stride - x, (y1 + y2) / 2 / stride - y
        size = math.log((x2 - x1) / stride), math.log((y2 - y1) / stride)
        kinds[2][level][0, :, y, x] = torch.tensor([*center, *size])
        kinds[3][level][0, :, y, x] = torch.tensor([v / stride - (x, y)[i % 2] for i, v in enumerate(landmarks)])
    return kinds


MAPS = ((1, -20.0), (1, -20.0), (4, -3.0), (10, 0.0))
BOX, POINTS = (20.0, 18.0, 44.0, 46.0), [25.0, 26, 39, 26, 32, 33, 27, 40, 37, 40]


def test_a_face_is_decoded_where_it_was_encoded(head):
    maps = maps_for([(16, 1, 2, BOX, POINTS)], sure=1.0)
    metas = [dict(img_shape=(64, 64), scale_factor=(0.5, 2.0))]
    (faces,) = head.predict_by_feat(*maps, batch_img_metas=metas, rescale=True)
    assert faces.bboxes.tolist() == [pytest.approx([40, 9, 88, 23])]
    assert faces.keypoints.flatten().tolist() == pytest.approx([v * (2, 0.5)[i % 2] for i, v in enumerate(POINTS)])
    assert faces.scores.tolist() == [pytest.approx(1 / (1 + math.exp(-1)))]


def test_a_right_prediction_costs_nothing(head):
    maps = maps_for([(8, 3, 3, BOX, POINTS)])
    gt = face_sample([BOX], np.reshape(POINTS, (1, 5, 2))).gt_instances
    losses = head.loss_by_feat(*maps, [gt], [{}])
    assert {name: round(value.item(), 4) for name, value in losses.items()} == dict.fromkeys(losses, 0)


def test_each_loss_is_that_of_its_formula(head):
    """One face, one positive whose outputs are off: cross-entropy to the IoU, EIoU, cross-entropy, smooth L1."""
    wrong = (20.0, 18.0, 40.0, 46.0)
    maps = maps_for([(8, 3, 3, wrong, [v + 4 for v in POINTS])], sure=2.0)
    visible = [[1, 1, 1, 1, 0]]
    gt = face_sample([BOX], np.reshape(POINTS, (1, 5, 2)), visible).gt_instances
    losses = head.loss_by_feat(*maps, [gt], [{}])
    iou, p = 20 / 24, 1 / (1 + math.exp(-2))
    others = 64 + 16 + 4 - 1
    assert losses["loss_cls"].item() == pytest.approx(-iou * math.log(p) - (1 - iou) * math.log(1 - p), rel=1e-4)
    assert losses["loss_obj"].item() == pytest.approx(-math.log(p) + others * math.log(1 + math.exp(-20)), rel=1e-4)
    assert losses["loss_bbox"].item() == pytest.approx(5 * (1 - iou - 0.05), rel=1e-4)  # smooth point 0.1
    assert losses["loss_landmarks"].item() == pytest.approx(0.1 * 10 * (0.5 - 1 / 18), rel=1e-4)


def test_positives_of_all_images_and_levels_share_one_normalizer(head):
    """Two images with two faces and one; all three are found, and the one without landmarks has wrong ones."""
    small, large = (2.0, 2.0, 12.0, 12.0), (22.0, 16.0, 46.0, 44.0)
    shifted = [v + (2, -2)[i % 2] for i, v in enumerate(POINTS)]
    both = maps_for([(8, 3, 3, BOX, POINTS), (8, 0, 0, small, [50.0] * 10)], sure=2.0)
    one = maps_for([(16, 1, 1, large, [v + 16 for v in shifted])], sure=2.0)
    maps = [[torch.cat(pair) for pair in zip(*kinds, strict=True)] for kinds in zip(both, one, strict=True)]
    points = np.zeros((2, 5, 2))
    points[0] = np.reshape(POINTS, (5, 2))
    samples = [
        face_sample([BOX, small], points, [1, 0]),
        face_sample([large], np.reshape(shifted, (1, 5, 2)), [[0.5] * 5]),
    ]
    losses = head.loss_by_feat(*maps, [sample.gt_instances for sample in samples], [{}, {}])
    assert losses["loss_cls"].item() == pytest.approx(-math.log(1 / (1 + math.exp(-2))), rel=1e-3)
    assert losses["loss_bbox"].item() == pytest.approx(0, abs=1e-4)
    one_stride_off = 10 * (1 - 1 / 18)
    assert losses["loss_landmarks"].item() == pytest.approx(0.1 * 0.5 * one_stride_off / 1.5, rel=1e-3)


def test_an_image_without_faces_costs_objectness_only(head):
    maps = maps_for([])
    maps[1] = [torch.zeros_like(level) for level in maps[1]]
    losses = head.loss_by_feat(*maps, [face_sample([]).gt_instances], [{}])
    assert losses["loss_obj"].item() == pytest.approx((64 + 16 + 4) * math.log(2))
    assert losses["loss_cls"].item() == losses["loss_bbox"].item() == losses["loss_landmarks"].item() == 0


def test_points_are_assigned_by_the_centers_of_their_cells(head):
    """A face of four pixels in the middle of a cell: no corner of a cell is inside, and one center."""
    box, inside, beside = (26.0, 26.0, 30.0, 30.0), (26.0, 26.0, 30.0, 27.6), (26.0, 26.0, 30.0, 27.8)
    maps = maps_for([(8, 3, 3, inside, POINTS), (8, 4, 4, beside, POINTS)], sure=2.0)
    gt = InstanceData(bboxes=torch.tensor([box]), labels=torch.zeros(1, dtype=torch.long))
    decoded, scores, _ = head.decode(*maps)
    assigned, quality = head._assign(head._priors(maps[0]), scores, decoded, [gt])
    assert assigned[0].nonzero().flatten().tolist() == [3 * 8 + 3]
    assert quality[0, 27].item() == pytest.approx(0.4, abs=1e-5)


def test_faces_without_landmarks_are_told(head):
    gt = InstanceData(bboxes=torch.tensor([BOX]), labels=torch.zeros(1, dtype=torch.long))
    with pytest.raises(TrainingError, match="the annotations have none"):
        head.loss_by_feat(*maps_for([]), [gt], [{}])


def test_the_runner_trains_it_until_it_finds_the_faces(root, tmp_path):
    draw_faces(tmp_path / "data")
    config = learning_config(root / "configs" / "yunet_n.py", tmp_path / "data", tmp_path / "work", epochs=60)
    runner = build_runner(config, training=True)
    runner.train()
    metrics = runner.message_hub.get_scalar("val/wider_face_ann/hard").current()
    assert metrics > 0.8


def test_training_starts_from_the_authors_checkpoint_as_it_is(root, data, tmp_path):
    draw_faces(tmp_path / "data")
    config = learning_config(root / "configs" / "yunet_n.py", tmp_path / "data", tmp_path / "work", epochs=1)
    config.load_from = str(data / "yunet" / "yunet_n.pth")
    runner = build_runner(config, training=True)
    runner.load_or_resume()
    theirs = torch.load(config.load_from, "cpu", weights_only=True)["state_dict"]
    ours = runner.model.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())


def test_fine_tuning_on_boxes_alone_keeps_the_landmarks(root, data, tmp_path):
    draw_faces(tmp_path / "data")
    config = learning_config(root / "configs" / "yunet_n.py", tmp_path / "data", tmp_path / "work", epochs=1)
    config.train_dataloader.dataset.ann_file = "wider.txt"
    config.load_from = str(data / "yunet" / "yunet_n.pth")
    runner = build_runner(config, training=True)
    assert "KeepLandmarksHook" in {type(hook).__name__ for hook in runner.hooks}
    runner.train()
    assert runner.iter == 3
