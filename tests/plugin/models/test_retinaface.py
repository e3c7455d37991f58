"""RetinaFace: the authors' weights layer by layer, anchors, coding and losses by their formulas, training, export."""

from __future__ import annotations

import json
import math

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmdet")

from model_samples import face_sample  # noqa: E402
from torch.nn import functional  # noqa: E402
from training_samples import draw_faces, learning_config  # noqa: E402

from facedet_mm import build_detector, cli  # noqa: E402
from facedet_mm.errors import ModelError  # noqa: E402
from facedet_mm.io.images import read_image  # noqa: E402
from facedet_mm.plugin.apis.build import build_model, load_config  # noqa: E402
from facedet_mm.plugin.apis.checkpoint import load_weights  # noqa: E402
from facedet_mm.plugin.apis.complexity import complexity  # noqa: E402
from facedet_mm.plugin.apis.official_retinaface import convert_retinaface  # noqa: E402
from facedet_mm.plugin.apis.runner import build_runner  # noqa: E402
from facedet_mm.zoo import asset_path  # noqa: E402


@pytest.fixture(scope="module")
def config(root):
    return root / "configs" / "retinaface_mnet0.25.py"


@pytest.fixture(scope="module")
def head(config):
    return build_model(config).bbox_head


@pytest.fixture(scope="module")
def checkpoint(config, data, tmp_path_factory):
    path = tmp_path_factory.mktemp("retinaface") / "mnet.pth"
    convert_retinaface(config, data / "weights" / "retinaface_mnet025.pth", path)
    return path


def test_parameters_are_those_of_the_authors_file(config):
    assert complexity(config)[0] == 426_608


