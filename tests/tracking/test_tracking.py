"""Tracking: against the authors' own results, textbook formulas and small scenes with known answers."""

from __future__ import annotations

import itertools
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from facedet_mm import FaceDetError, Faces, build_detector
from facedet_mm.tracking import PRESETS, ByteTracker, TrackerSettings
from facedet_mm.tracking.association import assign, iou_matrix
from facedet_mm.tracking.kalman import KalmanFilter, state_to_boxes
from facedet_mm.tracking.mot import read_detections

SEQUENCES = ("MOT17-02", "MOT17-05", "MOT17-09", "MOT17-13")
BOX = np.array([100.0, 100.0, 140.0, 150.0])


def faces(*boxes, score=0.9, landmarks=None) -> Faces:
    """Faces at the boxes, with one score or one each."""
    return Faces(np.array(boxes, float), np.broadcast_to(score, len(boxes)), landmarks)


def moved(x=0.0, y=0.0, box=BOX) -> np.ndarray:
    return box + np.array([x, y, x, y])


def ids_of(tracked: Faces) -> list[int]:
    assert tracked.track_ids is not None
    return tracked.track_ids.tolist()


def random_boxes(rng, n) -> np.ndarray:
    corner = rng.uniform(0, 400, (2, n))
    return np.concatenate([corner, corner + rng.uniform(20, 120, (2, n))])


# against the authors' results


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_every_box_and_id_is_that_of_the_authors_code(data, sequence):
    detections = read_detections(data / "mot" / "det" / f"{sequence}.txt")
    wanted = np.loadtxt(data / "mot" / "bytetrack" / f"{sequence}.txt", delimiter=",")
    tracker = ByteTracker("bytetrack")
    rename: dict[int, int] = {}
    compared = 0
    for frame in range(1, max(detections) + 1):
        ids = ids_of(tracker.update(detections.get(frame, Faces.empty())))
        boxes = tracker.kalman_boxes().astype(float)
        boxes[:, 2:] -= boxes[:, :2]
        theirs = wanted[wanted[:, 0] == frame]
        distance = np.abs(boxes[:, None] - theirs[None, :, 2:6]).max(axis=2)
        ours, matched = linear_sum_assignment(distance)
        assert len(ours) == len(boxes) == len(theirs)
        assert distance[ours, matched].max(initial=0) < 0.0101  # they print two digits
        for i, j in zip(ours, matched, strict=True):
            assert rename.setdefault(ids[i], theirs[j, 1]) == theirs[j, 1]
        compared += len(ours)
    assert compared == len(wanted)
    assert len(set(rename.values())) == len(rename)
    assert sorted(rename) == list(range(1, len(rename) + 1))


def test_the_detections_tracked_are_the_same_when_ties_are_left_out_of_the_input(data):
    detections = read_detections(data / "mot" / "det" / "MOT17-09.txt")
    exact, mended = ByteTracker("bytetrack"), ByteTracker(replace(PRESETS["bytetrack"], drop_ties=False))
    for found in detections.values():
        without_ties = found[found.scores != np.float32(0.6)]
        wanted, got = exact.update(found), mended.update(without_ties)
        assert ids_of(got) == ids_of(wanted)
        np.testing.assert_array_equal(got.boxes, wanted.boxes)


# the parts


def full_filter(boxes):
    """ByteTrack's filter as matrices, for one box after the other; gives means and 8 x 8 covariances."""

    def measure(b):
        return np.array([(b[0] + b[2]) / 2, (b[1] + b[3]) / 2, (b[2] - b[0]) / (b[3] - b[1]), b[3] - b[1]])

    def noise(h, position, aspect, velocity, aspect_velocity):
        p, v = h * position, h * velocity
        return np.diag(np.square([p, p, aspect, p, v, v, aspect_velocity, v]))

    transition = np.eye(8) + np.eye(8, k=4)
    project = np.eye(4, 8)
    mean = np.concatenate([measure(boxes[0]), np.zeros(4)])
    covariance = noise(mean[3], 1 / 10, 1e-2, 1 / 16, 1e-5)
    for box in boxes[1:]:
        covariance = transition @ covariance @ transition.T + noise(mean[3], 1 / 20, 1e-2, 1 / 160, 1e-5)
        mean = transition @ mean
        innovation = project @ covariance @ project.T + noise(mean[3], 1 / 20, 1e-1, 0, 0)[:4, :4]
        gain = covariance @ project.T @ np.linalg.inv(innovation)
        mean = mean + gain @ (measure(box) - project @ mean)
        covariance = covariance - gain @ innovation @ gain.T
    return mean, covariance


