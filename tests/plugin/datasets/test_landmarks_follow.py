"""Landmarks follow every transform that is registered with MMDetection or MMCV, or it is refused by name."""

from __future__ import annotations

import copy
import random

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmdet")

from mmdet.registry import TRANSFORMS  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402

from facedet_mm.errors import TrainingError  # noqa: E402
from facedet_mm.plugin.datasets.transforms import FaceBoxes, PackFaceInputs, check_transforms  # noqa: E402

COLORS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 0], [0, 255, 255]])
"""BGR of the five landmarks, left eye first; a mirrored face has the colors of the other side."""
MIRRORED = [1, 0, 2, 4, 3]
SIZE = (300, 360)

ARGUMENTS = {
    "AutoAugment": dict(policies=[[dict(type="ShearX", level=5), dict(type="RandomFlip", prob=1.0)]]),
    "CachedMixUp": dict(img_scale=(300, 300)),
    "CachedMosaic": dict(img_scale=(320, 320)),
    "CutOut": dict(n_holes=1, cutout_shape=(4, 4)),
    "Expand": dict(ratio_range=(1.2, 1.5), prob=1.0),
    "FilterAnnotations": dict(min_gt_bbox_wh=(1, 1)),
    "FixScaleResize": dict(scale=(400, 380), keep_ratio=True),
    "FixShapeResize": dict(width=400, height=330, keep_ratio=False),
    "GeomTransform": dict(prob=1.0, level=10, min_mag=0.0, max_mag=1.0),
    "KeepRatioResize": dict(scale=(400, 400)),
    "MixUp": dict(img_scale=(300, 300)),
    "Mosaic": dict(img_scale=(320, 320)),
    "Normalize": dict(mean=[0, 0, 0], std=[1, 1, 1], to_rgb=False),
    "Pad": dict(size=(420, 400)),
    "RandAugment": dict(
        aug_space=[[dict(type="ShearX", level=5)], [dict(type="Rotate", level=5)], [dict(type="TranslateY", level=5)]]
    ),
    "RandomAffine": dict(max_rotate_degree=25),
    "RandomApply": dict(transforms=[dict(type="RandomFlip", prob=1.0, direction="diagonal")], prob=1.0),
    "RandomCenterCropPad": dict(
        crop_size=(320, 320), ratios=(0.9, 1.1), mean=[0, 0, 0], std=[1, 1, 1], to_rgb=False, test_pad_mode=None
    ),
    "RandomChoice": dict(transforms=[[dict(type="RandomFlip", prob=1.0)], [dict(type="Resize", scale_factor=1.2)]]),
    "RandomChoiceResize": dict(scales=[(300, 300), (480, 480)], resize_type="Resize", keep_ratio=False),
    "RandomCrop": dict(crop_size=(0.8, 0.8), crop_type="relative", bbox_clip_border=True),
    "RandomFaceErasing": dict(n_patches=1, ratio=0.01),
    "RandomFaceFlip": dict(prob=1.0),
    "RandomFaceRotation": dict(prob=1.0),
    "RandomFlip": dict(prob=[0.3, 0.3, 0.3], direction=["horizontal", "vertical", "diagonal"]),
    "RandomFlip_GLIP": dict(prob=1.0),
    "RandomGammaDark": dict(gamma=(1.1, 1.2), prob=1.0),
    "RandomGrayscale": dict(prob=1.0, keep_channels=True),
    "RandomOrder": dict(transforms=[dict(type="RandomFlip", prob=1.0), dict(type="Resize", scale_factor=1.2)]),
    "RandomResize": dict(scale=[(300, 300), (480, 480)], resize_type="Resize", keep_ratio=True),
    "RandomShift": dict(prob=1.0, max_shift_px=40),
    "RandomSquareCrop": dict(scales=(0.8, 1.0, 1.3), size=320),
    "Resize": dict(scale=(400, 330), keep_ratio=False),
    "ResizeShortestEdge": dict(scale=330, max_size=500, resize_type="Resize", keep_ratio=True),
    "Rotate": dict(prob=1.0, level=8),
    "ShearX": dict(prob=1.0, level=5),
    "ShearY": dict(prob=1.0, level=5),
    "TranslateX": dict(prob=1.0, level=5),
    "TranslateY": dict(prob=1.0, level=5),
}
COLORING = {
    "AutoContrast", "Brightness", "Color", "ColorTransform", "Contrast", "Equalize", "FacePhotoMetricDistortion",
    "Invert", "PhotoMetricDistortion", "Posterize", "RandomGrayscale", "Sharpness", "Solarize", "SolarizeAdd",
    "YOLOXHSVRandomAug", "RandomGaussianBlur", "RandomJPEG",
}  # fmt: skip
"""Changes colors: there, edges show where the landmarks are."""
NOT_FOR_FACES = {
    "load": {
        "LoadAnnotations", "LoadEmptyAnnotations", "LoadFaceAnnotations", "LoadFaceImage", "LoadImageFromFile",
        "LoadImageFromNDArray", "LoadMultiChannelImageFromFiles", "LoadPanopticAnnotations", "LoadProposals",
        "LoadTextAnnotations", "LoadTrackAnnotations", "InferencerLoader",
    },
    "pack": {
        "ImageToTensor", "PackDetInputs", "PackFaceInputs", "PackLineDetectionInputs", "PackReIDInputs",
        "PackTrackInputs", "ToTensor", "Transpose", "WrapFieldsToLists",
    },
    "run others, which the check looks into": {
        "Compose", "KeyMapper", "MultiBranch", "MultiScaleFlipAug", "ProposalBroadcaster", "TestTimeAug",
        "TransformBroadcaster",
    },
    "are for videos, texts, masks or lanes": {
        "BaseFrameSample", "ImageAug", "LinesToArray", "RandomSamplingNegPos", "SegRescale", "UniformRefFrameSample",
    },
}  # fmt: skip
REFUSED = {"Albu", "CenterCrop", "CopyPaste", "GTBoxSubOne_GLIP", "InstaBoost", "RandomErasing"}


