"""Anonymizing: what is left of a face, in numbers; that nothing else changes; and that no face escapes."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from facedet_mm import FaceDetError, Faces, build_detector
from facedet_mm.errors import ImageError
from facedet_mm.imaging.anonymization import Method, Shape, anonymize
from facedet_mm.io.images import read_image
from facedet_mm.zoo import asset_path

METHODS: list[Method] = ["blur", "pixelate", "fill"]
SHAPES: list[Shape] = ["ellipse", "box"]


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (200, 300, 3), np.uint8)


@pytest.fixture(scope="module")
def solvay() -> np.ndarray:
    return read_image(asset_path("solvay_1927.jpg"))


@pytest.fixture(scope="module")
def solvay_faces(solvay: np.ndarray) -> Faces:
    return build_detector().detect(solvay)


def covered(shape: tuple[int, ...], box: list[float], ellipse: bool) -> np.ndarray:
    """(H, W) bool: the pixels to hide, from the definition."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    x1, y1, x2, y2 = box
    across, down = np.abs(2 * x - x1 - x2) / (x2 - x1), np.abs(2 * y - y1 - y2) / (y2 - y1)
    return across**2 + down**2 <= 1 if ellipse else np.maximum(across, down) <= 1


def detail(image: np.ndarray) -> float:
    """Mean energy of what changes from pixel to pixel."""
    return float((cv2.Laplacian(image.astype(np.float32), cv2.CV_32F) ** 2).mean())


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("box", [[100, 50, 180, 130], [-40, 120, 60, 240], [250, -30, 320, 40]])
def test_the_face_and_its_margin_change_and_nothing_else(
    noise: np.ndarray, method: Method, shape: Shape, box: list[float]
) -> None:
    before = noise.copy()
    hidden = anonymize(noise, Faces([box], [0.9]), method, margin=0.25, shape=shape)
    extra = (box[2] - box[0]) / 4
    down = (box[3] - box[1]) / 4
    mask = covered(noise.shape, [box[0] - extra, box[1] - down, box[2] + extra, box[3] + down], shape == "ellipse")
    assert np.array_equal(hidden[~mask], noise[~mask])
    assert (hidden[mask] != noise[mask]).mean() > 0.97
    assert np.array_equal(noise, before)


@pytest.mark.parametrize("method", METHODS)
def test_images_with_the_same_averages_look_the_same_afterwards(noise: np.ndarray, method: Method) -> None:
    """Nothing that the averages over thirds of the face don't hold can come back: it isn't there."""
    shuffled = noise.copy()
    rng = np.random.default_rng(0)
    for y in range(50, 110, 20):
        for x in range(100, 160, 20):
            block = shuffled[y : y + 20, x : x + 20].reshape(400, 3)
            shuffled[y : y + 20, x : x + 20] = rng.permutation(block).reshape(20, 20, 3)
    face = Faces([[100, 50, 160, 110]], [0.9])
    one, other = (anonymize(image, face, method, margin=0, shape="box") for image in (noise, shuffled))
    assert not np.array_equal(noise[50:110, 100:160], shuffled[50:110, 100:160])
    assert np.array_equal(one[50:110, 100:160], other[50:110, 100:160])


def test_filling_leaves_nothing(noise: np.ndarray) -> None:
    assert not anonymize(noise, Faces([[100, 50, 160, 110]], [0.9]), "fill", margin=0, shape="box")[
        50:110, 100:160
    ].any()


@pytest.mark.parametrize("side", [1, 5, 12, 30, 100, 700, 1600])
def test_as_little_is_left_of_a_large_face_as_of_a_small_one(side: int) -> None:
    ramp = np.add.outer(np.arange(1800), np.arange(1800)) % 251
    image = ramp.astype(np.uint8)[..., None].repeat(3, axis=2)
    face = Faces([[50, 50, 50 + side, 50 + side]], [0.9])
    pixelated = anonymize(image, face, "pixelate", margin=0, shape="box")[50 : 50 + side, 50 : 50 + side]
    assert len(np.unique(pixelated)) <= 9
    blurred = anonymize(image, face, "blur", margin=0, shape="box")[50 : 50 + side, 50 : 50 + side, 0].astype(int)
    slope = max(1.0, 4.5 * 256 / side)  # a cubic curve through three values from 0 to 255 is no steeper
    assert np.abs(np.diff(blurred)).max(initial=0) <= slope


