"""The WIDER FACE protocol: against published figures, against a slow independent reference, and worked by hand."""

from __future__ import annotations

import tarfile
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat
from wider_samples import SETTINGS, cell, make_sample, slow_ap, write_mat_files, write_submission

from facedet_mm.datasets import GroundTruth, Predictions, read_ground_truth, read_predictions
from facedet_mm.errors import AnnotationError
from facedet_mm.evaluation import evaluate

KNOWN_AP = {
    "retinaface_a": (94.483739, 92.447066, 81.532504),
    "yolov5_face": (94.385918, 92.521407, 82.737622),
}


def corners(boxes: np.ndarray) -> np.ndarray:
    boxes = np.array(boxes, float).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def to_ground_truth(faces: dict) -> GroundTruth:
    boxes = [corners(b) for b, _ in faces.values()]
    masks = {setting: np.concatenate([m[setting] for _, m in faces.values()]) for setting in SETTINGS}
    return GroundTruth(tuple(faces), np.cumsum([0, *map(len, boxes)]), np.concatenate(boxes), masks)


def to_predictions(detections: dict) -> Predictions:
    return Predictions.from_images((name, corners(boxes), scores) for name, (boxes, scores) in detections.items())


def ap_of(faces: list, detections: list, ignored: tuple[int, ...] = (), iou_thr: float = 0.5) -> float:
    """AP of one image with faces and detections as x1 y1 x2 y2 (score); ``ignored`` faces are outside the setting."""
    counted = np.array([i not in ignored for i in range(len(faces))], bool)
    boxes = np.array(faces, float).reshape(-1, 4)
    ground_truth = GroundTruth(("e/a",), np.array([0, len(boxes)]), boxes, {"all": counted})
    rows = np.array(detections, float).reshape(-1, 5)
    return evaluate(Predictions.from_images([("e/a", rows[:, :4], rows[:, 4])]), ground_truth, iou_thr).ap["all"]