def test_the_filter_in_blocks_equals_the_filter_with_full_matrices():
    rng = np.random.default_rng(0)
    first = random_boxes(rng, 6)
    path = [first + rng.normal(0, 4, first.shape) + 3 * k for k in range(9)]
    filters = KalmanFilter()
    state = filters.start(path[0])
    for boxes in path[1:]:
        filters.predict(state)
        filters.correct(state, boxes)
    for track in range(6):
        mean, covariance = full_filter([boxes[:, track] for boxes in path])
        np.testing.assert_allclose(state[0, :, track], mean[:4], rtol=1e-10)
        np.testing.assert_allclose(state[1, :, track], mean[4:], rtol=1e-10, atol=1e-12)
        for row, block in ((2, covariance[:4, :4]), (3, covariance[:4, 4:]), (4, covariance[4:, 4:])):
            np.testing.assert_allclose(state[row, :, track], np.diag(block), rtol=1e-9)
            np.testing.assert_allclose(block - np.diag(np.diag(block)), 0, atol=1e-12)


def test_boxes_survive_the_way_into_the_state_and_back():
    boxes = random_boxes(np.random.default_rng(1), 20)
    np.testing.assert_allclose(state_to_boxes(KalmanFilter().start(boxes)), boxes, rtol=1e-12)


def test_a_shrinking_box_predicted_for_long_keeps_a_size():
    filters = KalmanFilter()
    state = filters.start(BOX[:, None])
    state[1, 3] = -5
    for _ in range(100):
        filters.predict(state)
    boxes = state_to_boxes(state)
    assert (boxes[2:] > boxes[:2]).all()
    assert np.isfinite(state).all()


def test_without_measurement_noise_the_track_is_where_the_detection_is():
    filters = KalmanFilter()
    state = filters.start(BOX[:, None])
    filters.predict(state)
    filters.correct(state, moved(7, 3)[:, None], np.zeros(1))
    np.testing.assert_allclose(state_to_boxes(state)[:, 0], moved(7, 3))


def test_a_longer_interval_widens_the_velocity_at_birth_in_proportion_and_its_walk_by_the_power_of_one_and_a_half():
    usual, slow = KalmanFilter(), KalmanFilter(interval=4)
    states = [filters.start(BOX[:, None]) for filters in (usual, slow)]
    np.testing.assert_allclose(states[1][4], 4**2 * states[0][4])
    np.testing.assert_allclose(states[1][2], states[0][2])
    before = [state[4].copy() for state in states]
    usual.predict(states[0])
    slow.predict(states[1])
    walks = [state[4] - old for state, old in zip(states, before, strict=True)]
    np.testing.assert_allclose(walks[1], 4**3 * walks[0], rtol=1e-6)


def test_iou_counts_pixels_as_the_authors_do():
    a = np.array([[0, 0, 9, 9], [20, 20, 29, 29]], float).T
    b = np.array([[0, 0, 9, 9], [5, 0, 14, 9], [9, 9, 18, 18], [10, 10, 12, 12]], float).T
    np.testing.assert_allclose(iou_matrix(a, b), [[1, 50 / 150, 1 / 199, 0], [0, 0, 0, 0]])


def test_the_height_power_multiplies_by_the_iou_of_the_vertical_extents():
    a, b = np.array([[0, 0, 9, 9]], float).T, np.array([[0, 5, 9, 24], [0, 0, 4, 9]], float).T
    for power in (0.5, 1.0, 2.0):
        np.testing.assert_allclose(iou_matrix(a, b, power), [[0.2 * 0.2**power, 0.5]])


def best_by_trying_all(costs, limit):
    """The least total of all ways to pair rows and columns, when every pair not made saves ``limit``."""
    rows, columns = costs.shape
    best = 0.0
    for size in range(1, min(rows, columns) + 1):
        for chosen in itertools.combinations(range(rows), size):
            for order in itertools.permutations(range(columns), size):
                pairs = costs[list(chosen), list(order)]
                if (pairs <= limit).all():
                    best = min(best, float((pairs - limit).sum()))
    return best