def registered():
    """Names of all transforms, those of MMCV with their scope where MMDetection has one of the same name."""
    own = TRANSFORMS.module_dict
    parent = {f"mmengine.{name}" if name in own else name for name in TRANSFORMS.parent.module_dict}
    return sorted(set(own) | parent)


def sample(seed=0, faces=1):
    """An image with upright white faces on gray and a block of its own color at each landmark."""
    rng = np.random.default_rng(seed)
    image = np.full((*SIZE, 3), 60, np.uint8)
    boxes, points = [], []
    for i in range(faces):
        x, y = 110 + 10 * rng.integers(0, 5), 90 + 10 * rng.integers(0, 5) - 80 * i
        cv2.rectangle(image, (int(x), int(y)), (int(x + 80), int(y + 90)), (255, 255, 255), -1)
        eyes = np.array([[20, 26], [60, 26], [40, 46], [24, 70], [56, 70]]) + np.array([x, y])
        for (px, py), color in zip(eyes, COLORS, strict=True):
            image[py - 7 : py + 7, px - 7 : px + 7] = color
        boxes.append([x, y, x + 80, y + 90])
        points.append(np.concatenate([eyes, np.ones((5, 1))], 1))
    boxes, points = np.array(boxes, np.float32).reshape(-1, 4), np.array(points, np.float32).reshape(-1, 5, 3)
    return dict(
        img=image,
        img_path="image.png",
        img_shape=SIZE,
        ori_shape=SIZE,
        gt_bboxes=FaceBoxes(torch.from_numpy(boxes), points),
        gt_bboxes_labels=np.zeros(len(boxes), np.int64),
        gt_ignore_flags=np.zeros(len(boxes), bool),
        with_keypoints=True,
    )


def block_center(image, point, color):
    """Center of the pixels of a color, at any brightness, around a point; ``None`` if there are fewer than ten."""
    x0, y0 = (max(0, round(float(v)) - 14) for v in point)
    window = image[y0 : int(point[1]) + 15, x0 : int(point[0]) + 15].astype(float)
    brightest = window.max(2, keepdims=True)
    alike = (np.abs(window / np.maximum(brightest, 1) - color / 255) < 0.35).all(2) & (brightest[..., 0] > 50)
    rows, columns = np.nonzero(alike)
    return np.array([columns.mean() + x0 + 0.5, rows.mean() + y0 + 0.5]) if len(rows) >= 10 else None


def landmarks_on_their_color(out):
    """Returns the number of landmarks that are seen in an image, after looking that each is on its block."""
    height, width = out["img"].shape[:2]
    faces, seen = out["gt_bboxes"], 0
    image = np.asarray(out["img"])
    assert len(faces) == len(faces.landmarks) == len(out["gt_bboxes_labels"]) == len(out["gt_ignore_flags"])
    for points, weights, box in zip(faces.keypoints, faces.keypoints_visible, faces.numpy(), strict=True):
        for point, weight, color, other in zip(points, weights, COLORS, COLORS[MIRRORED], strict=True):
            if weight == 0 or (point < 9).any() or (point > (width - 9, height - 9)).any():
                continue
            centers = [block_center(image, point, c) for c in (color, other)]
            distances = [9 if center is None else np.abs(center - point).max() for center in centers]
            assert min(distances) < 1.7, (point, distances)
            assert (point >= box[:2] - 1).all()
            assert (point <= box[2:] + 1).all()
            seen += 1
        if (weights > 0).all():
            to_the_right, down = points[1] - points[0], points[3] - points[0]
            assert np.linalg.det([to_the_right, down]) > 0, "the landmarks are in the order of a mirrored face"
    return seen


