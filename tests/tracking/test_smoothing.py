"""The smoother: steady at rest, no lag in motion, one filter a track."""

from __future__ import annotations

import numpy as np
import pytest

from facedet_mm.errors import FaceDetError
from facedet_mm.structures import Faces
from facedet_mm.tracking.smoothing import FaceSmoother

SIDE = 80.0


def path(positions: np.ndarray, noise: float, seed: int = 0) -> tuple[np.ndarray, list[Faces]]:
    """True corners (T, 2) and noisy faces of 80 pixels there, with landmarks."""
    rng = np.random.default_rng(seed)
    faces = []
    for x, y in positions:
        box = np.array([x, y, x + SIDE, y + SIDE]) + rng.normal(0, noise, 4)
        points = np.array([[x, y]]) + np.array([[20, 30], [60, 30], [40, 45], [25, 60], [55, 60]])
        faces.append(Faces([box], [0.9], [points + rng.normal(0, noise, (5, 2))], [1]))
    return positions, faces


def run(faces: list[Faces], fps: float = 30.0) -> list[Faces]:
    smoother = FaceSmoother()
    return [smoother.update(one, i / fps) for i, one in enumerate(faces)]


@pytest.mark.parametrize("fps", [15.0, 30.0, 60.0])
def test_jitter_at_rest_falls_to_a_third_for_boxes_and_landmarks(fps: float) -> None:
    _, faces = path(np.zeros((400, 2)) + 100, noise=1.0)
    smooth = run(faces, fps)
    for column in ("boxes", "landmarks"):
        raw, done = (np.array([getattr(f, column)[0] for f in many])[50:] for many in (faces, smooth))
        factor = 3 if fps >= 30 else 2  # fewer frames a second leave less to average over
        assert np.diff(done, axis=0).std() * factor <= np.diff(raw, axis=0).std()
        assert done.std(axis=0).mean() < raw.std(axis=0).mean() / 2
        assert np.abs(done.mean(axis=0) - raw.mean(axis=0)).max() < 0.2


@pytest.mark.parametrize("speed", [2.0, 5.0, 15.0])
def test_a_fast_face_lags_less_than_one_frame(speed: float) -> None:
    """Pixels a frame; 2.7 are a face's width a second."""
    steps = np.arange(120)[:, None] * np.array([[speed, 0]])
    truth, faces = path(steps, noise=0.5)
    smooth = run(faces)
    behind = truth[40:, 0] - np.array([f.boxes[0, 0] for f in smooth])[40:]
    assert behind.mean() / speed < 1


def test_a_start_after_rest_is_followed_at_once() -> None:
    x = np.concatenate([np.zeros(60), np.arange(30) * 8.0])
    truth, faces = path(np.stack([x, x * 0], axis=1), noise=0.3)
    behind = truth[:, 0] - np.array([f.boxes[0, 0] for f in run(faces)])
    assert np.abs(behind).max() <= 0.1 * SIDE + 2
    assert np.abs(behind[66:]).mean() < 8


def test_each_track_has_its_own_filter_and_untracked_faces_pass() -> None:
    smoother = FaceSmoother()
    a, b = Faces([[0, 0, 80, 80]], [0.9], track_ids=[1]), Faces([[300, 0, 380, 80]], [0.8], track_ids=[2])
    loose = Faces([[500, 0, 540, 40]], [0.6], track_ids=[-1])
    for i in range(5):
        out = smoother.update(Faces.concatenate([[a, b], [b, a]][i % 2] + [loose]), i / 30)
    first = out.boxes[out.track_ids.tolist().index(1)]
    second = out.boxes[out.track_ids.tolist().index(2)]
    assert np.allclose(first, a.boxes[0], atol=1e-3)
    assert np.allclose(second, b.boxes[0], atol=1e-3)
    moved = Faces([[520, 5, 560, 45]], [0.6], track_ids=[-1])
    assert np.array_equal(smoother.update(moved, 1.0).boxes, moved.boxes)


