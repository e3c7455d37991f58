"""Models with random weights, faces with known boxes, and a checkpoint that runs code."""

from __future__ import annotations

import math
import os

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from torch import nn

from facedet_mm.plugin.apis.build import build_model
from facedet_mm.zoo import config_path


def face_sample(boxes, landmarks=None, visible=None):
    """Returns the ground truth of an image: boxes (G, 4), landmarks (G, 5, 2) and their weights."""
    boxes = torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    n = len(boxes)
    gt = InstanceData(bboxes=boxes, labels=torch.zeros(n, dtype=torch.long))
    gt.keypoints = torch.zeros(n, 5, 2) if landmarks is None else torch.as_tensor(landmarks, dtype=torch.float32)
    gt.keypoints_visible = torch.ones(n) if visible is None else torch.as_tensor(visible, dtype=torch.float32)
    return DetDataSample(gt_instances=gt, metainfo=dict(img_shape=(640, 640), batch_input_shape=(640, 640)))


def random_faces(rng, n, size=640, smallest=6, largest=300):
    """Returns ``n`` random boxes (n, 4), x1 y1 x2 y2, whose centers lie in a square image."""
    side = np.exp(rng.uniform(math.log(smallest), math.log(largest), (n, 1))) * np.exp(rng.normal(0, 0.15, (n, 2)))
    center = rng.uniform(0, size, (n, 2))
    return np.concatenate([center - side / 2, center + side / 2], 1).astype(np.float32)


def random_model(name, seed=0):
    """Returns a model with random weights, running statistics and scales, whose outputs have a moderate size."""
    torch.manual_seed(seed)
    model = build_model(config_path(name)).eval()
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm2d, nn.GroupNorm)):
            nn.init.uniform_(module.weight, 0.6, 1.2)
            nn.init.normal_(module.bias, 0, 0.1)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.5)
    for i, scale in enumerate(model.bbox_head.scales):
        if hasattr(scale, "scale"):
            nn.init.constant_(scale.scale, 0.7 + 0.3 * i)
    return model


class Malicious:
    """Creates a folder when it is unpickled."""

    def __init__(self, target):
        self.target = str(target)

    def __reduce__(self):
        return os.mkdir, (self.target,)
