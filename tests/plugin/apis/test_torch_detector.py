"""The PyTorch detector and mmdet's inferencer against ONNX Runtime on the published files."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("mmdet")

from facedet_mm import build_detector  # noqa: E402
from facedet_mm.errors import ModelError  # noqa: E402
from facedet_mm.io.images import read_image  # noqa: E402
from facedet_mm.plugin.apis.build import build_model  # noqa: E402
from facedet_mm.plugin.apis.checkpoint import save_checkpoint  # noqa: E402
from facedet_mm.plugin.apis.convert import convert  # noqa: E402
from facedet_mm.plugin.apis.inferencer import FaceDetInferencer  # noqa: E402
from facedet_mm.plugin.apis.torch_detector import TorchDetector  # noqa: E402
from facedet_mm.zoo import asset_path, config_path  # noqa: E402

IMAGE = asset_path("solvay_1927.jpg")


@pytest.fixture(scope="module")
def weights(data, tmp_path_factory):
    """Official weights, converted, and the published ONNX file of the same models."""
    folder = tmp_path_factory.mktemp("weights")
    convert(data / "weights" / "scrfd_500m_bnkps.pth", folder / "kps.pth", read_image(IMAGE))
    convert(data / "weights" / "scrfd_500m.onnx", folder / "plain.pth", read_image(IMAGE))
    return {
        "scrfd_0.5g_kps": (folder / "kps.pth", data / "weights" / "scrfd_500m_bnkps.onnx"),
        "scrfd_0.5g": (folder / "plain.pth", data / "weights" / "scrfd_500m.onnx"),
    }


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("random") / "random.pth"
    save_checkpoint({"meta": {}, "state_dict": build_model(config_path("scrfd_0.5g_kps")).state_dict()}, path)
    return path


def assert_same_faces(a, b, tolerance=0.1):
    assert len(a) == len(b)
    assert np.abs(a.boxes - b.boxes).max() < tolerance
    assert np.abs(a.scores - b.scores).max() < 1e-4
    assert (a.landmarks is None) == (b.landmarks is None)
    if a.landmarks is not None:
        assert np.abs(a.landmarks - b.landmarks).max() < tolerance


@pytest.mark.parametrize("size", [640, (640, 480), "auto", "original"])
@pytest.mark.parametrize("name", ["scrfd_0.5g_kps", "scrfd_0.5g"])
def test_both_detectors_find_the_same_faces_on_the_same_weights(name, size, weights, data):
    checkpoint, onnx = weights[name]
    settings = dict(score_thr=0.3, iou_thr=0.45, input_size=size)
    ours = build_detector(name, checkpoint, device="cpu", **settings)
    theirs = build_detector(name, onnx, **settings)
    images = sorted((data / "wider" / "WIDER_val" / "images" / "54--Rescue").glob("*.jpg"))[:3]
    assert isinstance(ours, TorchDetector)
    assert type(theirs) is not TorchDetector
    found = [ours.detect(path) for path in images]
    assert sum(map(len, found)) > 5
    for path, faces in zip(images, found, strict=True):
        assert_same_faces(faces, theirs.detect(path))


def test_a_batch_gives_what_single_images_give(weights, data):
    detector = build_detector("scrfd_0.5g_kps", weights["scrfd_0.5g_kps"][0], device="cpu", input_size="auto")
    images = [IMAGE, data / "images" / "obama_and_biden.jpg", read_image(IMAGE)[:, ::-1].copy()]
    batch = detector.detect_batch(images)
    assert [len(faces) for faces in batch] == [29, 3, 29]  # people, and one in a framed image
    for image, faces in zip(images, batch, strict=True):
        assert_same_faces(detector.detect(image), faces, tolerance=0.01)


def test_the_inferencer_gives_what_the_detector_gives_in_mmdets_form(weights):
    checkpoint = weights["scrfd_0.5g_kps"][0]
    inferencer = FaceDetInferencer("scrfd_0.5g_kps", checkpoint, device="cpu", show_progress=False)
    result = inferencer(str(IMAGE))["predictions"][0]
    settings = dict(score_thr=0.02, iou_thr=0.45, close_ups=False)  # the inferencer looks once
    faces = build_detector("scrfd_0.5g_kps", checkpoint, device="cpu", **settings).detect(IMAGE)
    assert len(faces) > 29
    assert np.abs(np.array(result["bboxes"]) - faces.boxes).max() < 1e-2
    assert np.abs(np.array(result["scores"]) - faces.scores).max() < 1e-5
    assert np.abs(np.array(result["keypoints"]) - faces.landmarks).max() < 1e-2


@pytest.mark.parametrize("shape", [(1, 1), (10, 20000), (20000, 10), (33, 65)])
def test_images_of_any_shape_pass(shape, random_weights):
    detector = TorchDetector("scrfd_0.5g_kps", random_weights, device="cpu")
    faces = detector.detect(np.full((*shape, 3), 90, np.uint8))
    assert faces.boxes.shape == (len(faces), 4)
    inferencer = FaceDetInferencer("scrfd_0.5g_kps", random_weights, device="cpu", show_progress=False)
    assert len(inferencer(np.full((*shape, 3), 90, np.uint8))["predictions"]) == 1


def test_weights_of_another_model_are_refused_with_both_names(random_weights):
    with pytest.raises(ModelError, match=r"random\.pth: the weights do not fit the config"):
        TorchDetector(config_path("scrfd_2.5g"), random_weights, device="cpu")


def test_unconverted_official_weights_are_refused_with_the_remedy(data):
    with pytest.raises(ModelError, match=r"run tools/convert_insightface\.py"):
        TorchDetector("scrfd_0.5g_kps", data / "weights" / "scrfd_500m_bnkps.pth", device="cpu")


def test_a_config_that_is_no_config_is_refused(tmp_path, random_weights):
    broken = tmp_path / "broken.py"
    broken.write_text("model = dict(type=")
    with pytest.raises(ModelError, match="cannot be read"):
        TorchDetector(broken, random_weights, device="cpu")
    with pytest.raises(ModelError, match="no such config"):
        TorchDetector(tmp_path / "missing.py", random_weights, device="cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="the machine has a GPU")
def test_a_device_that_is_not_there_is_refused(random_weights):
    with pytest.raises(ModelError, match="device 'cuda:0' cannot be used"):
        TorchDetector("scrfd_0.5g_kps", random_weights, device="cuda:0")