def test_no_other_assignment_under_the_limit_is_better():
    rng = np.random.default_rng(2)
    for _ in range(150):
        costs, limit = rng.random(rng.integers(1, 5, 2)), rng.uniform(0.1, 0.95)
        rows, columns = assign(costs, limit)
        assert (costs[rows, columns] <= limit).all()
        assert (costs[rows, columns] - limit).sum() == pytest.approx(best_by_trying_all(costs, limit))


def test_assignment_equals_the_extended_matrix_that_lapjv_solves():
    rng = np.random.default_rng(3)
    for _ in range(60):
        n, m = rng.integers(1, 30, 2)
        costs, limit = rng.random((n, m)), rng.uniform(0.05, 0.6)
        extended = np.full((n + m, n + m), limit / 2)
        extended[:n, :m] = costs
        extended[n:, m:] = 0
        rows, columns = linear_sum_assignment(extended)
        wanted = {(i, j) for i, j in zip(rows, columns, strict=True) if i < n and j < m}
        assert set(zip(*assign(costs, limit), strict=True)) == wanted


# ids


def test_ids_of_the_first_frame_start_at_one_in_the_order_of_the_detections():
    tracker = ByteTracker()
    assert ids_of(tracker.update(faces(BOX, moved(200), moved(400)))) == [1, 2, 3]


def test_a_new_face_gets_its_id_at_its_second_sight():
    tracker = ByteTracker()
    tracker.update(faces(BOX))
    assert ids_of(tracker.update(faces(BOX, moved(300)))) == [1]
    assert ids_of(tracker.update(faces(moved(300), BOX))) == [2, 1]


def test_a_face_seen_only_once_costs_no_id():
    tracker = ByteTracker()
    tracker.update(faces(BOX))
    for k in range(5):
        tracker.update(faces(BOX, moved(300 + 200 * k)))
    tracker.update(faces(BOX, moved(0, 400)))
    assert ids_of(tracker.update(faces(BOX, moved(0, 400)))) == [1, 2]


def test_the_first_face_of_a_video_is_confirmed_at_once_even_after_empty_frames():
    tracker = ByteTracker()
    for _ in range(3):
        assert ids_of(tracker.update(Faces.empty())) == []
    assert ids_of(tracker.update(faces(BOX))) == [1]


def test_ids_belong_to_the_tracker_and_reset_starts_again():
    one, other = ByteTracker(), ByteTracker()
    one.update(faces(BOX, moved(300)))
    assert ids_of(other.update(faces(BOX))) == [1]
    one.reset()
    assert ids_of(one.update(faces(moved(500), moved(0, 300)))) == [1, 2]


def test_two_faces_that_cross_keep_their_ids():
    tracker = ByteTracker()
    for k in range(41):
        left, right = moved(8 * k), moved(320 - 8 * k, 18)
        tracked = tracker.update(faces(left, right))
        assert ids_of(tracked) == [1, 2]


# what comes out


def test_boxes_scores_and_landmarks_are_the_detectors_own():
    rng = np.random.default_rng(4)
    tracker = ByteTracker()
    for k in range(6):
        boxes = np.array([moved(3 * k + 400), moved(2 * k)]) + rng.normal(0, 2, (2, 4))
        found = Faces(boxes, rng.uniform(0.75, 1, 2), rng.uniform(0, 500, (2, 5, 2)))
        tracked = tracker.update(found)
        np.testing.assert_array_equal(tracked.boxes, found.boxes)
        np.testing.assert_array_equal(tracked.scores, found.scores)
        np.testing.assert_array_equal(tracked.landmarks, found.landmarks)
    assert not np.allclose(tracker.kalman_boxes(), tracked.boxes, atol=1e-3)
    np.testing.assert_allclose(tracker.kalman_boxes(), tracked.boxes, atol=6)


