"""The corruptions of the benchmark against closed forms, other formulas and OpenCV."""

from __future__ import annotations

import hashlib
import math

import cv2
import numpy as np
import pytest

from facedet_mm.errors import FaceDetError
from facedet_mm.imaging.corruptions import (
    CORRUPTIONS,
    add_noise,
    blur,
    corrupt,
    corrupted_boxes,
    darken,
    erase_faces,
    lower_resolution,
    motion_blur,
    recompress,
)
from facedet_mm.io.images import read_image
from facedet_mm.zoo import asset_path

SEVERITIES = (1, 2, 3)
IN_PLACE = sorted(set(CORRUPTIONS) - {"rotation"})
"""The corruptions that leave every pixel in its place."""
FACES = np.array([[40.0, 30, 120, 130], [200, 60, 290, 150]])


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return cv2.resize(read_image(asset_path("solvay_1927.jpg")), (360, 260), interpolation=cv2.INTER_AREA)


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * math.log10(255**2 / np.mean((a.astype(float) - b.astype(float)) ** 2))


def test_there_are_seven_corruptions_in_three_severities_and_rotation_over_the_promised_ranges() -> None:
    assert len(CORRUPTIONS) == 8
    assert all(len(CORRUPTIONS[name].values) == 3 for name in IN_PLACE)
    assert CORRUPTIONS["rotation"].values == (15, 45, 90, 180)
    assert (CORRUPTIONS["jpeg"].values[0], CORRUPTIONS["jpeg"].values[-1]) == (80, 20)
    assert (CORRUPTIONS["gamma"].values[0], CORRUPTIONS["gamma"].values[-1]) == (1.5, 3.0)


@pytest.mark.parametrize("corruption", IN_PLACE)
def test_a_corruption_gives_an_image_of_the_same_kind_and_leaves_its_argument(
    corruption: str, photo: np.ndarray
) -> None:
    before = photo.copy()
    for severity in SEVERITIES:
        out = corrupt(photo, corruption, severity, "a/1.jpg", FACES)
        assert (out.shape, out.dtype) == (photo.shape, np.uint8)
        assert not np.shares_memory(out, photo)
        assert (out != photo).any()
        assert corrupted_boxes(FACES, corruption, severity, (360, 260)) is FACES
    np.testing.assert_array_equal(photo, before)


@pytest.mark.parametrize("corruption", IN_PLACE)
def test_each_severity_is_further_from_the_image_than_the_one_before(corruption: str, photo: np.ndarray) -> None:
    near = [psnr(corrupt(photo, corruption, severity, "a/1.jpg", FACES), photo) for severity in SEVERITIES]
    assert near[0] > near[1] > near[2]


@pytest.mark.parametrize("corruption", ["motion_blur", "noise", "occlusion"])
def test_chance_depends_on_the_name_and_on_nothing_else(corruption: str, photo: np.ndarray) -> None:
    first = corrupt(photo, corruption, 2, "a/1.jpg", FACES)
    other = corrupt(photo, corruption, 2, "a/2.jpg", FACES)
    np.random.seed(5)  # noqa: NPY002 - the global state must not matter
    cv2.setRNGSeed(5)
    np.testing.assert_array_equal(corrupt(photo, corruption, 2, "a/1.jpg", FACES), first)
    assert (other != first).any()


def test_what_is_drawn_stays_the_same_between_versions_of_python_and_processes() -> None:
    gray = np.full((2, 3, 3), 128, np.uint8)
    seed = int.from_bytes(hashlib.blake2b(b"noise/a/1.jpg", digest_size=8).digest(), "big")
    rng = np.random.default_rng(seed)
    expected = np.rint(128 + 10 * rng.standard_normal((2, 3, 3), np.float32).astype(float))
    np.testing.assert_array_equal(corrupt(gray, "noise", 1, "a/1.jpg"), expected)


@pytest.mark.parametrize(("sigma", "value"), [(1.0, 100), (2.0, 100), (4.0, 200)])
def test_blur_turns_an_edge_into_the_normal_distribution(sigma: float, value: int) -> None:
    edge = np.zeros((5, 80, 3), np.uint8)
    edge[:, 40:] = value
    x = np.arange(80) - 39.5
    expected = value * np.array([0.5 * (1 + math.erf(t / (sigma * math.sqrt(2)))) for t in x])
    np.testing.assert_allclose(blur(edge, sigma)[2, 15:65, 0], expected[15:65], atol=1.3)


