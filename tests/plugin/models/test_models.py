"""The models against the published tables and the formulas of the papers."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmdet")

from mmdet.models.task_modules.assigners import ATSSAssigner  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402
from model_samples import face_sample, random_faces, random_model  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from facedet_mm.plugin.apis.build import build_model  # noqa: E402
from facedet_mm.plugin.apis.complexity import complexity  # noqa: E402
from facedet_mm.plugin.models import SparseATSSAssigner  # noqa: E402
from facedet_mm.zoo import config_path  # noqa: E402

PUBLISHED = {  # parameters in millions, GFLOPs at 640×480 where published
    "scrfd_34g": (9.80, 34.13),
    "scrfd_10g": (3.86, 9.98),
    "scrfd_2.5g": (0.67, 2.53),
    "scrfd_1g": (0.64, None),  # the published 1.1 does not follow from the published widths
    "scrfd_0.5g": (0.57, 0.508),
    "scrfd_10g_kps": (4.23, None),
    "scrfd_2.5g_kps": (0.82, None),
    "scrfd_0.5g_kps": (0.63, None),
}


@pytest.fixture(scope="module")
def kps_model():
    torch.manual_seed(0)
    model = build_model(config_path("scrfd_0.5g_kps"))
    model.init_weights()
    return model


@pytest.fixture(scope="module")
def shared_model():
    torch.manual_seed(0)
    model = build_model(config_path("scrfd_2.5g"))
    model.init_weights()
    return model


def anchors_640():
    """Anchors of a 640×640 image, from the text: sizes 16·{1,2}, 64·{1,2}, 256·{1,2}, centers at (x, y)·stride."""
    levels = []
    for stride, size in ((8, 16), (16, 64), (32, 256)):
        for y in range(640 // stride):
            for x in range(640 // stride):
                for half in (size / 2, size):
                    cx, cy = x * stride, y * stride
                    levels.append((cx - half, cy - half, cx + half, cy + half))
    return torch.tensor(levels), [12800, 3200, 800]


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_and_flops_are_the_published_ones(name):
    params, flops = complexity(config_path(name))
    published_params, published_flops = PUBLISHED[name]
    assert round(params / 1e6, 2) == published_params
    if published_flops is not None:
        assert flops / 1e9 == pytest.approx(published_flops, rel=0.03)


def test_anchors_are_ordered_by_row_column_and_size_without_a_half_cell_offset(kps_model):
    expected, counts = anchors_640()
    levels = kps_model.bbox_head.prior_generator.grid_priors([(80, 80), (40, 40), (20, 20)], device="cpu")
    assert [len(level) for level in levels] == counts
    assert torch.equal(torch.cat(levels), expected)


def test_fresh_heads_predict_one_percent_and_have_small_weights(kps_model, shared_model):
    for model in (kps_model, shared_model):
        head = model.bbox_head
        for conv in head.cls_convs:
            assert conv.bias.detach().numpy() == pytest.approx(-4.595, abs=1e-3)
        for conv in head.modules():
            if isinstance(conv, nn.Conv2d):
                assert conv.weight.std().item() == pytest.approx(0.01, rel=0.35)
                assert abs(conv.weight).max() < 0.06


def test_shared_heads_have_one_tower_and_landmark_heads_one_per_stride(kps_model, shared_model):
    assert len(shared_model.bbox_head.towers) == 1
    assert any(isinstance(m, nn.GroupNorm) for m in shared_model.bbox_head.modules())
    assert len(kps_model.bbox_head.towers) == 3
    assert not any(isinstance(m, nn.GroupNorm) for m in kps_model.bbox_head.modules())
    assert len([n for n, _ in shared_model.bbox_head.named_parameters() if n.startswith("scales")]) == 3
    assert not [n for n, _ in kps_model.bbox_head.named_parameters() if n.startswith("scales")]


@pytest.mark.parametrize("seed", range(4))
def test_assignment_equals_mmdets_where_no_distances_tie(seed):
    # an even number of candidates never splits the two anchors of a cell, which are equally far
    rng = np.random.default_rng(seed)
    anchors, counts = anchors_640()
    gt = InstanceData(bboxes=torch.from_numpy(random_faces(rng, 40)), labels=torch.zeros(40, dtype=torch.long))
    ours = SparseATSSAssigner(topk=10).assign(InstanceData(priors=anchors), counts, gt)
    stock = ATSSAssigner(topk=10).assign(InstanceData(priors=anchors), counts, gt)
    assert torch.equal(ours.gt_inds, stock.gt_inds)
    assert torch.equal(ours.labels, stock.labels)
    positive = ours.gt_inds > 0
    assert positive.sum() > 40
    assert torch.allclose(ours.max_overlaps[positive], stock.max_overlaps[positive])


def brute_force_assignment(anchors, counts, faces, topk=9):
    """ATSS from the text, face by face, in float64."""
    anchors, faces = anchors.double().numpy(), np.asarray(faces, np.float64)
    best_iou, best_face = np.zeros(len(anchors)), np.zeros(len(anchors), int)
    centers = (anchors[:, :2] + anchors[:, 2:]) / 2
    for i, face in enumerate(faces):
        candidates, start = [], 0
        for count in counts:
            distance = ((centers[start : start + count] - (face[:2] + face[2:]) / 2) ** 2).sum(1)
            candidates += list(np.argsort(distance, kind="stable")[:topk] + start)
            start += count
        a = anchors[candidates]
        overlap = np.clip(np.minimum(a[:, 2:], face[2:]) - np.maximum(a[:, :2], face[:2]), 0, None).prod(1)
        iou = overlap / ((a[:, 2:] - a[:, :2]).prod(1) + (face[2:] - face[:2]).prod() - overlap)
        threshold = iou.mean() + iou.std(ddof=1)
        margin = 0.001 * math.sqrt((face[2:] - face[:2]).prod())
        for index, value in zip(candidates, iou, strict=True):
            inside = min(*(centers[index] - face[:2]), *(face[2:] - centers[index])) > margin
            if value >= threshold and inside and value > best_iou[index]:
                best_iou[index], best_face[index] = value, i + 1
    return best_face, best_iou


@pytest.mark.parametrize("seed", range(3))
def test_assignment_with_nine_candidates_is_that_of_the_paper(seed):
    rng = np.random.default_rng(seed)
    anchors, counts = anchors_640()
    faces = random_faces(rng, 60)
    gt = InstanceData(bboxes=torch.from_numpy(faces), labels=torch.zeros(60, dtype=torch.long))
    result = SparseATSSAssigner().assign(InstanceData(priors=anchors), counts, gt)
    expected, iou = brute_force_assignment(anchors, counts, faces)
    assert np.array_equal(result.gt_inds.numpy(), expected)
    assert result.max_overlaps.numpy() == pytest.approx(iou, abs=1e-5)


def test_an_anchor_center_nearer_to_the_edge_than_a_thousandth_of_the_face_is_no_positive():
    anchors, counts = anchors_640()
    labels = torch.zeros(1, dtype=torch.long)
    side = 100.0
    for inset, positive in ((0.0999, False), (0.1001, True)):
        # the left edge lies `inset` pixels left of the centers of the column x = 320 (strides 8, 16 and 32)
        box = torch.tensor([[320 - inset, 320 - side / 2, 320 - inset + side, 320 + side / 2]])
        column = anchors[:, [0, 2]].mean(1) == 320
        result = SparseATSSAssigner(topk=400).assign(
            InstanceData(priors=anchors), counts, InstanceData(bboxes=box, labels=labels)
        )
        assert bool((result.gt_inds[column] > 0).any()) == positive


def test_faces_without_area_claim_no_anchor():
    anchors, counts = anchors_640()
    boxes = torch.tensor([[100.0, 100, 100, 120], [64, 64, 64, 64], [200, 200, 232, 232]])
    gt = InstanceData(bboxes=boxes, labels=torch.zeros(3, dtype=torch.long))
    result = SparseATSSAssigner().assign(InstanceData(priors=anchors), counts, gt)
    assert set(result.gt_inds.tolist()) == {0, 3}


def reference_losses(cls, reg, kps, samples):
    """The losses of the papers in NumPy float64: QFL (2006.04388, eq. 5), DIoU (1911.08287, eq. 7), SmoothL1."""
    anchors, counts = anchors_640()
    stride = np.repeat([8.0, 16.0, 32.0], counts)
    center = anchors.double().numpy()[:, :2] + (anchors[:, 2:] - anchors[:, :2]).double().numpy() / 2

    def flat(maps, i, channels):
        return np.concatenate([m[i].detach().double().permute(1, 2, 0).reshape(-1, channels).numpy() for m in maps])

    qfl = diou_sum = landmark_sum = weight_sum = 0.0
    positives = 0
    for i, sample in enumerate(samples):
        gt = sample.gt_instances
        logit = flat(cls, i, 1)[:, 0]
        p = 1 / (1 + np.exp(-logit))
        face, _ = brute_force_assignment(anchors, counts, gt.bboxes.numpy())
        index = np.flatnonzero(face)
        d, c = flat(reg, i, 4)[index], center[index] / stride[index, None]
        box = np.concatenate([c - d[:, :2], c + d[:, 2:]], 1)
        target = gt.bboxes.double().numpy()[face[index] - 1] / stride[index, None]
        overlap = np.clip(np.minimum(box[:, 2:], target[:, 2:]) - np.maximum(box[:, :2], target[:, :2]), 0, None)
        area = [(b[:, 2:] - b[:, :2]).prod(1) for b in (box, target)]
        iou = overlap.prod(1) / np.maximum(sum(area) - overlap.prod(1), 1e-6)
        quality = np.zeros_like(p)
        quality[index] = iou
        cross_entropy = -(quality * np.log(p) + (1 - quality) * np.log(1 - p))
        qfl += (cross_entropy * np.abs(quality - p) ** 2).sum()
        enclosing = np.maximum(box[:, 2:], target[:, 2:]) - np.minimum(box[:, :2], target[:, :2])
        shift = (box[:, :2] + box[:, 2:] - target[:, :2] - target[:, 2:]) / 2
        diou = 1 - iou + (shift**2).sum(1) / (np.clip(enclosing, 0, None) ** 2).sum(1)
        diou_sum += (diou * p[index]).sum()
        weight_sum += p[index].sum()
        positives += len(index)
        if kps[0] is not None:
            points = gt.keypoints.double().numpy()[face[index] - 1] / stride[index, None, None] - c[:, None]
            error = np.abs(flat(kps, i, 10)[index] - points.reshape(-1, 10))
            smooth = np.where(error < 1 / 9, error**2 * 9 / 2, error - 1 / 18)
            weight = p[index] * gt.keypoints_visible.double().numpy()[face[index] - 1]
            landmark_sum += (smooth * weight[:, None]).sum()
    losses = {"loss_cls": qfl / positives, "loss_bbox": 2 * diou_sum / weight_sum}
    if kps[0] is not None:
        losses["loss_landmarks"] = 0.1 * landmark_sum / weight_sum
    return losses


def random_outputs(rng, batch, landmarks):
    sizes = (80, 40, 20)
    cls = [torch.from_numpy(rng.normal(-2, 1.5, (batch, 2, s, s)).astype(np.float32)) for s in sizes]
    reg = [torch.from_numpy(rng.uniform(0.2, 6, (batch, 8, s, s)).astype(np.float32)) for s in sizes]
    kps = [torch.from_numpy(rng.normal(0, 1, (batch, 20, s, s)).astype(np.float32)) for s in sizes]
    return cls, reg, kps if landmarks else [None] * 3


@pytest.mark.parametrize("landmarks", [True, False])
def test_losses_are_those_of_the_papers(landmarks, kps_model, shared_model):
    rng = np.random.default_rng(7)
    head = (kps_model if landmarks else shared_model).bbox_head
    outputs = random_outputs(rng, 2, landmarks)
    samples = []
    for n in (12, 5):
        boxes = random_faces(rng, n)
        points = rng.uniform(0, 1, (n, 5, 2)) * (boxes[:, None, 2:] - boxes[:, None, :2]) + boxes[:, None, :2]
        samples.append(face_sample(boxes, points, rng.integers(0, 2, n)))
    losses = head.loss_by_feat(*outputs, [s.gt_instances for s in samples], [s.metainfo for s in samples])
    expected = reference_losses(*outputs, samples)
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, rel=1e-4), name


def test_landmark_weights_may_be_given_per_point(kps_model):
    rng = np.random.default_rng(3)
    outputs = random_outputs(rng, 1, True)
    boxes = random_faces(rng, 6)
    visible = rng.integers(0, 2, 6)
    per_face = face_sample(boxes, np.ones((6, 5, 2)), visible)
    per_point = face_sample(boxes, np.ones((6, 5, 2)), np.repeat(visible[:, None], 5, 1))
    head = kps_model.bbox_head
    a, b = (
        head.loss_by_feat(*outputs, [s.gt_instances], [s.metainfo])["loss_landmarks"] for s in (per_face, per_point)
    )
    assert a.item() > 0
    assert a.item() == pytest.approx(b.item())


@pytest.mark.parametrize("counts", [(0, 0), (0, 3), (720, 1)], ids=["no face", "one image without", "720 faces"])
@pytest.mark.parametrize("amp", [False, True], ids=["float32", "amp"])
def test_losses_are_finite_and_every_parameter_gets_a_gradient(counts, amp, kps_model):
    rng = np.random.default_rng(1)
    samples = [face_sample(random_faces(rng, n)) for n in counts]
    kps_model.train()
    kps_model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=amp):
        losses = kps_model.loss(torch.randn(2, 3, 640, 640), samples)
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert losses["loss_cls"] > 0
    assert (losses["loss_bbox"] > 0) == (losses["loss_landmarks"] > 0) == (sum(counts) > 0)
    for name, parameter in kps_model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name


def test_predictions_are_decoded_in_pixels_of_the_original_image(kps_model):
    head = kps_model.bbox_head
    cls, reg, kps = ([torch.full((1, c, s, s), v) for s in (80, 40, 20)] for c, v in ((2, -9.0), (8, 1.0), (20, 0.0)))
    # stride 16, row 5, column 7, second anchor: distances 1 2 3 4, landmark i at (i, −i)
    cls[1][0, 1, 5, 7] = 2.0
    reg[1][0, 4:, 5, 7] = torch.tensor([1.0, 2, 3, 4])
    kps[1][0, 10:, 5, 7] = torch.tensor([[i, -i] for i in range(5)], dtype=torch.float32).flatten()
    meta = dict(img_shape=(640, 150), scale_factor=(0.5, 0.25))
    (faces,) = head.predict_by_feat(cls, reg, kps, batch_img_metas=[meta], rescale=True)
    assert faces.scores.tolist() == pytest.approx([1 / (1 + math.exp(-2))])
    # x: 7·16 − 16 and min(7·16 + 48, 150), over 0.5; y: 5·16 − 32 and 5·16 + 64, over 0.25
    assert faces.bboxes.tolist() == [[192.0, 192.0, 300.0, 576.0]]
    expected = [[(112 + 16 * i) / 0.5, (80 - 16 * i) / 0.25] for i in range(5)]
    assert faces.keypoints[0].tolist() == expected
    assert faces.labels.tolist() == [0]


def test_more_than_a_hundred_faces_survive_and_overlapping_ones_do_not(kps_model):
    head = kps_model.bbox_head
    cls, reg, kps = ([torch.full((1, c, s, s), v) for s in (80, 40, 20)] for c, v in ((2, -9.0), (8, 0.4), (20, 0.0)))
    cls[0][0, 0] = 1.0  # 6,400 boxes of 6.4 pixels, 8 pixels apart
    cls[0][0, 1] = 0.5  # and the same boxes again with a lower score
    faces = head.predict_by_feat(cls, reg, kps, batch_img_metas=[dict(img_shape=(640, 640))])[0]
    assert len(faces) == 6400
    assert faces.scores.min().item() == pytest.approx(1 / (1 + math.exp(-1)))


def test_no_faces_give_empty_results_with_landmark_columns(kps_model):
    maps = [[torch.full((1, c, s, s), -20.0) for s in (80, 40, 20)] for c in (2, 8, 20)]
    meta = dict(img_shape=(640, 640), scale_factor=(1.0, 1.0))
    (faces,) = kps_model.bbox_head.predict_by_feat(*maps, batch_img_metas=[meta], rescale=True)
    assert faces.bboxes.shape == (0, 4)
    assert faces.keypoints.shape == (0, 5, 2)


@pytest.mark.parametrize("topk", [1, 8, 9, 25])
def test_the_nearest_anchors_are_found_everywhere_even_outside_the_image(topk):
    rng = np.random.default_rng(topk)
    levels = [(11, 7, 8), (2, 30, 16), (1, 1, 32)]  # rows, columns, stride
    centers = torch.cat(
        [torch.tensor([(x * s, y * s) for y in range(h) for x in range(w) for _ in "ab"]) for h, w, s in levels]
    ).float()
    counts = [h * w * 2 for h, w, _ in levels]
    targets = torch.from_numpy(rng.uniform(-150, 600, (300, 2)).astype(np.float32))
    targets[:100] = torch.from_numpy(rng.integers(-4, 30, (100, 2)) * 4).float()  # full of ties
    found = SparseATSSAssigner(topk)._nearest(centers, counts, targets)
    start, expected = 0, []
    for count in counts:
        distance = (targets[:, None] - centers[start : start + count]).square().sum(-1)
        expected.append(distance.sort(dim=1, stable=True).indices[:, :topk] + start)
        start += count
    assert torch.equal(found, torch.cat(expected, 1))


def test_anchors_that_an_assigner_leaves_out_get_no_classification_loss(kps_model):
    from mmdet.models.task_modules.assigners import MaxIoUAssigner

    rng = np.random.default_rng(2)
    head, (cls, reg, kps) = kps_model.bbox_head, random_outputs(rng, 1, True)
    cls = [c.requires_grad_() for c in cls]
    sample = face_sample(random_faces(rng, 30))
    anchors, _ = anchors_640()
    assigner, own = MaxIoUAssigner(pos_iou_thr=0.5, neg_iou_thr=0.35), head.assigner
    head.assigner = assigner
    try:
        head.loss_by_feat(cls, reg, kps, [sample.gt_instances], [sample.metainfo])["loss_cls"].backward()
    finally:
        head.assigner = own
    gradient = torch.cat([c.grad[0].permute(1, 2, 0).flatten() for c in cls])
    assigned = assigner.assign(InstanceData(priors=anchors), sample.gt_instances).gt_inds
    assert (assigned < 0).sum() > 20
    assert torch.equal(gradient != 0, assigned >= 0)


def resnet_v1e_by_hand(state, x, blocks, bottleneck):
    """ResNet-v1d with a 2×2 max pool, written out; ``state`` holds the backbone's tensors."""

    def conv(x, conv_name, norm_name, stride=1):
        weight = state[f"{conv_name}.weight"]
        x = functional.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2)
        names = ("running_mean", "running_var", "weight", "bias")
        return functional.batch_norm(x, *(state[f"{norm_name}.{name}"] for name in names))

    for i in range(3):
        x = conv(x, f"stem.{i}.conv", f"stem.{i}.bn", stride=2 if i == 0 else 1).relu()
    x = x.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).amax((3, 5))
    features = []
    for stage, count in enumerate(blocks):
        for block in range(count):
            name, stride = f"stages.{stage}.{block}", 2 if stage and not block else 1
            last, strided = (3, 2) if bottleneck else (2, 1)
            y = x
            for i in range(1, last + 1):
                y = conv(y, f"{name}.conv{i}", f"{name}.bn{i}", stride if i == strided else 1)
                y = y.relu() if i < last else y
            if f"{name}.downsample.1.weight" in state:
                if stride == 2:
                    x = x.unflatten(2, (-1, 2)).unflatten(4, (-1, 2)).mean((3, 5))
                x = conv(x, f"{name}.downsample.1", f"{name}.downsample.2")
            x = (x + y).relu()
        features.append(x)
    return features


@pytest.mark.parametrize(("name", "bottleneck"), [("scrfd_2.5g", False), ("scrfd_34g", True)])
def test_resnet_v1e_computes_what_its_description_says(name, bottleneck):
    backbone = random_model(name).backbone
    x = torch.randn(1, 3, 64, 96)
    blocks = [len(stage) for stage in backbone.stages]
    with torch.inference_mode():
        for ours, expected in zip(
            backbone(x), resnet_v1e_by_hand(backbone.state_dict(), x, blocks, bottleneck), strict=True
        ):
            assert torch.allclose(ours, expected, rtol=1e-3, atol=1e-4)
