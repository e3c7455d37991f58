"""Crops and aligned faces: against another implementation of the transform, and pixel by pixel."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from facedet_mm import FaceDetError, Faces
from facedet_mm.errors import ImageError
from facedet_mm.imaging.alignment import (
    ARCFACE_TEMPLATE,
    align_faces,
    arcface_template,
    crop_faces,
    enlarge,
    pixel_boxes,
    similarity_transforms,
)

TEMPLATE = np.array(ARCFACE_TEMPLATE)


def umeyama(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(2, 3): the closest similarity without mirroring, by singular values (Umeyama 1991, eq. 40-43)."""
    z, w = source - source.mean(0), target - target.mean(0)
    u, d, vt = np.linalg.svd(w.T @ z / len(z))
    sign = np.array([1, 1 if np.linalg.det(u @ vt) > 0 else -1])
    rotation = u @ np.diag(sign) @ vt
    scale = (d * sign).sum() / (z**2).sum(1).mean()
    return np.column_stack([scale * rotation, target.mean(0) - scale * rotation @ source.mean(0)])


def similarity(angle: float, scale: float, shift: tuple[float, float]) -> np.ndarray:
    c, s = scale * np.cos(angle), scale * np.sin(angle)
    return np.array([[c, -s, shift[0]], [s, c, shift[1]]])


def photo(shape: tuple[int, ...] = (300, 400, 3)) -> np.ndarray:
    """Smooth noise: interpolation has something to do, and nothing aliases."""
    return cv2.GaussianBlur(np.random.default_rng(5).integers(0, 256, shape, np.uint8), (0, 0), 2)


@pytest.mark.parametrize(
    ("size", "scale", "shift"),
    [(112, 1, 0), (224, 2, 0), (896, 8, 0), (128, 1, 8), (256, 2, 16), (512, 4, 32), (56, 0.5, 0)],
)  # 896 is a multiple of both
def test_the_template_is_arcfaces_at_multiples_of_112_and_128(size: int, scale: float, shift: float) -> None:
    xs, ys = (38.2946, 73.5318, 56.0252, 41.5493, 70.7299), (51.6963, 51.5014, 71.7366, 92.3655, 92.2041)
    expected = [[scale * x + shift, scale * y] for x, y in zip(xs, ys, strict=True)]
    assert np.allclose(arcface_template(size), expected, atol=1e-9)


@pytest.mark.parametrize("size", [0, -112, 8193, 112.0, "112", None, True])
def test_a_size_that_is_no_number_of_pixels_is_refused(size: object) -> None:
    with pytest.raises(FaceDetError, match="an integer from 1 to 8192, not"):
        align_faces(photo(), [TEMPLATE], size)  # type: ignore[arg-type]


def test_transforms_are_umeyamas_for_faces_of_every_pose_and_for_mirrored_ones() -> None:
    rng = np.random.default_rng(1)
    source = np.concatenate([TEMPLATE + rng.normal(0, 15, (200, 5, 2)), rng.uniform(-500, 500, (200, 5, 2))])
    source[::7, :, 0] *= -1
    expected = np.stack([umeyama(points, TEMPLATE) for points in source])
    assert np.allclose(similarity_transforms(source, TEMPLATE), expected, rtol=1e-9, atol=1e-9)


def test_an_exact_similarity_is_found_as_opencv_finds_it() -> None:
    back = cv2.invertAffineTransform(similarity(2.3, 3.7, (410.0, 95.0)))
    points = TEMPLATE @ back[:, :2].T + back[:, 2]
    (found,) = similarity_transforms([points], TEMPLATE)
    assert np.allclose(found, similarity(2.3, 3.7, (410.0, 95.0)), atol=1e-9)
    opencv, _ = cv2.estimateAffinePartial2D(points, TEMPLATE, method=cv2.LMEDS)
    assert np.allclose(found, opencv, atol=1e-4)


@pytest.mark.filterwarnings("error")
def test_points_without_a_closest_rotation_give_a_zero_transform_and_a_black_crop() -> None:
    line, ends = [[0, 0], [2, 0], [4, 0], [6, 0], [8, 0]], [[0, 0], [1, 0], [2, 0], [1, 0], [0, 0]]
    assert not similarity_transforms([line], ends).any()  # turned by any angle it is as far
    odd = np.stack([np.full((5, 2), 7.0), np.full((5, 2), np.nan), TEMPLATE])
    odd[2, 3, 1] = np.inf
    landmarks = np.concatenate([odd, TEMPLATE[None]])
    assert [matrix.any() for matrix in similarity_transforms(landmarks, TEMPLATE)] == [False, False, False, True]
    crops = align_faces(np.full((120, 120, 3), 200, np.uint8), landmarks)
    assert [crop.any() for crop in crops] == [False, False, False, True]


def test_an_aligned_face_is_the_image_seen_through_the_transform() -> None:
    image = photo()
    landmarks = np.stack([TEMPLATE * 1.7 + [50, 20], TEMPLATE[:, ::-1] * [-1.0, 1.0] + [250, 80]])
    for size in (112, 128):
        crops = align_faces(image, landmarks, size)
        assert crops.shape == (2, size, size, 3)
        for crop, points in zip(crops, landmarks, strict=True):
            matrix = umeyama(points, arcface_template(size))
            difference = cv2.absdiff(crop, cv2.warpAffine(image, matrix, (size, size)))
            assert difference.max() <= (0 if cv2.__version__.startswith("4.") else 1)  # 5 rounds by where it starts


