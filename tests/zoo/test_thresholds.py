"""The score threshold of a model: by its name, by its file, by what its file says."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnx
import pytest

from facedet_mm import build_detector
from facedet_mm.cli import build_parser, export
from facedet_mm.detectors import OnnxDetector
from facedet_mm.errors import FaceDetError
from facedet_mm.io.images import read_image
from facedet_mm.zoo import MODELS, asset_path, recommended_score_thr
from facedet_mm.zoo.registry import ZooModel

YUNET = asset_path("yunet_n_dynamic.onnx")
OWN = MODELS["yunet_n"].score_thr
UNKNOWN_FIELD = bytes([0xFA, 0x7F, 0x01, 0x00])
"""Makes another file of the same network, as a field of the outermost message."""


def other_file(folder: Path, metadata: str = "") -> Path:
    """The bundled network in a file that the table does not know."""
    model = onnx.load(YUNET)
    onnx.helper.set_model_props(model, {"facedet_mm": metadata} if metadata else {"mine": "yes"})
    onnx.save(model, folder / "other.onnx")
    return folder / "other.onnx"


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_a_model_that_was_not_measured_has_one_half(model: ZooModel) -> None:
    if model.at_score_thr is None:
        assert model.score_thr == 0.5
    else:
        precision, recall = model.at_score_thr
        assert 90 < precision < 100
        assert 20 < recall < 60
        assert 0.4 < model.score_thr < 0.8


def test_the_default_of_a_model_name_is_its_own_threshold() -> None:
    detector = build_detector()
    assert detector.options.score_thr == OWN == recommended_score_thr("yunet_n") != 0.5
    image = read_image(asset_path("solvay_1927.jpg"))[::8, ::8]
    scores = build_detector(score_thr=0.1).detect(image).scores
    assert detector.detect(image).scores.tolist() == scores[scores > OWN].tolist()
    assert 0 < (scores > OWN).sum() < (scores > 0.5).sum()


def test_a_published_file_is_known_by_its_content_under_any_name(tmp_path: Path) -> None:
    copy, longer, other = tmp_path / "a.onnx", tmp_path / "b.onnx", tmp_path / "c.onnx"
    content = YUNET.read_bytes()
    copy.write_bytes(content)
    longer.write_bytes(content + UNKNOWN_FIELD)
    other.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert [recommended_score_thr(path) for path in (copy, str(copy), longer, other)] == [OWN, OWN, 0.5, 0.5]
    assert build_detector(copy).options.score_thr == OnnxDetector(copy).options.score_thr == OWN
    assert build_detector(longer).options.score_thr == 0.5
    assert recommended_score_thr(tmp_path) == recommended_score_thr(tmp_path / "none") == 0.5
    assert recommended_score_thr("a\0b.onnx") == 0.5


def test_files_are_read_only_if_their_size_is_that_of_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "large.onnx"
    path.write_bytes(bytes(MODELS["yunet_n"].size + 1))
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail(f"{self} is read"))
    assert recommended_score_thr(path) == 0.5


def test_a_model_name_beside_a_file_tells_the_threshold(tmp_path: Path) -> None:
    assert build_detector("yunet_n", other_file(tmp_path)).options.score_thr == OWN


@pytest.mark.parametrize(
    ("metadata", "threshold"),
    [
        ('{"name": "yunet_n"}', OWN),
        ('{"name": "mine"}', 0.5),
        ('{"name": ["yunet_n"]}', 0.5),
        ('{"name": null}', 0.5),
        ('{"name": "mine", "score_thr": 0.6}', 0.6),
        ('{"name": "mine", "score_thr": 0.02}', 0.5),
        ('{"name": "yunet_n", "score_thr": 0.9}', 0.9),
    ],
)
def test_what_a_file_says_of_its_model_and_of_the_nms_in_it_counts(
    metadata: str, threshold: float, tmp_path: Path
) -> None:
    assert build_detector(other_file(tmp_path, metadata)).options.score_thr == threshold


@pytest.mark.parametrize("explicit", [0.0, 0.02, 0.5, 1.0])
def test_an_explicit_threshold_wins_and_stays_until_another_is_asked_for(explicit: float) -> None:
    detector = build_detector(score_thr=explicit)
    assert detector.options.score_thr == explicit
    assert detector.replace(iou_thr=0.3).options.score_thr == explicit
    assert detector.replace(score_thr=None).options.score_thr == OWN
    assert build_detector().replace(score_thr=explicit).options.score_thr == explicit


def test_openvino_has_the_same_defaults(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    assert build_detector(device="openvino").options.score_thr == OWN
    assert build_detector(other_file(tmp_path), device="openvino").options.score_thr == 0.5


def test_official_files_with_and_without_a_name(data: Path) -> None:
    weights = data / "weights"
    assert build_detector(weights / "scrfd_500m.onnx").options.score_thr == MODELS["scrfd_0.5g"].score_thr
    assert build_detector(weights / "scrfd_500m_bnkps_640.onnx").options.score_thr == 0.5
    named = build_detector("scrfd_0.5g_kps", weights / "scrfd_500m_bnkps_640.onnx")
    assert named.options.score_thr == MODELS["scrfd_0.5g_kps"].score_thr


def test_a_threshold_that_is_no_number_is_refused() -> None:
    with pytest.raises(FaceDetError, match="score_thr must be a number from 0 to 1 or None, not 'auto'"):
        build_detector(score_thr="auto")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "threshold"),
    [("yunet_n", OWN), ("scrfd_34g", 0.5), ("configs/scrfd_1g.py", 0.5), ("yunet_n --score-thr 0", 0.0)],
)
def test_nms_in_an_exported_file_has_the_models_own_threshold(
    words: str, threshold: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, Any] = {}

    def spec(*_: object, **settings: Any) -> None:
        given.update(settings)
        raise FaceDetError("enough")

    monkeypatch.setattr(export, "_exporter", lambda: SimpleNamespace(GraphSpec=spec))
    name, *more = words.split()
    args = build_parser("export").parse_args(["export", name, "x.pth", "-o", str(tmp_path / "m.onnx"), *more])
    with pytest.raises(FaceDetError, match="enough"):
        export.run(args)
    assert given["score_thr"] == threshold
