"""Every format, mode and orientation gives the pixels that went in, and damage never gives other pixels silently."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps

from facedet_mm.errors import ImageError
from facedet_mm.io import decoding
from facedet_mm.io.images import read_image, read_pages
from facedet_mm.zoo import asset_path

TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: np.rot90(image, 2),
    4: lambda image: image[::-1],
    5: lambda image: np.rot90(image[:, ::-1]),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: np.rot90(image[:, ::-1], -1),
    8: lambda image: np.rot90(image),
}
"""What a viewer does for each EXIF orientation."""
LOSSLESS: dict[str, tuple[str, dict[str, Any]]] = {
    "bmp": ("BMP", {}),
    "gif": ("GIF", {}),
    "jp2": ("JPEG2000", {}),
    "png": ("PNG", {}),
    "ppm": ("PPM", {}),
    "tiff": ("TIFF", {}),
    "tiff-lzw": ("TIFF", {"compression": "tiff_lzw"}),
    "tiff-deflate": ("TIFF", {"compression": "tiff_deflate"}),
    "tiff-packbits": ("TIFF", {"compression": "packbits"}),
    "webp": ("WEBP", {"lossless": True, "exact": True}),
}
LOSSY: dict[str, tuple[str, dict[str, Any]]] = {
    "avif": ("AVIF", {"quality": 90, "speed": 9}),
    "jpeg": ("JPEG", {}),
    "jpeg-progressive": ("JPEG", {"progressive": True}),
    "tiff-jpeg": ("TIFF", {"compression": "jpeg"}),
    "webp-lossy": ("WEBP", {}),
}
HOLDS = {
    "1": {"bmp", "gif", "png", "ppm", "tiff", "tiff-lzw", "tiff-deflate", "tiff-packbits"},
    "L": set(LOSSLESS) | set(LOSSY),
    "P": {"bmp", "gif", "png", "tiff", "tiff-lzw", "tiff-deflate", "tiff-packbits"},
    "RGB": (set(LOSSLESS) | set(LOSSY)) - {"gif"},
    "LA": {"png", "jp2", "tiff", "tiff-lzw", "tiff-deflate", "tiff-packbits"},
    "RGBA": {"bmp", "png", "jp2", "tiff", "tiff-lzw", "tiff-deflate", "webp", "webp-lossy", "avif"},
    "CMYK": {"tiff", "tiff-lzw", "jpeg"},
}
"""Formats that store each mode as it is."""


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    bgr = cv2.resize(cv2.imread(str(asset_path("solvay_1927.jpg"))), (53, 38), interpolation=cv2.INTER_AREA)
    bgr[..., 0] = bgr[..., 0] // 2 + 20  # the photograph is gray; swapped channels must show
    bgr[..., 2] = bgr[::-1, :, 2]
    return Image.fromarray(bgr[..., ::-1])


def in_mode(photo: Image.Image, mode: str) -> Image.Image:
    if mode == "P":
        return photo.quantize(40)
    if mode in ("LA", "RGBA"):
        image = photo.convert(mode)
        image.putalpha(photo.convert("L").point(lambda value: 255 - value))
        return image
    return photo.convert(mode)


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    name, fixed = (LOSSLESS | LOSSY)[form]
    file = io.BytesIO()
    image.save(file, name, **fixed, **options)
    return file.getvalue()


def bgr(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"))[..., ::-1]


def read(folder: Path, data: bytes) -> np.ndarray:
    path = folder / "image"
    path.write_bytes(data)
    return read_image(path)


@pytest.mark.parametrize(
    ("mode", "form"), [(mode, form) for mode, forms in HOLDS.items() for form in sorted(forms)], ids="-".join
)
def test_every_mode_of_every_format_gives_the_pixels_that_went_in(
    tmp_path: Path, photo: Image.Image, mode: str, form: str
) -> None:
    image = in_mode(photo, mode)
    data = saved(image, form)
    expected = bgr(image) if form in LOSSLESS else bgr(Image.open(io.BytesIO(data)))
    result = read(tmp_path, data)
    assert (result.dtype, result.shape) == (np.uint8, (38, 53, 3))
    assert result.flags.c_contiguous
    assert np.abs(result.astype(int) - expected).max() <= (1 if (mode, form) == ("CMYK", "jpeg") else 0)


@pytest.mark.parametrize("form", ["png", "tiff", "tiff-lzw", "webp", "jpeg", "webp-lossy", "avif"])
def test_every_orientation_is_applied(tmp_path: Path, photo: Image.Image, form: str) -> None:
    for orientation, turn in TURNS.items():
        exif = Image.Exif()
        exif[0x112] = orientation
        data = saved(photo, form, exif=exif)
        stored = bgr(photo) if form in LOSSLESS else bgr(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
        expected = turn(stored) if form in LOSSLESS else stored
        assert np.array_equal(read(tmp_path, data), expected), orientation
        assert np.abs(expected.astype(int) - turn(bgr(photo))).mean() < 18  # the reference itself is upright


def test_sixteen_bits_keep_their_high_byte_in_every_format(tmp_path: Path, photo: Image.Image) -> None:
    color = bgr(photo)
    deep = color.astype(np.uint16) * 256 + 77
    for suffix in (".png", ".tiff", ".ppm", ".jp2"):
        for orientation_less, expected in ((deep, color), (deep[..., 1], np.dstack([color[..., 1]] * 3))):
            name = ".pgm" if suffix == ".ppm" and orientation_less.ndim == 2 else suffix
            data = cv2.imencode(name, orientation_less, [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])[1].tobytes()
            assert np.array_equal(read(tmp_path, data), expected), name


@pytest.mark.parametrize("highest", [1, 3, 15, 100, 255, 1000, 4095, 65535])
def test_the_brightest_value_of_a_netpbm_image_is_white(tmp_path: Path, highest: int) -> None:
    values = np.random.default_rng(highest).integers(0, highest + 1, (5, 7, 3))
    values[0, 0] = highest
    expected = (values >> 8 if highest == 65535 else np.round(values * 255 / highest)).astype(np.uint8)
    binary = values.astype(">u2" if highest > 255 else np.uint8)
    size = b"7 5\n%d\n" % highest
    pam = b"P7\nWIDTH 7\nHEIGHT 5\nDEPTH 3\nMAXVAL %d\nTUPLTYPE RGB\nENDHDR\n" % highest
    text = b"\n".join(b" ".join(b"%d" % value for value in row.ravel()) for row in values)
    for color in (b"P6\n# a comment\n" + size + binary.tobytes(), pam + binary.tobytes(), b"P3 " + size + text):
        assert np.array_equal(read(tmp_path, color), expected[..., ::-1])
    gray = np.dstack([expected[..., 0]] * 3)
    text = b" ".join(b"%d" % value for value in values[..., 0].ravel())
    for plain in (b"P5 " + size + binary[..., 0].tobytes(), b"P2 " + size + text):
        assert np.array_equal(read(tmp_path, plain), gray)
        with pytest.raises(ImageError, match="damaged, truncated or oversized Netpbm: samples are missing"):
            read(tmp_path, plain[:-3] if plain.startswith(b"P5") else plain[:-8])


def test_bits_of_netpbm_bitmaps_are_black(tmp_path: Path) -> None:
    for data in (b"P1\n3 2\n010\n1 1 1\n", b"P4 3 2\n" + bytes([0b01000000, 0b11100000])):
        assert read(tmp_path, data)[..., 0].tolist() == [[255, 0, 255], [0, 0, 0]]


def pfm(values: np.ndarray) -> bytes:
    head = b"%s\n%d %d\n-1.0\n" % (b"PF" if values.ndim == 3 else b"Pf", values.shape[1], values.shape[0])
    return head + np.flipud(values[..., ::-1] if values.ndim == 3 else values).astype("<f4").tobytes()


def tiff(samples: np.ndarray, photometric: int, sample_format: int, orientation: int = 1, planar: int = 1) -> bytes:
    """A TIFF file of one strip per plane, written by hand: OpenCV and Pillow write few kinds."""
    height, width = samples.shape[:2]
    channels = samples.shape[2] if samples.ndim == 3 else 1
    stored = samples.transpose(2, 0, 1) if planar == 2 else samples
    bits = samples.dtype.itemsize * 8
    strips = channels if planar == 2 else 1
    entries = 10
    end = 8 + 2 + entries * 12 + 4
    extra = {name: end + 32 * i for i, name in enumerate(("bits", "format", "offsets", "counts"))}
    start = end + 32 * len(extra)
    size = samples.nbytes // strips

    def entry(tag: int, kind: str, values: list[int], place: int = 0) -> bytes:
        packed = struct.pack(f"<{len(values)}{kind}", *values)
        value = packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack("<I", place)
        return struct.pack("<HHI", tag, {"H": 3, "I": 4}[kind], len(values)) + value

    offsets = [start + size * i for i in range(strips)]
    directory = b"".join(
        (
            entry(256, "I", [width]),
            entry(257, "I", [height]),
            entry(258, "H", [bits] * channels, extra["bits"]),
            entry(262, "H", [photometric]),
            entry(273, "I", offsets, extra["offsets"]),
            entry(274, "H", [orientation]),
            entry(277, "H", [channels]),
            entry(279, "I", [size] * strips, extra["counts"]),
            entry(284, "H", [planar]),
            entry(339, "H", [sample_format] * channels, extra["format"]),
        )
    )
    tables = (
        struct.pack(f"<{channels}H", *[bits] * channels),
        struct.pack(f"<{channels}H", *[sample_format] * channels),
        struct.pack(f"<{strips}I", *offsets),
        struct.pack(f"<{strips}I", *[size] * strips),
    )
    head = b"II*\0" + struct.pack("<IH", 8, entries) + directory + bytes(4)
    return head + b"".join(table.ljust(32, b"\0") for table in tables) + stored.tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floating_point_images_are_scaled_from_0_to_1(tmp_path: Path, photo: Image.Image, dtype: type) -> None:
    color = bgr(photo)
    gray = np.dstack([color[..., 1]] * 3)
    values = (color / 255).astype(dtype)
    assert np.array_equal(read(tmp_path, pfm(values)), color)
    assert np.array_equal(read(tmp_path, pfm(values[..., 1])), gray)
    for orientation, turn in TURNS.items():
        assert np.array_equal(read(tmp_path, tiff(values[..., ::-1], 2, 3, orientation)), turn(color))
    assert np.array_equal(read(tmp_path, tiff(values[..., 1], 1, 3)), gray)


@pytest.mark.parametrize(
    ("scale", "told"), [(255, "0 to 255"), (-1, "-1 to 0.27"), (np.nan, "nan to nan"), (np.inf, "inf")]
)
def test_floating_point_images_of_another_range_are_refused(tmp_path: Path, scale: float, told: str) -> None:
    values = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    values[1:] *= np.float32(scale)
    for data in (pfm(values), tiff(values, 1, 3)):
        with pytest.raises(
            ImageError, match=rf"image: a floating-point image must have values from 0 to 1, not .*{told}"
        ):
            read(tmp_path, data)


@pytest.mark.parametrize(
    ("dtype", "sample_format", "told"),
    [
        (np.int8, 2, "8-bit signed integers"),
        (np.int16, 2, "16-bit signed integers"),
        (np.int32, 2, "32-bit signed integers"),
        (np.uint32, 1, "32-bit samples"),
    ],
)
def test_samples_without_a_known_range_are_refused(tmp_path: Path, dtype: type, sample_format: int, told: str) -> None:
    values = np.arange(60).reshape(4, 5, 3).astype(dtype)
    for samples, photometric in ((values, 2), (values[..., 0].copy(), 1)):
        with pytest.raises(ImageError, match=f"a TIFF of {told}; convert it to 8 or 16 bits"):
            read(tmp_path, tiff(samples, photometric, sample_format))


def test_every_layout_of_deep_tiff_files_is_read(tmp_path: Path, photo: Image.Image) -> None:
    rgb = np.asarray(photo)
    for dtype, factor in ((np.uint8, 1), (np.uint16, 257)):
        deep = rgb.astype(dtype) * dtype(factor)
        gray = np.dstack([rgb[..., 0]] * 3)
        assert np.array_equal(read(tmp_path, tiff(deep, 2, 1)), rgb[..., ::-1])
        assert np.array_equal(read(tmp_path, tiff(deep, 2, 1, planar=2)), rgb[..., ::-1])
        assert np.array_equal(read(tmp_path, tiff(deep[..., 0].copy(), 1, 1)), gray)
        assert np.array_equal(read(tmp_path, tiff(np.iinfo(dtype).max - deep[..., 0], 0, 1)), gray)


@pytest.mark.parametrize("form", ["tiff-lzw", "gif", "png", "avif"])
def test_damaged_data_are_refused_and_not_black(tmp_path: Path, photo: Image.Image, form: str) -> None:
    big = photo.resize((160, 120))
    data = saved(big, form)
    for share in (0.3, 0.5, 0.7):
        position = int(len(data) * share)
        broken = data[:position] + bytes(60) + data[position + 60 :]
        with pytest.raises(ImageError):
            read(tmp_path, broken)


@pytest.mark.parametrize("form", sorted({*LOSSLESS, *LOSSY}))
def test_a_cut_file_is_refused(tmp_path: Path, photo: Image.Image, form: str) -> None:
    data = saved(photo, form)
    for share in (0.2, 0.5, 0.8, 0.95):
        with pytest.raises(ImageError):
            read(tmp_path, data[: int(len(data) * share)])


@pytest.mark.parametrize("deep", [False, True])
def test_a_tiff_strip_that_cannot_be_decoded_is_refused(tmp_path: Path, photo: Image.Image, deep: bool) -> None:
    rgb = np.asarray(photo.resize((160, 120)))
    samples = rgb.astype(np.uint16) * 257 if deep else rgb
    data = bytearray(cv2.imencode(".tiff", samples[..., ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 32946])[1].tobytes())
    assert np.array_equal(read(tmp_path, bytes(data)), rgb[..., ::-1])
    strip = Image.open(io.BytesIO(data)).tag_v2[273][3]
    data[strip : strip + 100] = bytes(range(100))
    with pytest.raises(ImageError, match="damaged, truncated or oversized TIFF"):
        read(tmp_path, bytes(data))


def frames_of(photo: Image.Image, form: str) -> tuple[list[np.ndarray], bytes]:
    frames = [photo.rotate(90 * turn) for turn in range(4)]
    if form == "gif":
        frames = [frame.convert("L") for frame in frames]
    data = saved(frames[0], form, save_all=True, append_images=frames[1:])
    return [bgr(frame) for frame in frames], data


@pytest.mark.parametrize("form", ["tiff", "tiff-lzw", "gif", "png", "webp", "avif"])
def test_all_pages_are_read_on_request_and_told_of_otherwise(tmp_path: Path, photo: Image.Image, form: str) -> None:
    frames, data = frames_of(photo, form)
    path = tmp_path / f"pages.{form}"
    path.write_bytes(data)
    pages = list(read_pages(path))
    assert len(pages) == 4
    for page, frame in zip(pages, frames, strict=True):
        assert np.abs(page.astype(int) - frame).mean() <= (18 if form == "avif" else 0)
    with pytest.warns(UserWarning, match=r"pages\..*: only the first of 4 pages was used; read_pages reads all"):
        first = read_image(path)
    assert np.array_equal(first, pages[0])
    messages: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_image(path, notify=messages.append)
    assert len(messages) == 1


def test_deep_pages_are_read_and_smaller_copies_are_no_pages(tmp_path: Path, photo: Image.Image) -> None:
    rgb = np.asarray(photo)
    deep = [rgb.astype(np.uint16) * 257, rgb[::-1].astype(np.uint16) * 257]
    path = tmp_path / "deep.tiff"
    assert cv2.imwritemulti(str(path), [page[..., ::-1] for page in deep])
    for page, expected in zip(read_pages(path), (rgb, rgb[::-1]), strict=True):
        assert np.array_equal(page, expected[..., ::-1])
    file = io.BytesIO()
    photo.save(file, "TIFF", save_all=True, append_images=[photo.resize((20, 10))])
    pyramid = bytearray(file.getvalue())
    first = struct.unpack_from("<I", pyramid, 4)[0]
    second = struct.unpack_from("<I", pyramid, first + 2 + 12 * struct.unpack_from("<H", pyramid, first)[0])[0]
    entry = second + 2  # the first tag of the second page, its width, makes room for "a smaller copy"
    tags = struct.unpack_from("<H", pyramid, second)[0]
    position = next(p for p in range(entry, entry + 12 * tags, 12) if struct.unpack_from("<H", pyramid, p)[0] == 278)
    struct.pack_into("<HHII", pyramid, position, 254, 4, 1, 1)
    path.write_bytes(pyramid)
    assert len(list(read_pages(path))) == 1


def test_a_chain_of_pages_that_bites_its_tail_ends(tmp_path: Path, photo: Image.Image) -> None:
    data = bytearray(saved(photo, "tiff"))
    first = struct.unpack_from("<I", data, 4)[0]
    struct.pack_into("<I", data, first + 2 + 12 * struct.unpack_from("<H", data, first)[0], first)
    assert np.array_equal(read(tmp_path, bytes(data)), bgr(photo))
    struct.pack_into("<I", data, first + 2 + 12 * struct.unpack_from("<H", data, first)[0], 2**31)
    with pytest.raises(ImageError, match="TIFF: a directory lies outside the file"):
        read(tmp_path, bytes(data))


@pytest.mark.parametrize("options", [{}, {"restart_marker_blocks": 1}, {"restart_marker_blocks": 3}])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("orientation", [1, 6])
def test_coded_data_of_a_jpeg_that_stop_early_are_found_though_the_end_marker_is_there(
    tmp_path: Path, photo: Image.Image, options: dict[str, int], mode: str, progressive: bool, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    jpeg = saved(photo.resize((163, 117)).convert(mode), "jpeg", exif=exif, progressive=progressive, **options)
    assert read(tmp_path, jpeg).size == 163 * 117 * 3
    coded = jpeg.index(b"\xff\xda") + 14
    end = jpeg.rindex(b"\xff\xda") - 4 if progressive else len(jpeg)
    for share in (0.02, 0.2, 0.5, 0.8, 0.9):
        stop = coded + int(share * (end - coded))
        with pytest.raises(ImageError, match="JPEG"):
            read(tmp_path, jpeg[:stop].rstrip(b"\xff") + b"\xff\xd9")


def test_a_progressive_jpeg_cut_within_its_last_scan_loses_the_last_bit_at_most(
    tmp_path: Path, photo: Image.Image
) -> None:
    jpeg = saved(photo.resize((163, 117)), "jpeg-progressive")
    whole = read(tmp_path, jpeg)
    last = jpeg.rindex(b"\xff\xda") + 14
    cut = read(tmp_path, jpeg[:last] + b"\xff\xd9")
    assert 0 < np.abs(cut.astype(int) - whole).mean() < 4


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("value", [128, 0])
def test_a_whole_jpeg_that_ends_in_gray_is_read(
    tmp_path: Path, photo: Image.Image, value: int, progressive: bool
) -> None:
    image = np.asarray(photo.resize((160, 120))).copy()
    image[80:] = value
    for options in ({}, {"restart_marker_blocks": 1}, {"subsampling": 0}, {"subsampling": 2, "quality": 100}):
        data = saved(Image.fromarray(image), "jpeg", progressive=progressive, **options)
        assert (read(tmp_path, data)[100:] == value).all()


def test_png_data_that_stop_early_are_found(tmp_path: Path, photo: Image.Image) -> None:
    rows = b"".join(b"\0" + row.tobytes() for row in np.asarray(photo))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def png(packed: bytes) -> bytes:
        header = chunk(b"IHDR", struct.pack(">IIBBBBB", 53, 38, 8, 2, 0, 0, 0))
        return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", packed) + chunk(b"IEND", b"")

    assert np.array_equal(read(tmp_path, png(zlib.compress(rows))), bgr(photo))
    for packed in (zlib.compress(rows)[: len(rows) // 3], zlib.compress(rows[: len(rows) // 2])):
        with pytest.raises(ImageError, match="PNG"):
            read(tmp_path, png(packed))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_long_stack_is_opened_once_and_every_page_is_its_own(dtype: type, tmp_path: Path, monkeypatch) -> None:
    """Opened anew for every page, a stack of 3,000 took minutes: each opening walks along all pages before."""
    step = 1 if dtype is np.uint8 else 256
    pages = [Image.fromarray(np.full((8, 8), number * step, dtype)) for number in range(60)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    opened = []
    for name in ("BytesIO", "bytearray"):
        kind = getattr(decoding, name, bytearray)
        monkeypatch.setattr(
            decoding, name, lambda data, kind=kind: opened.append(len(data)) or kind(data), raising=False
        )
    assert [int(page.mean()) for page in read_pages(tmp_path / "a.tif")] == list(range(60))
    assert len(opened) == 1