@pytest.mark.parametrize(("trust", "factor"), [(True, 0.25), (False, 1.0)])
def test_the_surer_a_detection_the_closer_its_track_follows(trust, factor):
    tracker = ByteTracker(TrackerSettings(trust_scores=trust))
    tracker.update(faces(BOX))
    tracker.update(faces(moved(9), score=0.75))
    filters = KalmanFilter()
    state = filters.start(BOX[:, None])
    filters.predict(state)
    filters.correct(state, moved(9)[:, None], np.array([factor]))
    np.testing.assert_allclose(tracker.kalman_boxes(), state_to_boxes(state).T, rtol=1e-6)


def test_the_detection_index_says_where_each_face_was_in_the_input():
    tracker = ByteTracker()
    tracker.update(faces(BOX, moved(300)))
    tracked = tracker.update(faces(moved(600), moved(301), moved(0, 600), moved(1)))
    assert ids_of(tracked) == [2, 1]
    assert tracker.detection_index.tolist() == [1, 3]


def test_untracked_detections_are_kept_on_request_with_the_id_minus_one():
    tracker = ByteTracker(keep_untracked=True)
    tracker.update(faces(BOX))
    found = faces(moved(300), BOX, moved(600), score=[0.9, 0.9, 0.05])
    tracked = tracker.update(found)
    assert ids_of(tracked) == [-1, 1, -1]
    np.testing.assert_array_equal(tracked.boxes, found.boxes)
    assert np.isnan(tracker.kalman_boxes()[[0, 2]]).all()
    assert np.isfinite(tracker.kalman_boxes()[1]).all()


def test_ids_that_the_detections_had_before_do_not_matter():
    tracker = ByteTracker()
    assert ids_of(tracker.update(Faces([BOX], [0.9], track_ids=[77]))) == [1]


def test_lost_tracks_move_on_and_keep_their_size():
    tracker = ByteTracker()
    for k in range(10):
        tracker.update(faces(moved(10 * k)))
    assert len(tracker.lost()) == 0
    for k in range(10, 13):
        assert len(tracker.update(Faces.empty())) == 0
        lost = tracker.lost()
        assert ids_of(lost) == [1]
        np.testing.assert_allclose(lost.boxes[0], moved(10 * k), atol=4)


# time


def test_a_face_found_again_within_the_buffer_keeps_its_id_and_gets_a_new_one_after_it():
    for fps, buffer in ((30, 30), (60, 60), (10, 10)):
        for missing, ids in ((buffer, [1]), (buffer + 1, [2])):
            tracker = ByteTracker(frame_rate=fps)
            tracker.update(faces(BOX))
            for _ in range(missing):
                tracker.update(Faces.empty())
            tracker.update(faces(BOX))
            assert ids_of(tracker.update(faces(BOX))) == ids, (fps, missing)


def test_frames_without_detections_move_the_tracks_on():
    tracker = ByteTracker()
    for k in range(12):
        tracker.update(faces(moved(12 * k)))
    for _ in range(8):
        tracker.update(Faces.empty())
    assert ids_of(tracker.update(faces(moved(12 * 20)))) == [1]


def test_numbered_frames_left_out_are_predicted_through():
    by_number, by_hand = ByteTracker(), ByteTracker()
    for k in range(8):
        by_number.update(faces(moved(9 * k)), frame=100 + k)
        by_hand.update(faces(moved(9 * k)))
    for _ in range(4):
        by_hand.predict()
    assert ids_of(by_number.update(faces(moved(9 * 12)), frame=112)) == [1]
    by_hand.update(faces(moved(9 * 12)))
    np.testing.assert_array_equal(by_number.kalman_boxes(), by_hand.kalman_boxes())


def test_a_gap_longer_than_the_buffer_forgets_all_tracks_in_no_time():
    tracker = ByteTracker()
    tracker.update(faces(BOX), frame=1)
    tracker.update(faces(BOX), frame=10**9)
    assert ids_of(tracker.update(faces(BOX))) == [2]


@pytest.mark.parametrize("frame", [4, 5, -1])
def test_time_that_stands_still_or_goes_backwards_is_refused_and_changes_nothing(frame):
    tracker = ByteTracker()
    tracker.update(faces(BOX), frame=5)
    for step in (lambda: tracker.update(faces(BOX), frame=frame), lambda: tracker.predict(frame=frame)):
        with pytest.raises(FaceDetError, match=f"frame {frame} after frame 5"):
            step()
    assert ids_of(tracker.update(faces(moved(1)), frame=6)) == [1]
    tracker.reset()
    assert ids_of(tracker.update(faces(BOX), frame=0)) == [1]


