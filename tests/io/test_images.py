"""Reading images: right pixels from every kind of file, a plain error for everything else."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from facedet_mm.errors import FaceDetError, ImageError
from facedet_mm.io.images import as_bgr, is_image_file, load_image, read_image
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
        "huge.png": (big_png(40000, 40000), "huge.png: 40000 x 40000 pixels, more than the limit of 200,000,000"),
        "scan.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "scan.heic: HEIC images are not supported; convert"),
        "film.webp": (b"RIFF\0\0\0\0AVI LIST", "film.webp: not an image"),
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


def test_the_limit_of_pixels_can_be_raised(tmp_path: Path, photo: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "photo.png"
    path.write_bytes(encode(photo, ".png"))
    with pytest.raises(
        ImageError, match=r"photo\.png: 150 x 109 pixels, more than the limit of 16,349; set FACEDET_MAX"
    ):
        read_image(path, max_pixels=16_349)
    assert read_image(path, max_pixels=16_350).shape == (109, 150, 3)
    monkeypatch.setenv("FACEDET_MAX_PIXELS", "16349")
    with pytest.raises(ImageError, match="more than the limit of 16,349"):
        read_image(path)
    monkeypatch.setenv("FACEDET_MAX_PIXELS", str(2**31))
    (tmp_path / "huge.png").write_bytes(big_png(40000, 40000))
    with pytest.raises(ImageError, match=r"huge\.png: too large for OpenCV"):
        read_image(tmp_path / "huge.png")
    for wrong in ("many", "0", "-5"):
        monkeypatch.setenv("FACEDET_MAX_PIXELS", wrong)
        with pytest.raises(
            FaceDetError, match=f"FACEDET_MAX_PIXELS must be a positive number of pixels, not '{wrong}'"
        ):
            read_image(path)


def headers_of_32000_squared(photo: np.ndarray) -> dict[str, bytes]:
    """A small file of every format, whose header says 32,000 x 32,000."""
    side, files = 32_000, {"png": big_png(32_000, 32_000)}
    jpeg = bytearray(encode(photo, ".jpg"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", side, side)
    files["jpg"] = bytes(jpeg)
    bmp = bytearray(encode(photo, ".bmp"))
    bmp[18:26] = struct.pack("<ii", side, -side)
    files["bmp"] = bytes(bmp)
    gif = io.BytesIO()
    Image.fromarray(photo).convert("P").save(gif, "GIF")
    screen, frame = bytearray(gif.getvalue()), bytearray(gif.getvalue())
    screen[6:10] = struct.pack("<HH", side, side)
    files["screen.gif"] = bytes(screen)
    place = frame.index(b",\0\0\0\0" + struct.pack("<HH", 150, 109)) + 5
    frame[place : place + 4] = struct.pack("<HH", side, side)
    files["frame.gif"] = bytes(frame)
    tiff = io.BytesIO()
    Image.fromarray(photo).convert("1").save(tiff, "TIFF", compression="group4")
    files["tiff"] = tiff.getvalue()
    for tag, value in ((256, 150), (257, 109)):
        entry = struct.pack("<HHI", tag, 3, 1)
        assert files["tiff"].count(entry + struct.pack("<I", value)) == 1
        files["tiff"] = files["tiff"].replace(entry + struct.pack("<I", value), entry + struct.pack("<I", side))
    for name, data in (
        ("webp", encode(photo, ".webp", cv2.IMWRITE_WEBP_QUALITY, 101)),
        ("lossy.webp", encode(photo, ".webp", cv2.IMWRITE_WEBP_QUALITY, 80)),
    ):
        extended = b"VP8X" + struct.pack("<IIHBHB", 10, 0, (side - 1) & 0xFFFF, 0, (side - 1) & 0xFFFF, 0)
        files[name] = b"RIFF" + struct.pack("<I", len(data) + 10) + b"WEBP" + extended + data[12:]
    files["pbm"] = b"P4\n32000 32000\n"
    files["ppm"] = b"P6\n32000 32000\n255\n"
    files["pam"] = b"P7\nWIDTH 32000\nHEIGHT 32000\nDEPTH 1\nMAXVAL 1\nENDHDR\n"
    files["pfm"] = b"Pf\n32000 32000\n-1.0\n"
    files["hdr"] = b"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y 32000 +X 32000\n"
    files["exr"] = b"v/1\x01\x02\0\0\0dataWindow\0box2i\0" + struct.pack("<5i", 16, 0, 0, side - 1, side - 1)
    files["ras"] = b"\x59\xa6\x6a\x95" + struct.pack(">7I", side, side, 24, 0, 1, 0, 0)
    jp2 = bytearray(encode(photo, ".jp2"))
    for place in (jp2.index(b"ihdr") + 4, jp2.index(b"\xff\x51") + 6):
        struct.pack_into(">II", jp2, place, side, side)
    files["jp2"] = bytes(jp2)
    return files


def test_large_images_of_every_format_are_refused_by_their_header(tmp_path: Path, photo: np.ndarray) -> None:
    paths = []
    for name, data in headers_of_32000_squared(photo).items():
        paths.append(tmp_path / f"huge.{name}")
        paths[-1].write_bytes(data)
        with pytest.raises(ImageError, match=r"huge\..*(32000 x 32000 pixels, more than the limit|too large)"):
            read_image(paths[-1])
    code = (
        "import sys\nfrom facedet_mm.errors import ImageError\nfrom facedet_mm.io.images import read_image\n"
        "for path in sys.argv[1:]:\n    try: read_image(path)\n    except ImageError: pass\n"
        "print(next(line for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True, timeout=60)
    assert int(done.stdout.split()[1]) < 300_000  # KB; one such image takes 3 GB


def test_a_pipe_that_is_named_is_read_to_its_end(tmp_path: Path, photo: np.ndarray) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(encode(photo, ".png"),))
    writer.start()
    assert np.array_equal(read_image(pipe), photo)
    writer.join()


@pytest.mark.parametrize("start", [b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n"])
def test_a_pipe_without_end_is_not_read_for_ever(tmp_path: Path, start: bytes) -> None:
    pipe = tmp_path / "pipe.jpg"
    os.mkfifo(pipe)
    written = 0

    def write() -> None:
        nonlocal written
        with contextlib.suppress(BrokenPipeError), pipe.open("wb", buffering=0) as file:
            file.write(start)
            while True:
                written += file.write(bytes(1 << 20))

    writer = threading.Thread(target=write)
    writer.start()
    with pytest.raises(ImageError, match=r"pipe\.jpg: (not an image|more than 67,188,864 bytes)"):
        read_image(pipe, max_pixels=10_000)
    writer.join()
    assert written < 1 << 27


def test_a_sparse_file_of_a_terabyte_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "sparse.bmp"
    path.write_bytes(b"BM" + bytes(16) + struct.pack("<ii", 10, 10) + bytes(64))
    os.truncate(path, 1 << 40)
    with pytest.raises(ImageError, match=r"sparse\.bmp: more than 1,667,108,864 bytes; set FACEDET_MAX_PIXELS"):
        read_image(path)


def test_only_regular_files_of_a_folder_are_images(tmp_path: Path, photo: np.ndarray) -> None:
    (tmp_path / "a.JPG").write_bytes(encode(photo, ".jpg"))
    (tmp_path / "linked.jpg").symlink_to("a.JPG")
    (tmp_path / "gone.jpg").symlink_to("nowhere")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "._a.jpg").write_bytes(b"\0")
    (tmp_path / "a.txt").write_bytes(b"\0")
    os.mkfifo(tmp_path / "pipe.jpg")
    found = sorted(path.name for path in tmp_path.iterdir() if is_image_file(path))
    assert found == ["a.JPG", "gone.jpg", "linked.jpg"]  # reading the broken link says what is missing


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
