"""Title, chapters and other descriptions of a video: from the file that is read to the file that is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fractions import Fraction
from typing import Any, NamedTuple

_KEPT = (
    *("title", "artist", "album_artist", "album", "author", "composer", "copyright", "comment", "description"),
    *("synopsis", "genre", "date", "creation_time"),
)
"""Tags that are copied. The place of the recording is not: whoever makes faces unrecognizable does not expect it."""
_MAX_TEXT = 10_000
_MAX_CHAPTERS = 1_000
_TICK = Fraction(1, 1000)


class Chapter(NamedTuple):
    """A chapter of a video.

    Attributes:
        start: Seconds since the first frame.
        end: Seconds since the first frame.
        title: Its name, possibly empty.
    """

    start: float
    end: float
    title: str


def kept_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Returns the tags that a copy of a video keeps, with names in lower case.

    Example:
        >>> kept_tags({"TITLE": "Caf\\udce9", "encoder": "Lavf", "location": "+48.1+011.5/"})
        {'title': 'Café'}
    """
    found = {name.lower(): tag_text(text) for name, text in tags.items()}
    return {name: found[name] for name in _KEPT if found.get(name)}


def tag_text(text: str) -> str:
    """Returns a tag as it was meant: bytes that are not UTF-8, read as surrogates, are Latin-1."""
    data = text.encode("utf-8", "surrogateescape")[:_MAX_TEXT]
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("utf-8", "ignore") if _is_utf8(text) else data.decode("latin-1")


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def read_chapters(container: Any, start: float) -> tuple[Chapter, ...]:
    """Returns the chapters of an open PyAV container.

    Args:
        container: PyAV container.
        start: Timestamp of the first frame in seconds.
    """
    chapters = []
    for entry in container.chapters()[:_MAX_CHAPTERS]:
        first, last = (max(0.0, float(entry[name] * entry["time_base"]) - start) for name in ("start", "end"))
        if last > first:
            chapters.append(Chapter(first, last, tag_text(entry["metadata"].get("title", ""))))
    return tuple(chapters)


def write_tags(output: Any, tags: Mapping[str, str], chapters: Iterable[Chapter]) -> None:
    """Adds tags and chapters to a PyAV container whose header is not written yet."""
    output.metadata.update(tags)
    marks = [
        {
            "id": number,
            "start": round(chapter.start / _TICK),
            "end": round(chapter.end / _TICK),
            "time_base": _TICK,
            "metadata": {"title": chapter.title} if chapter.title else {},
        }
        for number, chapter in enumerate(chapters, 1)
    ]
    if marks:
        output.set_chapters(marks)