def test_faces_of_a_video_at_six_frames_a_second_keep_their_ids_because_the_motion_model_knows():
    def tracks(settings):
        tracker = ByteTracker(settings, frame_rate=6)
        seen = set()
        for k in range(60):  # heads that swing, at their fastest by two thirds of their width a frame
            x = 26 * 10 / (2 * np.pi) * np.sin(2 * np.pi * k / 10)
            seen.update(ids_of(tracker.update(faces(moved(x), moved(-x, 300), score=0.8))))
        return len(seen)

    assert tracks(TrackerSettings()) == 2
    assert tracks(TrackerSettings(scale_motion=False)) > 2


def test_the_motion_model_of_the_authors_does_not_know_the_frame_rate():
    slow, fast = (ByteTracker("bytetrack", frame_rate=fps) for fps in (5, 30))
    for k in range(5):
        slow.update(faces(moved(k * k)))
        fast.update(faces(moved(k * k)))
    np.testing.assert_array_equal(slow.kalman_boxes(), fast.kalman_boxes())


# frames without the detector


def test_prediction_moves_boxes_and_landmarks_along_a_straight_path():
    relative = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.6], [0.35, 0.8], [0.65, 0.8]])
    tracker = ByteTracker()

    def box_at(k):  # comes closer while it moves
        return moved(6 * k, -2 * k) + np.array([-0.8, -1, 0.8, 1]) * k

    for k in range(20):
        box = box_at(k)
        points = box[:2] + relative * (box[2:] - box[:2])
        tracker.update(faces(box, score=0.75 + k / 100, landmarks=points[None]))
    for k in range(20, 25):
        predicted = tracker.predict()
        assert ids_of(predicted) == [1]
        assert predicted.scores[0] == np.float32(0.94)
        np.testing.assert_allclose(predicted.boxes[0], box_at(k), atol=3)
        size = predicted.boxes[0, 2:] - predicted.boxes[0, :2]
        np.testing.assert_allclose(predicted.landmarks[0], predicted.boxes[0, :2] + relative * size, atol=1e-3)
        assert tracker.detection_index.tolist() == [-1]
        np.testing.assert_array_equal(tracker.kalman_boxes(), predicted.boxes)


def test_a_predicted_frame_neither_loses_nor_confirms_a_track():
    tracker = ByteTracker()
    tracker.update(faces(BOX))
    tracker.update(faces(BOX, moved(300)))
    assert ids_of(tracker.predict()) == [1]
    assert ids_of(tracker.update(faces(BOX, moved(300)))) == [1, 2]
    assert tracker.predict().landmarks is None
    assert len(tracker.lost()) == 0


def test_prediction_ends_with_the_buffer():
    tracker = ByteTracker(frame_rate=10)
    tracker.update(faces(BOX))
    assert [len(tracker.predict()) for _ in range(12)] == [1] * 10 + [0] * 2


def test_lost_tracks_are_not_predicted_as_faces():
    tracker = ByteTracker()
    tracker.update(faces(BOX, moved(300)))
    tracker.update(faces(BOX))
    assert ids_of(tracker.predict()) == [1]
    assert ids_of(tracker.lost()) == [2]


# scores


def test_scores_that_equal_a_threshold_are_high_enough_to_track_and_to_start_but_not_above_the_low_one():
    settings = TrackerSettings(track_thr=0.6, low_thr=0.1, new_track_thr=0.7)

    def goes_on(score):
        tracker = ByteTracker(settings)
        tracker.update(faces(BOX))
        return len(tracker.update(faces(BOX, score=score))) == 1

    def found_again(score):
        tracker = ByteTracker(settings)
        tracker.update(faces(BOX))
        tracker.update(Faces.empty())
        return len(tracker.update(faces(BOX, score=score))) == 1

    def below(score):
        return np.nextafter(np.float32(score), np.float32(0))

    assert found_again(0.6)
    assert not found_again(below(0.6))  # low ones continue only what was seen in the last frame
    assert goes_on(below(0.6))
    assert goes_on(np.nextafter(np.float32(0.1), np.float32(1)))
    assert not goes_on(0.1)
    assert len(ByteTracker(settings).update(faces(BOX, score=0.7))) == 1
    assert len(ByteTracker(settings).update(faces(BOX, score=below(0.7)))) == 0