@pytest.mark.parametrize("length", [1, 7, 13, 25])
@pytest.mark.parametrize("degrees", [0.0, 30.0, 45.0, 77.0, 90.0, 135.0, 171.0])
def test_motion_turns_a_point_into_a_line_of_its_length_with_the_same_sum(length: int, degrees: float) -> None:
    point = np.zeros((61, 61, 3), np.uint8)
    point[30, 30] = 255
    out = motion_blur(point, length, degrees)[..., 0].astype(float)
    ys, xs = np.nonzero(out)
    assert np.unique(out[ys, xs]).size == 1  # even motion
    assert out.sum() == pytest.approx(255, abs=len(xs) / 2)  # rounding
    angle = math.radians(degrees)
    along = (xs - 30) * math.cos(angle) + (ys - 30) * math.sin(angle)
    across = (ys - 30) * math.cos(angle) - (xs - 30) * math.sin(angle)
    assert abs(across).max() <= 0.71 + 1e-9  # half a pixel's diagonal
    assert along.max() - along.min() == pytest.approx(length - 1, abs=1.0)
    assert abs(along.max() + along.min()) <= 1.0  # centered: boxes stay where they are


def test_motion_keeps_the_brightness_of_an_image_and_of_its_border(photo: np.ndarray) -> None:
    gray = np.full((20, 30, 3), 137, np.uint8)
    np.testing.assert_array_equal(motion_blur(gray, 25, 40), gray)
    assert motion_blur(photo, 13, 20).mean() == pytest.approx(photo.mean(), abs=0.5)


def test_horizontal_motion_is_the_running_mean(photo: np.ndarray) -> None:
    expected = np.mean([photo[:, 3 + k : 350 + k].astype(float) for k in range(-3, 4)], axis=0)
    np.testing.assert_allclose(motion_blur(photo, 7, 0.0)[:, 3:350], expected, atol=0.5)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_jpeg_is_opencvs_at_the_stated_quality(severity: int, photo: np.ndarray) -> None:
    quality = (80, 50, 20)[severity - 1]
    _, data = cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, quality])
    np.testing.assert_array_equal(corrupt(photo, "jpeg", severity, "a"), cv2.imdecode(data, cv2.IMREAD_COLOR))
    np.testing.assert_array_equal(recompress(photo, quality), cv2.imdecode(data, cv2.IMREAD_COLOR))


@pytest.mark.parametrize("gamma", [1.0, 1.5, 2.25, 3.0])
def test_darkness_is_the_gamma_curve(gamma: float) -> None:
    ramp = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    expected = [round(255 * math.exp(gamma * math.log(v / 255))) if v else 0 for v in range(256)]
    assert darken(ramp, gamma)[..., 1].ravel().tolist() == expected


@pytest.mark.parametrize("sigma", [10.0, 30.0])
def test_noise_is_normal_without_bias_and_independent_between_pixels_and_channels(sigma: float) -> None:
    gray = np.full((300, 300, 3), 128, np.uint8)
    noise = add_noise(gray, sigma, np.random.default_rng(1)).astype(float) - 128
    count = noise.size
    assert noise.mean() == pytest.approx(0, abs=4 * sigma / math.sqrt(count))
    assert noise.std() == pytest.approx(math.sqrt(sigma**2 + 1 / 12), rel=0.01)  # 1 / 12: of rounding
    assert (abs(noise) <= sigma).mean() == pytest.approx(math.erf((sigma + 0.5) / sigma / math.sqrt(2)), abs=0.005)
    for a, b in ((noise[:, 1:], noise[:, :-1]), (noise[1:], noise[:-1]), (noise[..., 0], noise[..., 1])):
        assert np.corrcoef(a.ravel(), b.ravel())[0, 1] == pytest.approx(0, abs=0.015)


def test_noise_ends_at_black_and_white() -> None:
    for value in (0, 255):
        out = add_noise(np.full((50, 50, 3), value, np.uint8), 40, np.random.default_rng(0))
        assert abs(out.astype(int) - value).max() < 200  # nothing wraps around
        assert (out == value).mean() == pytest.approx(0.5, abs=0.03)


def patch_of(image: np.ndarray, erased: np.ndarray) -> tuple[np.ndarray, float]:
    """The changed rectangle x1 y1 x2 y2, and how much of it is changed."""
    changed = (image != erased).any(axis=2)
    ys, xs = np.nonzero(changed)
    box = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
    return box, changed.sum() / np.prod(box[2:] - box[:2])


@pytest.mark.parametrize("share", [0.05, 0.2, 0.35, 0.5, 1.0])
def test_erasing_covers_the_stated_share_of_each_face_and_nothing_else(share: float) -> None:
    image = np.random.default_rng(0).integers(0, 256, (200, 300, 3)).astype(np.uint8)
    shapes = set()
    for seed in range(40):
        for face in FACES:
            erased = erase_faces(image, share, face[None], np.random.default_rng(seed))
            box, filled = patch_of(image, erased)
            assert filled > 0.98  # a random pixel may have the patch's color
            assert (box[:2] >= face[:2]).all()
            assert (box[2:] <= face[2:]).all()
            width, height = box[2:] - box[:2]
            assert width * height / np.prod(face[2:] - face[:2]) == pytest.approx(share, rel=0.05)
            assert len(np.unique(erased[box[1] : box[3], box[0] : box[2]].reshape(-1, 3), axis=0)) == 1
            shapes.add((width, height, *box[:2]))
    assert len(shapes) > 30 or share == 1


