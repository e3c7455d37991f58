"""Text of strangers: what is shown of it in one line, and what counts as a number."""

from __future__ import annotations

import os

import pytest

from facedet_mm.errors import AnnotationError
from facedet_mm.system.reading import read_text_file, read_whole_file
from facedet_mm.system.text import are_plain_numbers, one_line, parse_number, parse_whole


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a.jpg", "a.jpg"),
        ("Ärger 日本 😀.jpg", "Ärger 日本 😀.jpg"),
        ("C:\\new\\a.jpg", "C:\\new\\a.jpg"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b]0;title\x07\x9b2J\x7f", r"\x1b]0;title\x07\x9b2J\x7f"),
        ("gpj.\u202eexe", r"gpj.\u202eexe"),
        ("a\u2028b\x85", r"a\u2028b\x85"),
        (os.fsdecode(b"\xe9.jpg"), r"\udce9.jpg" if os.name != "nt" else "é.jpg"),
        ("\x00", r"\x00"),
    ],
)
def test_what_would_steer_a_terminal_is_shown_instead(text: str, shown: str) -> None:
    assert one_line(text) == shown


@pytest.mark.parametrize("field", ["0", "-1", "+1.5", ".5", "5.", "1e3", "1E-3", "3.4028234663852886e38", "1e-400"])
def test_plain_decimal_numbers_are_read_as_python_reads_them(field: str) -> None:
    assert parse_number(field) == float(field)
    assert are_plain_numbers(field.encode())


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        ("x", "number"),
        ("", "number"),
        ("0x10", "number"),
        ("1,5", "number"),
        ("nan", "finite number"),
        ("-Infinity", "finite number"),
        ("1_0", "plain decimal number"),
        ("１", "plain decimal number"),
        ("٣", "plain decimal number"),
        (" 1", "plain decimal number"),
        ("3.5e38", "finite number in float32"),
        ("-1.8e308", "finite number in float32"),
        ("1e400", "finite number in float32"),
    ],
)
def test_other_things_are_no_numbers(field: str, kind: str) -> None:
    with pytest.raises(ValueError, match=f"is not a {kind}$"):
        parse_number(field)


def test_whole_numbers_are_whole_and_within_limits() -> None:
    assert [parse_whole(field, -1, 2**63 - 1) for field in ("-1", "3.0", "3e2", str(2**63 - 1))] == [
        -1, 3, 300, 2**63 - 1,
    ]  # fmt: skip
    for field in ("1.9", "-2", "9223372036854775808", "1_0", "nan", "9" * 5000):
        with pytest.raises(ValueError, match="is not a"):
            parse_whole(field, -1, 2**63 - 1)


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="needs /dev/zero")
def test_a_device_without_an_end_is_not_read_for_ever() -> None:
    with pytest.raises(AnnotationError, match=r"/dev/zero is larger than 1 MB, so it is not a log"):
        read_whole_file("/dev/zero", 1 << 20, "a log")


def test_text_names_the_line_that_is_no_utf_8(tmp_path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\ntwo \xff\n")
    with pytest.raises(AnnotationError, match=r"a\.txt is not a text file in UTF-8 \(line 2\), so it is not a list"):
        read_text_file(path, 99, "a list")
    path.write_bytes(b"\xef\xbb\xbfone\r\n")
    assert read_text_file(path, 99, "a list") == "one\r\n"
    with pytest.raises(AnnotationError, match="cannot read"):
        read_text_file(tmp_path / "a\0b", 99, "a list")