def test_only_the_comparison_with_the_authors_drops_a_score_equal_to_the_threshold():
    for drop, count in ((True, 0), (False, 1)):
        tracker = ByteTracker(replace(PRESETS["bytetrack"], drop_ties=drop))
        tracker.update(faces(BOX))
        assert len(tracker.update(faces(BOX, score=0.6))) == count


def test_a_low_detection_neither_starts_a_track_nor_takes_one_from_a_high_detection():
    tracker = ByteTracker()
    tracker.update(faces(BOX))
    tracked = tracker.update(faces(BOX, moved(3), moved(300), score=[0.5, 0.8, 0.5]))
    assert (ids_of(tracked), tracker.detection_index.tolist()) == ([1], [1])
    assert ids_of(tracker.update(faces(moved(300), score=0.5))) == []


# bad input


def test_one_of_two_equal_boxes_is_tracked_and_the_other_never_gets_an_id():
    tracker = ByteTracker(keep_untracked=True)
    for _ in range(4):
        assert ids_of(tracker.update(faces(BOX, BOX, moved(1)))) == [1, -1, -1]


def test_a_duplicate_of_a_tracked_face_starts_no_track_even_with_a_better_score():
    tracker = ByteTracker(keep_untracked=True)
    tracker.update(faces(BOX))
    for _ in range(4):
        assert ids_of(tracker.update(faces(BOX, moved(2), score=[0.9, 0.92]))) == [1, -1]


def test_of_new_duplicates_the_one_with_the_best_score_starts_the_track():
    tracker = ByteTracker()
    assert ids_of(tracker.update(faces(BOX, moved(1), moved(0, 1), score=[0.8, 0.95, 0.9]))) == [1]
    assert tracker.detection_index.tolist() == [1]


def test_a_track_that_comes_upon_a_lost_one_of_the_same_face_ends_the_younger():
    tracker = ByteTracker()
    for _ in range(20):
        tracker.update(faces(BOX))
    for x in (45, 45, *range(45, 0, -5)):  # 45 is too far for the first track
        tracked = tracker.update(faces(moved(x)))
    assert (ids_of(tracked), ids_of(tracker.lost())) == ([2], [1])
    for _ in range(4):
        tracked = tracker.update(faces(BOX))
    assert (ids_of(tracked), ids_of(tracker.lost())) == ([1], [])


@pytest.mark.parametrize(("frame", "ids"), [(90, []), (91, [2])])
def test_a_lost_track_ends_no_other_once_it_is_forgotten(frame, ids):
    tracker = ByteTracker()
    for _ in range(60):
        tracker.update(faces(BOX))
    for k in range(61, frame + 1):  # another face comes and overlaps it enough in the last frame
        tracked = tracker.update(faces(moved(min(45, 2 + 2 * (frame - k)))))
    assert ids_of(tracked) == ids


@pytest.mark.parametrize(
    "box",
    [
        [np.nan, 0, 10, 10],
        [0, 0, np.inf, 10],
        [np.inf, 0, np.inf, 10],
        [-np.inf, 0, 10, 10],
        [50, 50, 50, 60],
        [50, 50, 40, 60],
        [50, 60, 60, 60],
    ],
)
def test_boxes_that_are_none_are_left_out(box, recwarn):
    tracker = ByteTracker(keep_untracked=True)
    for _ in range(3):
        assert ids_of(tracker.update(faces(box, BOX))) == [1]
        assert tracker.detection_index.tolist() == [1]
    assert ids_of(tracker.update(faces(box))) == []
    assert not recwarn.list