def test_the_share_holds_on_average_for_small_faces_of_all_places(photo: np.ndarray) -> None:
    rng = np.random.default_rng(3)
    sides = rng.integers(6, 14, (400, 2)).astype(float)
    covered = []
    for i, (width, height) in enumerate(sides):
        erased = erase_faces(photo, 0.35, np.array([[50, 60, 50 + width, 60 + height]]), np.random.default_rng(i))
        covered.append((erased != photo).any(axis=2).sum() / (width * height))
    assert np.mean(covered) == pytest.approx(0.35, abs=0.02)


def test_faces_that_reach_out_of_the_image_or_have_no_area_do_no_harm(photo: np.ndarray) -> None:
    faces = np.array([[-90.0, -90, -10, -10], [50, 50, 50, 90], [340, 240, 500, 400], [-30, 20, 60, 90]])
    for seed in range(20):
        erased = erase_faces(photo, 0.5, faces, np.random.default_rng(seed))
        assert (erased[:, 80:330] == photo[:, 80:330]).all()
    whole = erase_faces(photo, 1.0, faces[3:], np.random.default_rng(0))
    assert (whole[20:90, :60] == whole[20, 0]).all()
    np.testing.assert_array_equal(corrupt(photo, "occlusion", 3, "a", []), photo)


def test_an_image_of_a_lower_resolution_holds_means_of_blocks() -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 36, 3)).astype(np.uint8)
    blocks = image.reshape(6, 4, 9, 4, 3).mean(axis=(1, 3))
    out = lower_resolution(image, 4).astype(float)
    # Bilinear: four output pixels around the middle of a block lie at 3/8 and 5/8 of the way; their mean is a mixture.
    weights = {0: 0.875, 1: 0.125}
    y, x = 2, 4
    center = out[4 * y + 1 : 4 * y + 3, 4 * x + 1 : 4 * x + 3].mean(axis=(0, 1))
    rows = weights[0] * blocks[y] + weights[1] / 2 * (blocks[y - 1] + blocks[y + 1])
    expected = weights[0] * rows[x] + weights[1] / 2 * (rows[x - 1] + rows[x + 1])
    np.testing.assert_allclose(center, expected, atol=1.0)


@pytest.mark.parametrize(("severity", "quarters"), [(3, -1), (4, 2)])
def test_rotated_faces_are_where_their_boxes_say(severity: int, quarters: int, photo: np.ndarray) -> None:
    turned = corrupt(photo, "rotation", severity, "a/1.jpg", FACES)
    np.testing.assert_array_equal(turned, np.rot90(photo, quarters))
    for before, after in zip(FACES, corrupted_boxes(FACES, "rotation", severity, (360, 260)), strict=True):
        (x1, y1, x2, y2), (u1, v1, u2, v2) = before.astype(int), np.rint(after).astype(int)
        np.testing.assert_array_equal(turned[v1:v2, u1:u2], np.rot90(photo[y1:y2, x1:x2], quarters))


@pytest.mark.parametrize("degrees", [15, 45])
def test_slanted_faces_are_where_their_boxes_say(degrees: int) -> None:
    image = np.zeros((260, 360, 3), np.uint8)
    cv2.ellipse(image, (245, 105), (45, 60), 0, 0, 360, (255, 255, 255), -1)
    severity = CORRUPTIONS["rotation"].values.index(degrees) + 1
    rows, columns = np.nonzero(corrupt(image, "rotation", severity, "a")[..., 0] > 190)
    (box,) = corrupted_boxes(np.array([[200.0, 45, 291, 166]]), "rotation", severity, (360, 260))
    assert box == pytest.approx([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1], abs=1.5)


@pytest.mark.parametrize("corruption", IN_PLACE)
@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 40, 3), (3, 2, 3)])
def test_an_image_of_a_few_pixels_can_be_corrupted(corruption: str, shape: tuple) -> None:
    for severity in SEVERITIES:
        assert corrupt(np.full(shape, 90, np.uint8), corruption, severity, "a", [[0, 0, 1, 1]]).shape == shape


@pytest.mark.parametrize(
    ("corruption", "severity", "message"),
    [
        ("fog", 1, "unknown corruption 'fog'; known are gaussian_blur, "),
        ("jpeg", 4, "severity of jpeg must be 1 to 3, not 4"),
        ("rotation", 5, "severity of rotation must be 1 to 4, not 5"),
        ("noise", 0, "severity of noise must be 1 to 3, not 0"),
    ],
)
def test_what_there_is_not_is_refused(corruption: str, severity: int, message: str, photo: np.ndarray) -> None:
    with pytest.raises(FaceDetError, match=message):
        corrupt(photo, corruption, severity, "a")
    with pytest.raises(FaceDetError, match=message):
        corrupted_boxes(FACES, corruption, severity, (360, 260))