def test_a_resnet_has_the_same_neck_and_head(root):
    model = build_model(root / "configs" / "retinaface_r50.py")
    assert [m.conv.in_channels for m in model.neck.lateral_convs] == [512, 1024, 2048]
    assert [type(m.activate) for m in model.neck.lateral_convs] == [torch.nn.ReLU] * 3
    assert round(sum(p.numel() for p in model.parameters()) / 1e6, 1) == 27.3
    maps = model.eval()(torch.zeros(1, 3, 64, 96), mode="tensor")
    assert [[tuple(level.shape[1:]) for level in kind] for kind in maps] == [
        [(values, 64 // s, 96 // s) for s in (8, 16, 32)] for values in (4, 8, 20)
    ]


def authors_network(state, x):
    """The network by the names of the authors' weights, after the description in their paper and in SSH's."""

    def conv(name, x, stride=1, groups=1, slope=0.1, norm=1):
        weight, prefix = state[f"{name}.weight"], name.rpartition(".")[0]
        x = functional.conv2d(x, weight, stride=stride, padding=weight.shape[2] // 2, groups=groups)
        mean, var, gamma, beta = (
            state[f"{prefix}.{norm}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")
        )
        x = functional.batch_norm(x, mean, var, gamma, beta)
        return x if slope is None else functional.leaky_relu(x, slope)

    def separable(name, x, stride):
        x = conv(f"{name}.0", x, stride, groups=x.shape[1])
        return conv(f"{name}.3", x, norm=4)

    x = conv("body.stage1.0.0", x, stride=2)
    features = []
    for stage, strides in ((1, (1, 2, 1, 2, 1)), (2, (2, 1, 1, 1, 1, 1)), (3, (2, 1))):
        for i, stride in enumerate(strides, 1 if stage == 1 else 0):
            x = separable(f"body.stage{stage}.{i}", x, stride)
        features.append(x)
    one, two, three = (conv(f"fpn.output{i}.0", feature) for i, feature in enumerate(features, 1))
    two = conv("fpn.merge2.0", two + functional.interpolate(three, size=two.shape[2:]))
    one = conv("fpn.merge1.0", one + functional.interpolate(two, size=one.shape[2:]))
    outputs = []
    for i, level in enumerate((one, two, three)):
        ssh = f"ssh{i + 1}"
        shared = conv(f"{ssh}.conv5X5_1.0", level)
        parts = [
            conv(f"{ssh}.conv3X3.0", level, slope=None),
            conv(f"{ssh}.conv5X5_2.0", shared, slope=None),
            conv(f"{ssh}.conv7x7_3.0", conv(f"{ssh}.conv7X7_2.0", shared), slope=None),
        ]
        level = functional.relu(torch.cat(parts, 1))
        heads = (f"{kind}.{i}.conv1x1" for kind in ("ClassHead", "BboxHead", "LandmarkHead"))
        outputs.append([functional.conv2d(level, state[f"{h}.weight"], state[f"{h}.bias"]) for h in heads])
    return [list(kind) for kind in zip(*outputs, strict=True)]


def test_converted_weights_compute_what_the_authors_network_does(config, data, checkpoint):
    model = build_model(config).eval()
    load_weights(model, checkpoint)
    state = torch.load(data / "weights" / "retinaface_mnet025.pth", "cpu", weights_only=True)
    image = read_image(asset_path("solvay_1927.jpg"))[900:1300, 1000:1470]
    x = (
        torch.from_numpy(image.transpose(2, 0, 1).astype(np.float32))[None]
        - torch.tensor([104.0, 117, 123])[:, None, None]
    )
    with torch.inference_mode():
        ours = model(x, mode="tensor")
        theirs = authors_network(state, x)
    for mine, other in zip(ours, theirs, strict=True):
        for level, reference in zip(mine, other, strict=True):
            assert torch.allclose(level, reference, atol=1e-4)


def test_the_detector_finds_the_people(config, checkpoint):
    image = read_image(asset_path("solvay_1927.jpg"))
    detector = build_detector(config, checkpoint, device="cpu", score_thr=0.5, input_size=1280)
    found, sure = detector.detect(image), build_detector(score_thr=0.8).detect(image)
    centers, others = ((faces.boxes[:, :2] + faces.boxes[:, 2:]) / 2 for faces in (found, sure))
    near = np.linalg.norm(others[:, None] - centers, axis=2).min(1)
    assert len(found) == len(sure) == 29
    assert near.max() < 25
    left, right = found.landmarks[:, 0], found.landmarks[:, 1]
    assert (left[:, 0] < right[:, 0]).all()


def test_anchors_are_squares_around_the_centers_of_the_cells(head):
    maps = [torch.zeros(1, 4, 64 // s, 96 // s) for s in (8, 16, 32)]
    expected = [
        [(x + 0.5) * stride, (y + 0.5) * stride, size, size]
        for stride, sizes in ((8, (16, 32)), (16, (64, 128)), (32, (256, 512)))
        for y in range(64 // stride)
        for x in range(96 // stride)
        for size in sizes
    ]
    anchors = head._anchors(maps)
    sides = anchors[:, 2:] - anchors[:, :2]
    assert torch.equal(torch.cat([anchors[:, :2] + sides / 2, sides], 1), torch.tensor(expected))


BOX, POINTS = (21.0, 20.0, 43.0, 42.0), [26.0, 26, 38, 26, 32, 32, 27, 38, 37, 38]


def maps_for(faces, background=(0.0, 0.0)):
    """Outputs for a 64×64 image in which some anchors of stride 8, (row, column, index), predict a face exactly."""
    maps = [[torch.zeros(1, 2 * values, 64 // s, 64 // s) for s in (8, 16, 32)] for values in (2, 4, 10)]
    for level in maps[0]:
        level[:, ::2], level[:, 1::2] = background
    for (row, column, index), (box, points, logits) in faces.items():
        cx, cy, side = (column + 0.5) * 8, (row + 0.5) * 8, 16 * (index + 1)
        x1, y1, x2, y2 = box
        coded = [((x1 + x2) / 2 - cx) / side / 0.1, ((y1 + y2) / 2 - cy) / side / 0.1]
        coded += [math.log((x2 - x1) / side) / 0.2, math.log((y2 - y1) / side) / 0.2]
        marks = [(v - (cx, cy)[i % 2]) / side / 0.1 for i, v in enumerate(points)]
        for kind, values in zip(maps, (logits, coded, marks), strict=True):
            first = index * len(values)
            kind[0][0, first : first + len(values), row, column] = torch.tensor(values)
    return maps


def test_a_face_is_decoded_where_it_was_encoded(head):
    maps = maps_for({(2, 5, 0): (BOX, POINTS, (1.0, 3.0))}, background=(20.0, 0.0))
    metas = [dict(img_shape=(64, 64), scale_factor=(0.5, 2.0))]
    (faces,) = head.predict_by_feat(*maps, batch_img_metas=metas, rescale=True)
    assert faces.bboxes.tolist() == [pytest.approx([42, 10, 86, 21])]
    assert faces.keypoints.flatten().tolist() == pytest.approx([v * (2, 0.5)[i % 2] for i, v in enumerate(POINTS)])
    assert faces.scores.tolist() == [pytest.approx(1 / (1 + math.exp(-2)))]


def overlaps(box):
    """IoU of a box with all anchors of a 64×64 image by row, column and index at stride 8."""
    found = {}
    for row in range(8):
        for column in range(8):
            for index in (0, 1):
                side, cx, cy = 16 * (index + 1), (column + 0.5) * 8, (row + 0.5) * 8
                width = min(cx + side / 2, box[2]) - max(cx - side / 2, box[0])
                height = min(cy + side / 2, box[3]) - max(cy - side / 2, box[1])
                both = max(width, 0) * max(height, 0)
                found[row, column, index] = both / (side**2 + (box[2] - box[0]) * (box[3] - box[1]) - both)
    return found


def positives(box):
    return [anchor for anchor, iou in overlaps(box).items() if iou >= 0.35]


def test_right_predictions_cost_nothing(head):
    maps = maps_for(dict.fromkeys(positives(BOX), (BOX, POINTS, (0.0, 20.0))), background=(20.0, 0.0))
    gt = face_sample([BOX], np.reshape(POINTS, (1, 5, 2))).gt_instances
    losses = head.loss_by_feat(*maps, [gt], [{}])
    assert {name: round(value.item(), 4) for name, value in losses.items()} == dict.fromkeys(losses, 0)


def test_each_loss_is_that_of_its_formula(head):
    chosen = positives(BOX)
    assert len(chosen) > 2
    shifted = [v + (3.2, 0)[i % 2] for i, v in enumerate(POINTS)]  # one unit or two, by the anchor's side
    larger = (BOX[0], BOX[1], BOX[2] + 2, BOX[3])
    maps = maps_for(dict.fromkeys(chosen, (larger, shifted, (0.0, 1.0))))
    gt = face_sample([BOX], np.reshape(POINTS, (1, 5, 2)), [[1, 1, 0, 0, 0]]).gt_instances
    losses = head.loss_by_feat(*maps, [gt], [{}])

    def smooth(value):
        return value**2 / 2 if value < 1 else value - 0.5

    sides = [16 * (index + 1) for _, _, index in chosen]
    face, negative = math.log(1 + math.exp(-1)), math.log(2)
    assert losses["loss_cls"].item() == pytest.approx(face + 7 * negative, rel=1e-4)
    box = [smooth(1 / side / 0.1) + smooth(math.log(24 / 22) / 0.2) for side in sides]
    assert losses["loss_bbox"].item() == pytest.approx(2 * sum(box) / len(chosen), rel=1e-3)
    marks = [2 * smooth(3.2 / side / 0.1) for side in sides]
    assert losses["loss_landmarks"].item() == pytest.approx(sum(marks) / max(0.4 * len(chosen), 1), rel=1e-3)


def test_the_hardest_negatives_of_each_image_count(head):
    """Seven times as many as its positives; the image without faces has none."""
    chosen = positives(BOX)
    maps = maps_for(dict.fromkeys(chosen, (BOX, POINTS, (0.0, 20.0))), background=(20.0, 0.0))
    wrong = 2 * 7 * len(chosen)
    maps[0][0][0, 0].view(-1)[:] = 0  # the small anchors of all 64 cells: two logits that are equal
    small = sum(index == 0 for _, _, index in chosen)
    maps = [[torch.cat([level, level]) for level in kind] for kind in maps]
    gts = [face_sample([BOX], np.reshape(POINTS, (1, 5, 2))).gt_instances, face_sample([]).gt_instances]
    losses = head.loss_by_feat(*maps, gts, [{}, {}])
    counted = min(7 * len(chosen), 64 - small)
    assert counted < wrong
    assert losses["loss_cls"].item() == pytest.approx(counted * math.log(2) / len(chosen), rel=1e-3)
    assert head.loss_by_feat(*maps, gts[1:] * 2, [{}, {}])["loss_cls"].item() == 0


def test_a_face_that_no_anchor_fits_takes_its_best_one_and_a_hopeless_one_none(head):
    def count(box):
        maps = maps_for({}, background=(0.0, 0.0))
        gt = face_sample([box], np.zeros((1, 5, 2)), [0]).gt_instances
        return head.loss_by_feat(*maps, [gt], [{}])["loss_cls"].item() / math.log(2)

    narrow, tiny = (22.0, 20, 28.0, 36.0), (20.0, 20, 24.0, 24.0)
    assert 0.2 < max(overlaps(narrow).values()) < 0.4
    assert max(overlaps(tiny).values()) < 0.2
    assert count(narrow) == pytest.approx(8)  # one positive and seven negatives
    assert count(tiny) == 0


def test_the_runner_trains_it_until_it_finds_the_faces(config, tmp_path):
    draw_faces(tmp_path / "data")
    runner = build_runner(learning_config(config, tmp_path / "data", tmp_path / "work", epochs=60), training=True)
    runner.train()
    assert runner.message_hub.get_scalar("val/wider_face_ann/hard").current() > 0.5


@pytest.mark.parametrize("kind", ["decoded", "end2end"])
def test_exports_find_the_faces_of_the_torch_model(config, checkpoint, tmp_path, kind):
    image = read_image(asset_path("solvay_1927.jpg"))
    command = ["export", str(config), str(checkpoint), "-o", str(tmp_path / "m.onnx"), "--kind", kind]
    assert cli.main(command) == 0
    assert "layout" not in json.loads(onnx.load(tmp_path / "m.onnx").metadata_props[0].value)
    found = build_detector(tmp_path / "m.onnx", score_thr=0.5).detect(image)
    expected = build_detector(config, checkpoint, device="cpu", score_thr=0.5).detect(image)
    assert len(found) == len(expected) > 20
    for values in ("boxes", "scores", "landmarks"):
        assert np.allclose(getattr(found, values), getattr(expected, values), atol=0.02)


def test_raw_outputs_that_nothing_reads_are_not_exported(config, checkpoint, tmp_path, capsys):
    assert cli.main(["export", str(config), str(checkpoint), "-o", str(tmp_path / "m.onnx")]) == 1
    assert "use --kind decoded or --end2end" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_weights_that_are_not_retinafaces_are_named(config, data, tmp_path):
    source = tmp_path / "source.pth"
    for state, message in (
        ({"backbone.x": torch.zeros(1)}, "has not the layout of Pytorch_Retinaface"),
        ({"ClassHead.0.conv1x1.bias": torch.zeros(4)}, "weights do not fit the config"),
    ):
        torch.save(state, source)
        with pytest.raises(ModelError, match=message):
            convert_retinaface(config, source, tmp_path / "out.pth")
    assert not (tmp_path / "out.pth").exists()
    with pytest.raises(ModelError, match="is also the input"):
        convert_retinaface(config, source, source)
    wrapped = {f"module.{k}": v for k, v in torch.load(data / "weights/retinaface_mnet025.pth", "cpu").items()}
    torch.save(wrapped, source)
    assert len(convert_retinaface(config, source, tmp_path / "out.pth")) == len(wrapped)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bbox_head.num_classes": 2}, "RetinaFaceHead detects one class"),
        ({"neck.out_channels": 66, "bbox_head.in_channels": 66}, "multiple of 4, not 66"),
        ({"neck.start_level": 0}, "anchors at 3 strides"),
        ({"bbox_head.in_channels": 32}, "the neck has 64 output channels"),
    ],
)
def test_parts_that_do_not_fit_are_named(config, options, message):
    with pytest.raises(ModelError, match=message):
        build_model(load_config(config, {f"model.{key}": value for key, value in options.items()}))