def test_a_track_that_is_new_or_back_after_long_starts_where_it_is() -> None:
    smoother = FaceSmoother()
    here, there = (Faces([[x, 0, x + 80, 80]], [0.9], track_ids=[7]) for x in (0, 400))
    assert np.array_equal(smoother.update(here, 0.0).boxes, here.boxes)
    assert np.array_equal(smoother.update(there, 30.0).boxes, there.boxes)
    smoother.reset()
    assert np.array_equal(smoother.update(here, 30.1).boxes, here.boxes)


def test_scores_are_smoothed_and_the_order_stays() -> None:
    scores = [0.9, 0.5, 0.9, 0.5, 0.9, 0.5]
    out = run([Faces([[0, 0, 80, 80]], [s], track_ids=[1]) for s in scores])
    assert np.std([f.scores[0] for f in out[2:]]) < np.std(scores[2:])


def test_memory_is_that_of_the_tracks_seen_lately() -> None:
    smoother = FaceSmoother()
    for i in range(3000):
        smoother.update(Faces([[0, 0, 9, 9]], [0.9], track_ids=[i + 1]), i / 30)
    arrays = [value for value in vars(smoother).values() if isinstance(value, np.ndarray)]
    assert arrays
    assert max(len(array) for array in arrays) < 100


@pytest.mark.parametrize(("still", "fast"), [(0, 0.9), (0.5, 0.4), (0.2, 1.1)])
def test_weights_out_of_range_are_refused(still: float, fast: float) -> None:
    with pytest.raises(FaceDetError, match="0 < still <= fast <= 1"):
        FaceSmoother(still, fast)


def boxes_at(corners: list[np.ndarray], track: int = 1) -> list[Faces]:
    return [Faces([box], [0.9], None, [track]) for box in corners]


def test_a_fast_face_follows_by_the_fast_weight() -> None:
    step = 2 * SIDE / 30  # two face sizes a second
    _, faces = path(np.arange(90)[:, None] * [step, 0.0], noise=0.0)
    behind = faces[-1].boxes[0] - run(faces)[-1].boxes[0]
    fast = FaceSmoother().fast
    assert behind == pytest.approx([step * (1 - fast) / fast, 0, step * (1 - fast) / fast, 0], abs=1e-3)


def test_no_edge_stays_behind_by_more_than_a_tenth_of_the_face() -> None:
    faces = boxes_at([np.array([100, 100, 180, 180])] * 30 + [np.array([100, 100, 220, 180])])
    smoother = FaceSmoother(still=0.05, fast=0.05)
    left, top, right, bottom = [smoother.update(one, i / 30) for i, one in enumerate(faces)][-1].boxes[0]
    assert 220 - right == pytest.approx(0.1 * np.sqrt(120 * 80), abs=1e-3)
    assert (left, top, bottom) == pytest.approx((100, 100, 180), abs=1e-3)


def test_a_face_that_grows_fast_lags_less_than_one_frame() -> None:
    half = 25 * 1.08 ** np.arange(25)
    faces = boxes_at([np.array([500 - h, 500 - h, 500 + h, 500 + h]) for h in half])
    behind = faces[-1].boxes[0, 2] - run(faces)[-1].boxes[0, 2]
    assert 0 < behind < half[-1] - half[-2]


def test_the_track_0_of_other_trackers_is_one_too() -> None:
    faces = boxes_at([np.array([100, 100, 180, 180]), np.array([101, 100, 181, 180])], track=0)
    assert 100 < run(faces)[-1].boxes[0, 0] < 101


def test_a_clock_that_jumps_back_leaves_no_old_tracks() -> None:
    smoother = FaceSmoother()
    for time, track in ((1000.0, 1), (0.0, 2), (0.1, 2)):
        smoother.update(Faces([[0, 0, 9, 9]], [0.9], track_ids=[track]), time)
        assert len(smoother) == 1