@pytest.fixture(autouse=True)
def _scope():
    init_default_scope("mmdet")


@pytest.mark.parametrize("name", registered())
def test_landmarks_follow_or_the_transform_is_refused_by_name(name):
    short = name.removeprefix("mmengine.")
    pipeline = [dict(type="LoadFaceAnnotations"), dict(type=name)]
    if short in REFUSED or name in ("mmengine.Resize", "mmengine.RandomFlip"):
        with pytest.raises(TrainingError, match=f"^{short} in the training pipeline .*: take "):
            check_transforms(pipeline)
        check_transforms([dict(type="LoadFaceAnnotations", with_keypoints=False), dict(type=name)])
        return
    check_transforms(pipeline)
    if any(short in names for names in NOT_FOR_FACES.values()):
        return
    transform = TRANSFORMS.build(dict(type=name, **ARGUMENTS.get(short, {})))
    seen = 0
    for seed in range(12):
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        data = sample(seed)
        if short == "RandomCenterCropPad":
            data["img"] = data["img"].astype(np.float32)
        if hasattr(transform, "get_indexes") or hasattr(transform, "get_indices"):
            data["mix_results"] = [sample(seed + i, faces=i % 2) for i in range(1, 4)]
            transform.results_cache = [sample(seed + i) for i in (1, 2)]
            if "MixUp" in short:  # each face is blended with black
                data = sample(seed, faces=0) | dict(mix_results=[sample(seed + 1)])
                data["img"][:] = 0
        before = copy.deepcopy(data)
        out = transform(data)
        if out is None:
            continue
        if short in COLORING:
            assert (out["gt_bboxes"].landmarks == before["gt_bboxes"].landmarks).all()
            edges = [cv2.Canny(np.asarray(image["img"]).astype(np.uint8), 20, 60) > 0 for image in (before, out)]
            near = cv2.dilate(edges[1].astype(np.uint8), np.ones((5, 5))) > 0
            assert (edges[0] & near).sum() > 0.5 * edges[0].sum()
            seen += 5
        else:
            seen += landmarks_on_their_color(out)
        if "with_keypoints" in out:
            packed = PackFaceInputs(meta_keys=())(out)["data_samples"].gt_instances
            assert isinstance(packed, InstanceData)
            assert len(packed.keypoints) == len(packed.bboxes)
    assert seen >= 15


def test_nested_transforms_are_looked_into():
    inner = [dict(type="RandomApply", transforms=[dict(type="RandomErasing")])]
    steps = [dict(type="LoadFaceAnnotations"), dict(type="RandomChoice", transforms=[inner])]
    with pytest.raises(TrainingError, match=r"RandomErasing .* take RandomFaceErasing"):
        check_transforms(steps)


def test_a_landmark_that_clipping_cuts_off_is_not_learned():
    faces = sample()["gt_bboxes"]
    faces.translate_([-faces.keypoints[0, 0, 0] - 1, 0])  # left of the image: the left eye
    faces.clip_(SIZE)
    assert faces.keypoints_visible[0].tolist() == [0, 1, 1, 1, 1]


def test_boxes_that_an_unknown_transform_makes_are_not_packed_without_their_landmarks():
    data = sample()
    data["gt_bboxes"] = data["gt_bboxes"].convert_to("hbox")
    with pytest.raises(TrainingError, match="lost the landmarks"):
        PackFaceInputs()(data)
    with pytest.raises(TrainingError, match="landmarks would be lost"):
        sample()["gt_bboxes"].expand(2, 1, 4)
    with pytest.raises(TrainingError, match="faces without"):
        FaceBoxes.cat([sample()["gt_bboxes"], data["gt_bboxes"]])


@pytest.mark.parametrize("angle", [30.0, 90.0, -120.0])
def test_a_rotation_and_the_homography_of_it_move_landmarks_alike(angle):
    matrix = np.eye(3)
    matrix[:2] = cv2.getRotationMatrix2D((100, 80), -angle, 1)
    turned, projected = sample()["gt_bboxes"], sample()["gt_bboxes"]
    turned.rotate_((100, 80), angle)
    projected.project_(matrix)
    assert torch.allclose(turned.tensor, projected.tensor, atol=1e-3)
    points = sample()["gt_bboxes"].keypoints[0] @ matrix[:2, :2].T + matrix[:2, 2]
    np.testing.assert_allclose(turned.keypoints[0], points, atol=1e-3)


def test_copies_share_nothing():
    faces = sample()["gt_bboxes"]
    for other in (faces.clone(), copy.deepcopy(faces)):
        other.landmarks += 5
        other.tensor += 5
        assert not (other.landmarks == faces.landmarks).any()
        assert not (other.tensor == faces.tensor).any()
