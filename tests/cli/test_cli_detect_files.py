"""``facedet detect`` on links, pipes, devices, files with pages, floating-point and very large images."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from facedet_mm import Faces, build_detector
from facedet_mm.cli import main
from facedet_mm.datasets import read_predictions
from facedet_mm.io.images import read_image
from facedet_mm.zoo import asset_path


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return read_image(asset_path("solvay_1927.jpg"))[1000:1700, 100:800]


def write(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())
    return path


def pages_file(path: Path, *images: np.ndarray) -> Path:
    first, *others = (Image.fromarray(image[..., ::-1]) for image in images)
    file = io.BytesIO()
    first.save(file, path.suffix[1:].upper(), save_all=True, append_images=others)
    path.write_bytes(file.getvalue())
    return path


def records_of(path: Path) -> list[dict]:
    return json.loads(path.read_text())


def pfm(image: np.ndarray) -> bytes:
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) / 255
    return b"Pf\n%d %d\n-1.0\n" % gray.shape[::-1] + np.flipud(gray).astype("<f4").tobytes()


def test_a_gray_floating_point_image_has_its_own_faces_and_not_those_before_it(
    tmp_path: Path, photo: np.ndarray
) -> None:
    gray = np.repeat(cv2.cvtColor(photo, cv2.COLOR_BGR2GRAY)[..., None], 3, axis=2)
    dark = tmp_path / "dark.pfm"
    dark.write_bytes(pfm(np.zeros_like(photo)))
    light = tmp_path / "light.pfm"
    light.write_bytes(pfm(photo))
    detector = build_detector()
    assert len(detector.detect(photo)) == 5
    assert len(detector.detect(dark)) == 0
    assert detector.detect(light) == detector.detect(gray)


def test_a_blob_of_an_image_with_one_channel_is_not_the_one_before_it(photo: np.ndarray) -> None:
    from facedet_mm.detectors.preprocess import Letterbox, Normalization, Workspace, make_blob

    normalization, workspace = Normalization((127.5,) * 3, (128.0,) * 3, True), Workspace()
    letterbox = Letterbox((700, 700), (320, 320), (320, 320))
    before = make_blob([photo], [letterbox], normalization, workspace).copy()
    try:
        after = make_blob([photo[::-1, :, 0].copy()], [letterbox], normalization, workspace)
    except (cv2.error, ValueError):
        return
    assert not np.array_equal(before, after)


def test_pipes_and_devices_in_a_folder_are_no_images(tmp_path: Path, photo: np.ndarray) -> None:
    write(tmp_path / "album" / "a.png", photo)
    os.mkfifo(tmp_path / "album" / "b.png")
    (tmp_path / "album" / "c.png").symlink_to("/dev/zero")
    command = [sys.executable, "-m", "facedet_mm", "detect", tmp_path / "album", "--json", tmp_path / "f.json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert [len(record["faces"]) for record in records_of(tmp_path / "f.json")] == [5]


def test_an_endless_device_that_is_named_costs_one_line(tmp_path: Path, photo: np.ndarray, capsys) -> None:
    image = write(tmp_path / "a.png", photo)
    assert main(["detect", "/dev/zero", str(image), str(tmp_path), "--json", str(tmp_path / "f.json"), "-q"]) == 1
    assert "error: /dev/zero: not an image in a format that OpenCV reads" in capsys.readouterr().err
    assert len(records_of(tmp_path / "f.json")) == 2


def test_a_pipe_that_is_named_is_read(tmp_path: Path, photo: np.ndarray) -> None:
    image = write(tmp_path / "a.png", photo)
    command = f'"{sys.executable}" -m facedet_mm detect <(cat "{image}") --json "{tmp_path}/f.json"'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(records_of(tmp_path / "f.json")[0]["faces"]) == 5


def test_a_linked_image_belongs_to_the_event_where_the_link_is(tmp_path: Path, photo: np.ndarray, monkeypatch) -> None:
    stored = write(tmp_path / "cache" / "0f" / "3a9c.png", photo)
    for event in ("0--Parade", "1--Handshaking"):
        (tmp_path / "data" / event).mkdir(parents=True)
        (tmp_path / "data" / event / "1.png").symlink_to(stored)
    (tmp_path / "links").symlink_to(tmp_path / "data" / "0--Parade")
    assert main(["detect", str(tmp_path / "data"), "-r", "--wider", str(tmp_path / "w"), "-q"]) == 0
    assert sorted(read_predictions(tmp_path / "w").names) == ["0--Parade/1", "1--Handshaking/1"]
    monkeypatch.chdir(tmp_path / "data" / "0--Parade")
    assert main(["detect", "1.png", "--wider", str(tmp_path / "here"), "-q"]) == 0
    assert read_predictions(tmp_path / "here").names == ("0--Parade/1",)


def test_linked_folders_are_searched_once(tmp_path: Path, photo: np.ndarray) -> None:
    write(tmp_path / "elsewhere" / "1.png", photo)
    write(tmp_path / "data" / "1--Handshaking" / "2.png", photo)
    for name, target in (("0--Parade", "../elsewhere"), ("2--Again", "1--Handshaking"), ("3--Circle", "..")):
        (tmp_path / "data" / name).symlink_to(target)
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "data")
    assert main(["detect", str(tmp_path / "data"), "-r", "--wider", str(tmp_path / "w"), "-q"]) == 0
    assert sorted(read_predictions(tmp_path / "w").names) == ["0--Parade/1", "1--Handshaking/2"]


@pytest.mark.parametrize("name", ["two\nlines.png", "carriage\rreturn.png"])
def test_names_with_line_breaks_make_outputs_that_can_be_read(tmp_path: Path, photo: np.ndarray, name: str) -> None:
    import csv

    write(tmp_path / "party" / name, photo)
    out = [f"--{option}={tmp_path / option}" for option in ("wider", "csv", "json")]
    assert main(["detect", str(tmp_path / "party"), "-q", *out]) == 0
    predictions = read_predictions(tmp_path / "wider")
    assert predictions.names == (f"party/{Path(name).stem}",)
    assert len(predictions.scores) == 5
    with (tmp_path / "csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [str(tmp_path / "party" / name)] * 5
    assert {row["track_id"] for row in rows} == {""}


@pytest.mark.parametrize("suffix", [".tiff", ".gif", ".png", ".webp"])
def test_all_pages_are_used_on_request_and_told_of_otherwise(
    tmp_path: Path, photo: np.ndarray, suffix: str, capsys
) -> None:
    path = pages_file(tmp_path / f"scan{suffix}", photo, photo // 4, photo[:, ::-1])
    detected = ["detect", str(path), "--json", str(tmp_path / "f.json")]
    assert main(detected) == 0
    assert f"facedet detect: {path}: only the first of 3 pages was used; --pages uses all" in capsys.readouterr().err
    assert [record["image"] for record in records_of(tmp_path / "f.json")] == [str(path)]
    more = ["--out", str(tmp_path / "out"), "--wider", str(tmp_path / "w"), "--crops", str(tmp_path / "crops")]
    assert main([*detected, "--pages", *more]) == 0
    assert capsys.readouterr().err == ""
    records = records_of(tmp_path / "f.json")
    assert [record["image"] for record in records] == [f"{path}#page={page}" for page in (1, 2, 3)]
    first, _, last = (
        Faces([face["box"] for face in record["faces"]], [1] * len(record["faces"])) for record in records
    )
    assert len(first) == len(last) == 5
    assert np.allclose(np.sort(700 - last.boxes[:, 2]), np.sort(first.boxes[:, 0]), atol=15)
    assert sorted(read_predictions(tmp_path / "w").names) == [f"{tmp_path.name}/scan_p{page}" for page in (1, 2, 3)]
    assert len(list((tmp_path / "out").iterdir())) == 3
    assert len([file for file in (tmp_path / "crops").iterdir() if file.stem.startswith("scan_p3_")]) == 5


def test_pages_after_a_damaged_one_are_reported(tmp_path: Path, photo: np.ndarray, capsys) -> None:
    path = tmp_path / "scan.tiff"
    file = io.BytesIO()
    pages = [Image.fromarray(photo), Image.fromarray(photo), Image.fromarray(photo)]
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:], compression="tiff_lzw")
    data = bytearray(file.getvalue())
    with Image.open(io.BytesIO(data)) as image:
        image.seek(1)
        strip = image.tag_v2[273][0]
    data[strip : strip + 500] = bytes(500)
    path.write_bytes(data)
    assert main(["detect", str(path), "--pages", "--json", str(tmp_path / "f.json"), "-q"]) == 1
    errors = capsys.readouterr().err
    assert "error: " + str(path) + ": damaged, truncated or oversized TIFF" in errors
    assert f"error: {path}#page=3: not read, because a page before it is damaged" in errors
    assert "2 of 3 images failed" in errors
    assert [record["image"] for record in records_of(tmp_path / "f.json")] == [f"{path}#page=1"]


def test_hidden_faces_stay_hidden_in_a_rotated_webp_or_avif(tmp_path: Path, photo: np.ndarray) -> None:
    sideways = Image.fromarray(np.rot90(photo)[..., ::-1])
    exif = Image.Exif()
    exif[0x112] = 6
    detector = build_detector()
    for name, options in (("WEBP", {"lossless": True}), ("AVIF", {"quality": 90, "speed": 9})):
        path = tmp_path / f"phone.{name.lower()}"
        sideways.save(path, name, exif=exif, **options)
        assert len(detector.detect(path)) == 5
        assert main(["detect", str(path), "--anonymize", "fill", "--out", str(tmp_path / "out"), "-q"]) == 0
        assert len(detector.detect(tmp_path / "out" / path.name)) == 0


def test_an_image_of_too_many_pixels_costs_one_line_and_the_limit_can_be_raised(
    tmp_path: Path, photo: np.ndarray, capsys
) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 32000, 32000, 1, 0, 0, 0, 0))
    packed = zlib.compress(bytes(4001 * 32000), 9)
    huge = tmp_path / "huge.png"
    huge.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", packed) + chunk(b"IEND", b""))
    image = write(tmp_path / "photo.png", photo)
    assert main(["detect", str(huge), str(image), "-q"]) == 1
    assert "huge.png: 32000 x 32000 pixels, more than the limit of 200,000,000; set" in capsys.readouterr().err
    assert main(["detect", str(image), "--max-pixels", "489999", "-q"]) == 1
    assert "photo.png: 700 x 700 pixels, more than the limit of 489,999" in capsys.readouterr().err
    assert main(["detect", str(image), "--max-pixels", "490000", "-q"]) == 0
