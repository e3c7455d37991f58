"""MMDetection's predictions as ``Faces``."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmdet")

from mmengine.structures import InstanceData  # noqa: E402

from facedet_mm.plugin.models.instances import faces_from_instances  # noqa: E402


@pytest.mark.parametrize("with_landmarks", [True, False])
def test_boxes_scores_and_landmarks_are_kept(with_landmarks):
    instances = InstanceData(bboxes=torch.tensor([[1.0, 2, 3, 4], [5, 6, 7, 8]]), scores=torch.tensor([0.9, 0.4]))
    if with_landmarks:
        instances.keypoints = torch.arange(20.0).reshape(2, 5, 2)
    faces = faces_from_instances(instances)
    assert faces.boxes.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert faces.scores.tolist() == pytest.approx([0.9, 0.4])
    if with_landmarks:
        assert np.array_equal(faces.landmarks, np.arange(20.0).reshape(2, 5, 2))
    else:
        assert faces.landmarks is None


def test_no_predictions_are_no_faces():
    faces = faces_from_instances(
        InstanceData(bboxes=torch.zeros(0, 4), scores=torch.zeros(0), keypoints=torch.zeros(0, 5, 2))
    )
    assert len(faces) == 0
    assert faces.landmarks.shape == (0, 5, 2)