@pytest.mark.parametrize("size", [(6, 6), (7, 9), (9, 7), (11, 11)])
def test_a_tiny_face_is_hidden_in_blocks_of_four_pixels_or_more(noise: np.ndarray, size: tuple[int, int]) -> None:
    width, height = size
    face = Faces([[100, 50, 100 + width, 50 + height]], [0.9])
    hidden = anonymize(noise, face, "pixelate", margin=0, shape="box")[50 : 50 + height, 100 : 100 + width]
    assert len(np.unique(hidden.reshape(-1, 3), axis=0)) <= max(1, width // 4) * max(1, height // 4)


def test_a_face_cut_by_the_edge_is_hidden_as_coarsely_as_a_whole_one(noise: np.ndarray) -> None:
    hidden = anonymize(noise, Faces([[-60, 50, 30, 140]], [0.9]), "pixelate", margin=0, shape="box")[50:140, :30]
    assert len(np.unique(hidden.reshape(-1, 3), axis=0)) == 3
    assert (hidden == hidden[:, :1]).all()


def test_a_blurred_face_keeps_less_than_a_thirtieth_of_its_detail(solvay: np.ndarray, solvay_faces: Faces) -> None:
    for face in solvay_faces:
        (before,), (after,) = face.crop(solvay), face.crop(anonymize(solvay, face, "blur", shape="box"))
        assert detail(after) < detail(before) / 30


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", SHAPES)
def test_yunet_finds_no_anonymized_face(solvay: np.ndarray, solvay_faces: Faces, method: Method, shape: Shape) -> None:
    assert len(solvay_faces) >= 29
    assert len(build_detector().detect(anonymize(solvay, solvay_faces, method, shape=shape))) == 0


def test_the_default_ellipse_covers_all_landmarks(solvay: np.ndarray, solvay_faces: Faces) -> None:
    white = np.full_like(solvay, 255)
    hidden = anonymize(white, solvay_faces, "fill")
    x, y = np.rint(solvay_faces.landmarks).astype(int).reshape(-1, 2).T
    assert not hidden[y, x].any()
    assert (hidden == 255).mean() > 0.9


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shape", SHAPES)
def test_boxes_of_every_kind_are_taken(noise: np.ndarray, method: Method, shape: Shape) -> None:
    nothing = [[5, 5, 5, 9], [9, 9, 5, 5], [500, 500, 600, 600], [np.nan, 0, 9, 9]]
    assert np.array_equal(anonymize(noise, Faces(nothing, np.ones(4)), method, shape=shape), noise)
    assert np.array_equal(anonymize(noise, Faces.empty(), method, shape=shape), noise)
    whole = anonymize(noise, Faces([[-np.inf, -np.inf, np.inf, np.inf]], [1]), method, shape=shape)
    assert (whole == whole[0, 0]).all()


def test_all_of_seven_hundred_faces_are_hidden(noise: np.ndarray) -> None:
    rng = np.random.default_rng(1)
    corners = rng.uniform(-10, 300, (700, 2))
    boxes = np.hstack([corners, corners + rng.uniform(3, 40, (700, 2))])
    hidden = anonymize(noise, Faces(boxes, np.ones(700)), "fill", margin=0)
    mask = np.any([covered(noise.shape, box, ellipse=True) for box in boxes.tolist()], axis=0)
    assert not hidden[mask].any()
    assert np.array_equal(hidden[~mask], noise[~mask])


def test_gray_and_bgra_images_come_back_as_bgr(noise: np.ndarray) -> None:
    face = Faces([[100, 50, 160, 110]], [0.9])
    gray = noise[..., 0]
    expected = anonymize(gray[..., None].repeat(3, axis=2), face)
    assert np.array_equal(anonymize(gray, face), expected)
    bgra = np.dstack([noise, noise[..., :1]])
    assert np.array_equal(anonymize(bgra, face), anonymize(noise, face))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "mosaic"}, "method must be blur, pixelate or fill, not 'mosaic'"),
        ({"shape": "circle"}, "shape must be ellipse or box, not 'circle'"),
        ({"margin": -1}, "margin must be a fraction"),
    ],
)
def test_an_unknown_choice_is_refused_even_without_faces(noise: np.ndarray, options: dict, message: str) -> None:
    with pytest.raises(FaceDetError, match=message):
        anonymize(noise, Faces.empty(), **options)
    with pytest.raises(ImageError, match="uint8"):
        anonymize(noise / 255, Faces.empty())  # type: ignore[arg-type]
