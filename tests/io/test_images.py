"""Reading images: right pixels from every kind of file, a plain error for everything else."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from facedet_mm.errors import ImageError
from facedet_mm.io.images import as_bgr, load_image, read_image
from facedet_mm.zoo import asset_path


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return cv2.resize(cv2.imread(str(asset_path("solvay_1927.jpg"))), (150, 109), interpolation=cv2.INTER_AREA)


def encode(image: np.ndarray, suffix: str, *options: int) -> bytes:
    return cv2.imencode(suffix, image, options)[1].tobytes()


def jpeg_segment(code: int, payload: bytes) -> bytes:
    return bytes([0xFF, code]) + struct.pack(">H", len(payload) + 2) + payload


def with_segments(jpeg: bytes, *segments: bytes) -> bytes:
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def exif(orientation: int) -> bytes:
    entry = struct.pack(">HHIHH", 0x0112, 3, 1, orientation, 0)
    return jpeg_segment(0xE1, b"Exif\0\0MM\0*" + struct.pack(">IH", 8, 1) + entry + struct.pack(">I", 0))


def big_png(width: int, height: int) -> bytes:
    """A 1-bit PNG of any size; only its header is read."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("name", ["a b.png", "größe 臉.png", "日本/näin.png"])
def test_names_with_spaces_and_non_ascii_letters_are_read(tmp_path: Path, photo: np.ndarray, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(encode(photo, ".png"))
    assert np.array_equal(read_image(path), photo)
    assert np.array_equal(read_image(str(path)), photo)


def test_sixteen_bits_keep_their_high_byte(tmp_path: Path, photo: np.ndarray) -> None:
    path = tmp_path / "deep.png"
    path.write_bytes(encode(photo.astype(np.uint16) * 256 + 17, ".png"))
    assert np.array_equal(read_image(path), photo)


def test_gray_becomes_three_equal_channels_and_alpha_is_dropped(tmp_path: Path, photo: np.ndarray) -> None:
    (tmp_path / "gray.png").write_bytes(encode(photo[..., 0], ".png"))
    (tmp_path / "alpha.png").write_bytes(encode(np.dstack([photo, photo[..., :1]]), ".png"))
    assert np.array_equal(read_image(tmp_path / "gray.png"), np.dstack([photo[..., 0]] * 3))
    assert np.array_equal(read_image(tmp_path / "alpha.png"), photo)


@pytest.mark.parametrize("shape", [(1, 1), (10, 20000), (20000, 10)])
def test_extreme_shapes_are_read(tmp_path: Path, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    path = tmp_path / "odd.png"
    path.write_bytes(encode(image, ".png"))
    assert np.array_equal(read_image(path), image)


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, lambda image: image),
        (2, lambda image: cv2.flip(image, 1)),
        (3, lambda image: cv2.rotate(image, cv2.ROTATE_180)),
        (6, lambda image: cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE)),
        (8, lambda image: cv2.rotate(image, cv2.ROTATE_90_COUNTERCLOCKWISE)),
    ],
)
def test_exif_orientation_turns_the_image_upright(tmp_path: Path, photo: np.ndarray, orientation: int, turn) -> None:
    jpeg = encode(photo, ".jpg")
    path = tmp_path / "turned.jpg"
    path.write_bytes(with_segments(jpeg, exif(orientation)))
    assert np.array_equal(read_image(path), turn(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)))


@pytest.mark.parametrize("progressive", [0, 1])
def test_a_jpeg_cut_anywhere_is_truncated(tmp_path: Path, photo: np.ndarray, progressive: int) -> None:
    jpeg = encode(photo, ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, progressive)
    path = tmp_path / "cut.jpg"
    for length in [*range(2, len(jpeg) - 2, 211), len(jpeg) - 2, len(jpeg) - 1]:
        path.write_bytes(jpeg[:length])
        with pytest.raises(ImageError, match=r"cut\.jpg: truncated JPEG"):
            read_image(path)
    path.write_bytes(jpeg)
    assert read_image(path).shape == photo.shape