@pytest.mark.parametrize("score", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_no_number_is_left_out(score, recwarn):
    tracker = ByteTracker(keep_untracked=True)
    for _ in range(3):
        assert ids_of(tracker.update(faces(BOX, moved(300), score=[score, 0.9]))) == [1]
    assert not recwarn.list


def test_no_faces_at_all_is_fine():
    tracker = ByteTracker(keep_untracked=True)
    for step in (lambda: tracker.update(Faces.empty(landmarks=True)), tracker.predict, tracker.lost):
        assert ids_of(step()) == []
    assert tracker.kalman_boxes().shape == (0, 4)
    assert tracker.update(Faces.empty(landmarks=True)).landmarks.shape == (0, 5, 2)


def test_perfect_scores_are_tracked():
    tracker = ByteTracker()
    for k in range(10):
        assert ids_of(tracker.update(faces(moved(5 * k), score=1.0))) == [1]
    assert np.isfinite(tracker.kalman_boxes()).all()


def test_the_input_is_not_changed():
    found = faces(BOX, moved(300), score=[0.9, 0.3])
    before = found.to_dict()
    ByteTracker().update(found)
    assert found.to_dict() == before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ByteTracker("byte"), "no tracker preset 'byte'; choose one of faces, bytetrack"),
        (lambda: ByteTracker(frame_rate=0), "frame_rate"),
        (lambda: ByteTracker(frame_rate=float("nan")), "frame_rate"),
        (lambda: TrackerSettings(track_thr=1.5), "track_thr must be between 0 and 1"),
        (lambda: TrackerSettings(low_thr=float("nan")), "low_thr must be between 0 and 1"),
        (lambda: TrackerSettings(match_thr=1.0), "match_thr must be below 1"),
        (lambda: TrackerSettings(low_thr=0.7), r"low_thr \(0.7\) must not exceed track_thr \(0.6\)"),
        (lambda: TrackerSettings(track_buffer=-1), "track_buffer"),
        (lambda: TrackerSettings(height_power=-1.0), "height_power"),
    ],
)
def test_settings_out_of_range_are_named(make, message):
    with pytest.raises(FaceDetError, match=message):
        make()


# long and large


@pytest.mark.slow
def test_after_a_hundred_thousand_frames_the_tracker_holds_no_more_than_after_a_thousand():
    tracker = ByteTracker()
    sizes = {}
    visitors = [faces(moved(40 * (k % 7))) for k in range(7)]  # each stays for two frames, then another comes
    for k in range(1, 100_001):
        tracker.update(visitors[k // 2 % 7])
        if k in (1_000, 100_000):
            sizes[k] = len(pickle.dumps(tracker))
    assert sizes[100_000] <= sizes[1_000] + 64


def test_five_hundred_faces_are_tracked_without_a_mistake():
    rng = np.random.default_rng(5)
    corner = np.stack(np.meshgrid(np.arange(25), np.arange(20)), -1).reshape(-1, 2) * 60.0
    velocity = rng.normal(0, 1.5, (500, 2))
    tracker = ByteTracker()
    for k in range(12):
        at = corner + k * velocity + rng.normal(0, 0.5, (500, 2))
        order = rng.permutation(500)
        tracked = tracker.update(
            Faces(np.hstack([at, at + np.array([40, 50])])[order], rng.uniform(0.75, 1, 500)[order])
        )
        if k == 0:
            name = dict(zip(ids_of(tracked), order, strict=True))
        assert [name[i] for i in ids_of(tracked)] == order.tolist()


def test_two_people_in_a_real_clip_have_two_ids_throughout_also_at_two_frames_a_second(data):
    clip = cv2.VideoCapture(str(data / "video" / "head-pose-face-detection-female-and-male.gif"))
    detector = build_detector(score_thr=0.1)
    found = []
    while (frame := clip.read()[1]) is not None:
        found.append(detector.detect(frame))
    assert len(found) == 56
    for step in (1, 6):
        tracker = ByteTracker(frame_rate=12 / step)
        for detected in found[::step]:
            assert sorted(ids_of(tracker.update(detected))) == [1, 2]


def test_tracking_needs_numpy_and_scipy_alone(root: Path):
    code = "import sys, facedet_mm.tracking; print([m for m in ('torch', 'cv2', 'onnxruntime') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("score", [np.inf, -np.inf, np.nan])
def test_a_score_that_is_no_number_does_not_end_the_tracker(score: float) -> None:
    tracker = ByteTracker(keep_untracked=True)
    for step in range(5):
        boxes = [[10 + step, 20, 50 + step, 70], [100, 20, 150, 70]]
        tracked = tracker.update(Faces(boxes=boxes, scores=[0.9, score]))
        assert tracked.track_ids is not None
        assert tracked.track_ids.tolist() == [1]