def test_landmarks_on_the_template_give_the_image_itself() -> None:
    image = photo((112, 112, 3))
    assert np.array_equal(align_faces(image, [TEMPLATE])[0], image)


def test_a_face_at_the_edge_is_black_outside_the_image() -> None:
    image = np.full((112, 112, 3), 255, np.uint8)
    (crop,) = align_faces(image, [TEMPLATE - [56, 0]])
    assert not crop[:, :56].any()
    assert (crop[:, 56:] == 255).all()
    assert not align_faces(image, [TEMPLATE + 5000]).any()


def test_a_face_is_aligned_in_an_image_wider_than_opencv_warps() -> None:
    image = np.zeros((112, 40_000, 3), np.uint8)
    image[:, 35_000:35_112] = part = photo((112, 112, 3))
    assert np.array_equal(align_faces(image, [TEMPLATE + np.array([35_000, 0])])[0], part)


def test_a_face_wider_than_opencv_warps_is_aligned() -> None:
    image = np.repeat(np.array([[10, 90, 170, 250]], np.uint8), 10_000, axis=1).repeat(800, axis=0)
    points = TEMPLATE * (40_000 / 112) - [0, 20_000]  # the crop's middle row shows the image
    (crop,) = align_faces(image, [points])
    assert crop[57, [14, 42, 70, 98], 0].tolist() == [10, 90, 170, 250]
    assert abs(int((crop[57, :, 0] > 100).argmax()) - 56) <= 1


def test_gray_and_bgra_images_are_aligned_and_other_arrays_refused() -> None:
    gray = photo((112, 112))
    assert np.array_equal(align_faces(gray, [TEMPLATE])[0], cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR))
    for function, points in ((align_faces, [TEMPLATE]), (crop_faces, [[0, 0, 1, 1]])):
        with pytest.raises(ImageError, match="must be uint8"):
            function(gray.astype(np.float32), points)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("box", "margin", "pixels"),
    [
        ([10, 20, 30, 50], 0.0, (10, 20, 30, 50)),
        ([10.1, 20.9, 30.1, 50.0], 0.0, (10, 20, 31, 50)),  # every pixel that is touched
        ([10, 20, 30, 40], 0.25, (5, 15, 35, 45)),
        ([-5, -5, 8, 9], 0.0, (0, 0, 8, 9)),
        ([90, 50, 130, 99], 0.0, (90, 50, 100, 80)),
        ([-np.inf, 10, np.inf, 20], 0.0, (0, 10, 100, 20)),
        ([5, 5, 5, 9], 1.0, (0, 0, 0, 0)),  # no width
        ([5, 5.5, 9, 5.5], 0.0, (0, 0, 0, 0)),  # no height
        ([9, 9, 5, 5], 0.0, (0, 0, 0, 0)),  # turned around
        ([200, 200, 240, 240], 0.0, (0, 0, 0, 0)),  # beside the image
        ([5, 5, np.nan, 9], 0.0, (0, 0, 0, 0)),
    ],
)
def test_a_crop_holds_the_pixels_that_the_box_touches(box: list[float], margin: float, pixels: tuple) -> None:
    image = photo((80, 100, 3))
    assert pixel_boxes([box], 100, 80, margin).tolist() == [list(pixels)]
    (crop,) = crop_faces(image, [box], margin)
    x1, y1, x2, y2 = pixels
    assert crop.shape == (y2 - y1, x2 - x1, 3)
    assert np.array_equal(crop, image[y1:y2, x1:x2])


@pytest.mark.parametrize("margin", [-0.1, np.nan, np.inf])
def test_a_margin_below_zero_is_refused(margin: float) -> None:
    with pytest.raises(FaceDetError, match="margin must be a fraction of the face's size, 0 or more"):
        enlarge([[0, 0, 1, 1]], margin)


def test_crops_are_copies() -> None:
    image = photo()
    before = image.copy()
    for crop in crop_faces(image, [[0, 0, 400, 300], [3, 3, 3, 3]]):
        crop[:] = 0
    assert np.array_equal(image, before)


def test_faces_crop_and_align_themselves() -> None:
    image = photo()
    faces = Faces([[10, 10, 60, 80], [100, 20, 160, 90]], [0.9, 0.8], TEMPLATE + np.array([[[0, 0]], [[90, 10]]]))
    assert [crop.shape for crop in faces.crop(image, margin=0.1)] == [(84, 60, 3), (84, 72, 3)]
    assert np.array_equal(faces.align(image)[0], image[:112, :112])
    assert np.array_equal(faces.align(image, 112)[1], image[10:122, 90:202])
    assert faces[:0].align(image, 64).shape == Faces.empty().align(image, 64).shape == (0, 64, 64, 3)
    assert faces[:0].crop(image) == []


def test_aligning_without_landmarks_says_where_to_find_a_model_that_has_them() -> None:
    with pytest.raises(FaceDetError, match="needs landmarks; facedet models list shows"):
        Faces([[0, 0, 9, 9]], [0.9]).align(photo())
