"""Splits a data set into training and validation images, the same way every time."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

from facedet_mm.datasets.records import FaceData
from facedet_mm.errors import FaceDetError


def split(data: FaceData, val: float = 0.2, by: str = "image", seed: int = 0) -> tuple[FaceData, FaceData]:
    """Splits a data set by groups of images that must not be torn apart.

    Groups are taken for validation in the order of a hash of their name and the seed, until the share of images comes
    as close as it can. The order of the data set has no influence, and a new image moves few others.

    Args:
        data: The data set.
        val: Share of the images for validation, above 0 and below 1.
        by: ``image``: every image is a group; ``folder``: the images of a folder are one; else a regular expression,
            whose first group, or whole match, in the name of an image names its group: ``'^(clip\\d+)_'``.
        seed: Any number; another one gives another split.

    Returns:
        The data for training and for validation, in the order of ``data``.

    Raises:
        FaceDetError: There are fewer than two groups, the expression is malformed, or it does not match an image.

    Example:
        >>> from facedet_mm.datasets.annotations import read_dataset
        >>> import tempfile, pathlib
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = pathlib.Path(folder.name, "faces.txt")
        >>> _ = path.write_text("".join(f"# {event}/{i}.jpg\\n1 2 30 40\\n" for event in "abcd" for i in range(5)))
        >>> train, val = split(read_dataset(path), val=0.25, by="folder")
        >>> len(train.images), sorted({image.name[0] for image in val.images})
        (15, ['c'])
        >>> folder.cleanup()
    """
    group_of = _grouping(by)
    groups: dict[str, list[int]] = defaultdict(list)
    for index, image in enumerate(data.images):
        groups[group_of(image.name)].append(index)
    if len(groups) < 2:
        raise FaceDetError(f"a split by {by!r} needs at least two groups of images, and there is {len(groups)}")
    order = sorted(groups, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode("utf-8", "replace")).digest())
    wanted, chosen = val * len(data.images), set(groups[order[0]])
    for name in order[1:-1]:
        larger = len(chosen) + len(groups[name])
        if abs(larger - wanted) < abs(len(chosen) - wanted):
            chosen.update(groups[name])
    return _part(data, set(range(len(data.images))) - chosen), _part(data, chosen)


def _grouping(by: str) -> Callable[[str], str]:
    if by == "image":
        return lambda name: name
    if by == "folder":
        return lambda name: name.rpartition("/")[0]
    try:
        pattern = re.compile(by)
    except re.error as error:
        raise FaceDetError(f"{by!r} is neither 'image' nor 'folder' nor a regular expression: {error}") from error

    def group(name: str) -> str:
        match = pattern.search(name)
        if match is None:
            raise FaceDetError(f"the expression {by!r} does not match the image {name!r}; change it so that all match")
        return (match[1] if pattern.groups else match[0]) or ""

    return group


def _part(data: FaceData, chosen: set[int]) -> FaceData:
    rows = sorted(chosen)
    return replace(data, images=[data.images[i] for i in rows], places=[data.places[i] for i in rows])