@pytest.mark.parametrize("name", KNOWN_AP)
def test_real_predictions_score_what_an_independent_implementation_found(data: Path, tmp_path: Path, name: str) -> None:
    with tarfile.open(data / "predictions" / f"{name}.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    result = evaluate(read_predictions(tmp_path / name), read_ground_truth(data / "wider" / "ground_truth"))
    np.testing.assert_allclose([100 * ap for ap in result.ap.values()], KNOWN_AP[name], atol=1e-6, rtol=0)


@pytest.mark.parametrize("seed", range(60))
def test_random_sets_score_what_the_slow_protocol_gives(seed: int) -> None:
    faces, detections = make_sample(seed)
    iou_thr = (0.5, 0.3, 0.75)[seed % 3]
    result = evaluate(to_predictions(detections), to_ground_truth(faces), iou_thr)
    for setting in SETTINGS:
        if any(masks[setting].any() for _, masks in faces.values()):
            assert result.ap[setting] == pytest.approx(slow_ap(faces, detections, setting, iou_thr), abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_images_too_large_for_one_matrix_score_the_same(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    faces, detections = make_sample(seed, images=8)
    monkeypatch.setattr("facedet_mm.evaluation.wider_face._PAIRS_AT_ONCE", 6)
    result = evaluate(to_predictions(detections), to_ground_truth(faces))
    assert result.ap["hard"] == pytest.approx(slow_ap(faces, detections, "hard"), abs=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_files_in_the_official_layouts_score_what_the_slow_protocol_gives(tmp_path: Path, seed: int) -> None:
    faces, detections = make_sample(seed, images=12)
    ground_truth = read_ground_truth(write_mat_files(tmp_path / "ground_truth", faces))
    predictions = read_predictions(write_submission(tmp_path / "predictions", detections))
    result = evaluate(predictions, ground_truth)
    for setting in SETTINGS:
        assert result.ap[setting] == pytest.approx(slow_ap(faces, detections, setting), abs=1e-12)


def test_one_of_two_faces_found_before_a_false_positive_gives_one_half() -> None:
    assert ap_of([[0, 0, 9, 9], [50, 0, 59, 9]], [[0, 0, 9, 9, 0.9], [90, 90, 99, 99, 0.1]]) == 0.5


def test_a_second_detection_on_the_same_face_is_a_false_positive() -> None:
    faces = [[0, 0, 9, 9], [50, 0, 59, 9]]
    once = [[0, 0, 9, 9, 0.9], [50, 0, 59, 9, 0.1]]
    assert ap_of(faces, once) == 1
    assert ap_of(faces, [*once, [0, 0, 9, 8, 0.5]]) == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_a_second_detection_does_not_fall_back_to_another_face_it_overlaps() -> None:
    faces = [[0, 0, 99, 99], [0, 20, 99, 119]]
    detections = [[0, 0, 99, 99, 0.9], [0, 5, 99, 104, 0.5], [0, 20, 99, 119, 0.1]]
    assert ap_of(faces, detections) == pytest.approx(0.5 + 0.5 * 2 / 3)


def test_a_detection_on_a_face_outside_the_setting_is_neither_right_nor_wrong() -> None:
    faces = [[0, 0, 9, 9], [50, 0, 59, 9]]
    detections = [[50, 0, 59, 9, 0.9], [50, 0, 59, 9, 0.8], [0, 0, 9, 9, 0.1]]
    assert ap_of(faces, detections, ignored=(1,)) == 1


def test_of_equal_overlaps_the_first_face_wins() -> None:
    twice = [[0, 0, 9, 9], [0, 0, 9, 9]]
    assert ap_of(twice, [[0, 0, 9, 9, 0.9]], ignored=(1,)) == 1
    assert ap_of(twice, [[0, 0, 9, 9, 0.9]], ignored=(0,)) == 0


def test_overlap_counts_the_last_pixel() -> None:
    """A face of 10 × 10 pixels and a detection of 10 × 5: one half with the pixel convention, 36/81 without."""
    assert ap_of([[0, 0, 9, 9]], [[0, 0, 9, 4, 0.9]]) == 1
    assert ap_of([[0, 0, 9, 9]], [[0, 0, 9, 3.9, 0.9]]) == 0


def test_a_face_without_area_is_one_pixel() -> None:
    assert ap_of([[5, 5, 5, 5]], [[5, 5, 5, 5, 0.9]]) == 1


def test_a_higher_threshold_asks_for_more_overlap() -> None:
    detection = [[0, 0, 9, 7, 0.9]]
    assert [ap_of([[0, 0, 9, 9]], detection, iou_thr=thr) for thr in (0.5, 0.8, 0.81)] == [1, 1, 0]


@pytest.mark.parametrize("thr", [0, -0.1, 1.1, float("nan")])
def test_a_threshold_outside_0_to_1_is_refused(thr: float) -> None:
    with pytest.raises(ValueError, match="iou_thr must be above 0 and at most 1"):
        ap_of([[0, 0, 9, 9]], [], iou_thr=thr)


def test_degenerate_and_huge_boxes_are_false_positives_without_warnings() -> None:
    odd = [[9, 9, 0, 0, 1.0], [5, 5, 4, 4, 0.9], [-1e308, -1e308, 1e308, 1e308, 0.8], [3, 0, 2, 9, 0.7]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ap_of([[0, 0, 9, 9]], [*odd, [0, 0, 9, 9, 0.1]]) == pytest.approx(1 / 5)
        assert ap_of([[5, 5, 4, 4], [0, 0, 9, 9]], [[5, 5, 4, 4, 0.9], [0, 0, 9, 9, 0.1]]) == 0.25


def test_only_images_without_any_face_leave_their_detections_out() -> None:
    box = [[0.0, 0, 9, 9]]
    ground_truth = GroundTruth(
        ("e/face", "e/none", "e/ignored"), np.array([0, 1, 1, 2]), np.array(box * 2), {"all": np.array([True, False])}
    )

    def ap(none: list, ignored: list) -> float:
        images = [("e/face", box, [0.1]), ("e/none", none, [0.9] * len(none)), ("e/ignored", ignored, [0.9])]
        return evaluate(Predictions.from_images(images), ground_truth).ap["all"]

    far = [[500.0, 500, 509, 509]]
    assert ap(none=far * 3, ignored=box) == 1
    assert ap(none=[], ignored=far) == 0.5


def test_the_order_of_detections_and_images_does_not_matter() -> None:
    faces, detections = make_sample(3, images=10)
    rng = np.random.default_rng(0)
    shuffled = {}
    for name in reversed(detections):
        order = rng.permutation(len(detections[name][1]))
        shuffled[name] = detections[name][0][order], detections[name][1][order]
    ground_truth = to_ground_truth(faces)
    assert evaluate(to_predictions(shuffled), ground_truth).ap == evaluate(to_predictions(detections), ground_truth).ap


def test_scores_of_any_range_are_normalized() -> None:
    faces, detections = make_sample(5, images=10)
    stretched = {name: (boxes, scores * 64 - 128) for name, (boxes, scores) in detections.items()}
    expected = evaluate(to_predictions(detections), to_ground_truth(faces)).ap
    assert evaluate(to_predictions(stretched), to_ground_truth(faces)).ap == pytest.approx(expected, abs=1e-3)
    assert evaluate(to_predictions(stretched), to_ground_truth(faces)).ap["hard"] == pytest.approx(
        slow_ap(faces, stretched, "hard"), abs=1e-12
    )


@pytest.mark.parametrize("score", [0.0, 0.5, 1.0, -3.0])
def test_equal_scores_are_one_point_of_the_curve(score: float) -> None:
    faces = [[0, 0, 9, 9], [50, 0, 59, 9]]
    detections = [[0, 0, 9, 9, score], [90, 90, 99, 99, score], [90, 0, 99, 9, score]]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ap_of(faces, detections) == pytest.approx(0.5 * 1 / 3)


@pytest.mark.parametrize("score", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_is_an_error(score: float) -> None:
    boxes = np.array([[0.0, 0, 9, 9]] * 2)
    ground_truth = GroundTruth.from_images([("e/a", boxes, [False, False])])
    with pytest.raises(AnnotationError, match="a score is NaN or infinite"):
        evaluate(Predictions(("e/a",), np.array([0, 2]), boxes, np.array([0.5, score])), ground_truth)


def test_scores_closer_than_a_thousandth_share_a_threshold() -> None:
    faces = [[0, 0, 9, 9]]
    spread = [[90, 90, 99, 99, 1.0], [200, 0, 209, 9, 0.0]]
    assert ap_of(faces, [[0, 0, 9, 9, 0.5006], [90, 0, 99, 9, 0.5002], *spread]) == pytest.approx(1 / 3)
    assert ap_of(faces, [[0, 0, 9, 9, 0.5016], [90, 0, 99, 9, 0.5002], *spread]) == pytest.approx(1 / 2)


def test_no_detections_at_all_score_zero_and_miss_every_face() -> None:
    faces, _ = make_sample(1)
    nothing = Predictions.from_images((name, [], []) for name in faces)
    result = evaluate(nothing, to_ground_truth(faces))
    assert set(result.ap.values()) == {0.0}
    hard = result.settings["hard"]
    assert hard.missed.tolist() == hard.faces.tolist()


def test_a_setting_without_faces_has_no_ap() -> None:
    assert np.isnan(ap_of([[0, 0, 9, 9]], [[0, 0, 9, 9, 0.5]], ignored=(0,)))


def test_an_image_without_predictions_is_an_error_that_names_it_unless_allowed() -> None:
    faces, detections = make_sample(2, images=8)
    some = {name: detections[name] for i, name in enumerate(detections) if i not in (1, 4)}
    with pytest.raises(AnnotationError, match=r"2 of 8 images .*1--Event/image_1, 0--Event/image_4.*--allow-missing"):
        evaluate(to_predictions(some), to_ground_truth(faces))
    result = evaluate(to_predictions(some), to_ground_truth(faces), allow_missing=True)
    assert result.missing == ("1--Event/image_1", "0--Event/image_4")
    emptied = {name: some.get(name, (np.zeros((0, 4)), np.zeros(0))) for name in faces}
    assert result.ap["hard"] == pytest.approx(slow_ap(faces, emptied, "hard"), abs=1e-12)


def test_surplus_images_change_nothing_not_even_the_range_of_scores() -> None:
    faces, detections = make_sample(6)
    surplus = {"9--Other/x": (np.array([[0.0, 0, 9, 9]]), np.array([1000.0])), **detections}
    result = evaluate(to_predictions(surplus), to_ground_truth(faces))
    assert result.surplus == ("9--Other/x",)
    assert result.ap == evaluate(to_predictions(detections), to_ground_truth(faces)).ap


def test_missed_faces_are_counted_by_height() -> None:
    heights = [5, 9.9, 10, 29, 30, 99, 100, 300, 4000]
    faces = np.array([[1e4 * i, 0, 1e4 * i + 20, h] for i, h in enumerate(heights)])
    ground_truth = GroundTruth(("e/a",), np.array([0, len(faces)]), faces, {"all": np.ones(len(faces), bool)})
    found = Predictions.from_images([("e/a", faces[[1, 4, 8]], [0.5, 0.01, 0.9])])
    result = evaluate(found, ground_truth).settings["all"]
    assert result.faces.tolist() == [2, 2, 1, 1, 1, 2]
    assert result.missed.tolist() == [1, 2, 0, 1, 1, 1]


def test_the_curve_is_what_the_ap_is_made_of() -> None:
    faces = np.array([[0.0, 0, 9, 9], [50, 0, 59, 9]])
    ground_truth = GroundTruth(("e/a",), np.array([0, 2]), faces, {"all": np.ones(2, bool)})
    predictions = Predictions.from_images([("e/a", [*faces, [90, 90, 99, 99]], [1.0, 0.25, 0.0])])
    curve = evaluate(predictions, ground_truth).settings["all"]
    assert curve.recall[[0, 748, 749, 998, 999]].tolist() == [0.5, 0.5, 1, 1, 1]
    assert curve.precision[[0, 998, 999]].tolist() == [1, 1, 2 / 3]


def test_memory_does_not_grow_with_detections_times_faces() -> None:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 1000, (200_000, 2)).astype(np.float32)
    boxes = np.concatenate([corner, corner + 30], axis=1)
    faces = boxes[:700].astype(float)
    ground_truth = GroundTruth(("e/a",), np.array([0, 700]), faces, {"all": np.ones(700, bool)})
    predictions = Predictions.from_images([("e/a", boxes, rng.random(200_000, np.float32))])
    tracemalloc.start()
    evaluate(predictions, ground_truth)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30e6  # a matrix of all pairs takes 1,120 MB


def test_the_official_files_hold_the_known_numbers_of_faces(data: Path) -> None:
    ground_truth = read_ground_truth(data / "wider")
    assert len(ground_truth) == 3226
    assert ground_truth.boxes.shape == (39708, 4)
    assert [int(mask.sum()) for mask in ground_truth.settings.values()] == [7211, 13319, 31958]
    assert len(read_ground_truth(data / "wider" / "subset")) == 404


def test_the_mat_files_are_read_face_by_face(tmp_path: Path) -> None:
    faces, _ = make_sample(7, images=9)
    ground_truth = read_ground_truth(write_mat_files(tmp_path, faces))
    expected = to_ground_truth({name: faces[name] for name in ground_truth.names})
    assert sorted(ground_truth.names) == sorted(faces)
    np.testing.assert_array_equal(ground_truth.offsets, expected.offsets)
    np.testing.assert_array_equal(ground_truth.boxes, expected.boxes)
    for setting in SETTINGS:
        np.testing.assert_array_equal(ground_truth.settings[setting], expected.settings[setting])


def test_the_ground_truth_is_found_in_a_folder_of_that_name(tmp_path: Path) -> None:
    write_mat_files(tmp_path / "ground_truth", make_sample(0)[0])
    assert read_ground_truth(tmp_path).names == read_ground_truth(tmp_path / "ground_truth").names


def test_a_missing_or_damaged_mat_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(AnnotationError, match="nowhere is not a folder"):
        read_ground_truth(tmp_path / "nowhere")
    with pytest.raises(AnnotationError, match=r"holds no wider_face_val\.mat"):
        read_ground_truth(tmp_path)
    write_mat_files(tmp_path, make_sample(0)[0])
    medium = tmp_path / "wider_medium_val.mat"
    content = medium.read_bytes()
    medium.unlink()
    with pytest.raises(AnnotationError, match=r"wider_medium_val\.mat is missing"):
        read_ground_truth(tmp_path)
    for damaged in (b"", b"not a MAT file at all", content[: len(content) // 2], content[:100] + b"\xff" * 200):
        medium.write_bytes(damaged)
        with pytest.raises(AnnotationError, match=r"wider_medium_val\.mat"):
            read_ground_truth(tmp_path)
    medium.write_bytes((tmp_path / "wider_face_val.mat").read_bytes())
    with pytest.raises(AnnotationError, match=r"wider_medium_val\.mat holds no gt_list"):
        read_ground_truth(tmp_path)


def test_a_setting_that_does_not_fit_the_faces_is_an_error(tmp_path: Path) -> None:
    faces, _ = make_sample(0)
    write_mat_files(tmp_path, faces)
    shorter = {name: faces[name] for name in list(faces)[:-1]}
    easy = write_mat_files(tmp_path / "other", shorter) / "wider_easy_val.mat"
    easy.replace(tmp_path / "wider_easy_val.mat")
    with pytest.raises(AnnotationError, match=r"wider_easy_val\.mat lists 5 images, wider_face_val\.mat has 6"):
        read_ground_truth(tmp_path)


@pytest.mark.parametrize("index", [0, 3])
def test_an_index_of_a_face_that_does_not_exist_is_an_error(tmp_path: Path, index: int) -> None:
    faces = {name: (np.ones((2, 4)), {s: np.ones(2, bool) for s in SETTINGS}) for name in ("e/a", "e/b")}
    write_mat_files(tmp_path, faces)
    lists = cell([cell([np.uint8([[1]]), np.uint8([[1], [index]])])])
    savemat(tmp_path / "wider_easy_val.mat", {"gt_list": lists})
    with pytest.raises(AnnotationError, match=r"wider_easy_val\.mat: a face of image 2 does not exist"):
        read_ground_truth(tmp_path)


@pytest.mark.parametrize("lists", ["text", [1.5, 2.5], {"a": 1}, cell([cell(["x"] * 6)])])
def test_lists_of_another_kind_are_an_error_of_the_file(tmp_path: Path, lists: object) -> None:
    write_mat_files(tmp_path, make_sample(0)[0])
    savemat(tmp_path / "wider_easy_val.mat", {"gt_list": lists})
    with pytest.raises(AnnotationError, match=r"wider_easy_val\.mat"):
        read_ground_truth(tmp_path)


def test_settings_without_official_lists_go_by_face_height() -> None:
    heights = [9, 10, 29, 30, 49, 50, 60]
    boxes = [[0, 100, 20, 100 + h] for h in heights]
    ground_truth = GroundTruth.from_images([("e/a.jpg", boxes, [False] * 6 + [True]), ("e/b.jpg", [], [])])
    assert ground_truth.names == ("e/a", "e/b")
    assert ground_truth.offsets.tolist() == [0, 7, 7]
    assert {name: np.flatnonzero(mask).tolist() for name, mask in ground_truth.settings.items()} == {
        "easy": [5],
        "medium": [3, 4, 5],
        "hard": [1, 2, 3, 4, 5],
    }