def test_a_jpeg_whose_missing_rest_is_zeros_is_truncated(tmp_path: Path, photo: np.ndarray) -> None:
    jpeg = encode(photo, ".jpg")
    path = tmp_path / "preallocated.jpg"
    path.write_bytes(jpeg[: len(jpeg) // 2].ljust(len(jpeg), b"\0"))
    with pytest.raises(ImageError, match="truncated JPEG"):
        read_image(path)


def test_the_end_marker_of_a_thumbnail_is_not_the_images_end(tmp_path: Path, photo: np.ndarray) -> None:
    jpeg, thumbnail = encode(photo, ".jpg"), encode(photo[::4, ::4], ".jpg")
    two_thumbnails = with_segments(jpeg, jpeg_segment(0xE1, b"Exif\0\0" + thumbnail), jpeg_segment(0xE2, thumbnail))
    path = tmp_path / "camera.jpg"
    path.write_bytes(two_thumbnails)
    assert read_image(path).shape == photo.shape
    path.write_bytes(two_thumbnails[: -len(jpeg) // 2])
    with pytest.raises(ImageError, match="truncated JPEG"):
        read_image(path)


@pytest.mark.parametrize("garbage", [b"\0" * 100, b"ftypmp42 a video may follow", b"\xff\xd8\xff\xe0 half an image"])
def test_garbage_after_the_end_of_a_jpeg_is_ignored(tmp_path: Path, photo: np.ndarray, garbage: bytes) -> None:
    path = tmp_path / "trailing.jpg"
    for progressive in (0, 1):
        path.write_bytes(encode(photo, ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, progressive) + garbage)
        assert read_image(path).shape == photo.shape


def test_restart_markers_are_no_end(tmp_path: Path, photo: np.ndarray) -> None:
    jpeg = encode(photo, ".jpg", cv2.IMWRITE_JPEG_RST_INTERVAL, 2)
    assert b"\xff\xd0" in jpeg
    path = tmp_path / "restarts.jpg"
    path.write_bytes(jpeg + b"tail")
    assert read_image(path).shape == photo.shape


def test_a_png_cut_anywhere_is_truncated(tmp_path: Path, photo: np.ndarray) -> None:
    png = encode(photo, ".png")
    path = tmp_path / "cut.png"
    for length in [*range(8, len(png) - 12, 1009), len(png) - 12, len(png) - 4, len(png) - 1]:
        path.write_bytes(png[:length])
        with pytest.raises(ImageError, match=r"cut\.png: truncated PNG"):
            read_image(path)
    path.write_bytes(png + b"tail")
    assert np.array_equal(read_image(path), photo)


@pytest.mark.parametrize("suffix", [".bmp", ".webp", ".tiff"])
def test_other_formats_cut_in_half_are_damaged(tmp_path: Path, photo: np.ndarray, suffix: str) -> None:
    data = encode(photo, suffix)
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(data)
    assert read_image(path).shape == photo.shape
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match="damaged, truncated or oversized"):
        read_image(path)


def test_what_is_no_image_is_named_for_what_it_is(tmp_path: Path) -> None:
    cases: dict[str, tuple[bytes | None, str]] = {
        "gone.jpg": (None, "gone.jpg: no such file"),
        "empty.jpg": (b"", r"empty.jpg: empty file \(0 bytes\)"),
        "notes.txt": (b"dear diary", "notes.txt: not an image"),
        "fake.jpg": (b"<html>404 not found</html>", "fake.jpg: not an image"),
        "huge.png": (big_png(40000, 40000), "huge.png: too large for OpenCV"),
        "wide.png": (big_png(2_000_000, 10), "wide.png: damaged, truncated or oversized PNG"),
    }
    for name, (content, message) in cases.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(ImageError, match=message):
            read_image(tmp_path / name)
    with pytest.raises(ImageError, match="a folder, not an image"):
        read_image(tmp_path)
    with pytest.raises(ImageError, match="cannot be read"):
        read_image("a\0b.jpg")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may read everything")
def test_a_file_without_permission_is_named(tmp_path: Path, photo: np.ndarray) -> None:
    path = tmp_path / "secret.png"
    path.write_bytes(encode(photo, ".png"))
    path.chmod(0)
    with pytest.raises(ImageError, match=r"secret\.png: cannot be read: Permission denied"):
        read_image(path)


def test_arrays_of_one_three_and_four_channels_become_bgr(photo: np.ndarray) -> None:
    gray = photo[..., 1]
    for image in (gray, gray[..., None]):
        assert np.array_equal(as_bgr(image), np.dstack([gray] * 3))
    assert np.array_equal(as_bgr(np.dstack([photo, gray])), photo)
    assert as_bgr(photo) is photo


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "frame is None; cv2.imread returns None"),
        (np.zeros((4, 4, 3), np.float32), "frame must be uint8 with values 0 to 255, not float32"),
        (np.zeros((4, 4, 3), np.uint16), "uint8 .* not uint16"),
        (np.zeros((4, 4), bool), "uint8 .* not bool"),
        (np.zeros((0, 4, 3), np.uint8), r"frame is empty: its shape is \(0, 4, 3\)"),
        (np.zeros((0, 0), np.uint8), "empty"),
        (np.zeros(5, np.uint8), r"frame must have shape .* not \(5,\)"),
        (np.zeros((3, 8, 8), np.uint8), r"must have shape .* not \(3, 8, 8\)"),
        (np.zeros((1, 8, 8, 3), np.uint8), r"must have shape .* not \(1, 8, 8, 3\)"),
        ([[1, 2], [3, 4]], "must be a path or a uint8 BGR array, not list"),
    ],
)
def test_arrays_that_are_no_image_are_refused_by_name(value: object, message: str) -> None:
    with pytest.raises(ImageError, match=message):
        as_bgr(value, "frame")
    with pytest.raises(ImageError, match=message):
        load_image(value, "frame")
