"""``FaceFilter``: leaves out faces that are small, turned or blurred."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

from facedet_mm.errors import FaceDetError
from facedet_mm.imaging.attributes import FaceAttributes
from facedet_mm.system.settings import FRACTION, NON_NEGATIVE, Kind, Settings, document, setting

__all__ = ["FaceFilter"]


def _check_degrees(value: float) -> float:
    if isinstance(value, bool) or not 0 <= value <= 180:
        raise ValueError
    return value


_DEGREES = Kind("a number of degrees from 0 to 180", float, _check_degrees)
_ALL = "all faces"


@document
@dataclass(frozen=True)
class FaceFilter(Settings):
    """The faces to keep, by their :class:`~facedet_mm.imaging.attributes.FaceAttributes`; ``None`` keeps all.

    Raises:
        FaceDetError: A value is out of range.

    Example:
        >>> from facedet_mm import Faces
        >>> faces = Faces([[0, 0, 20, 20], [0, 0, 60, 60]], [0.9, 0.8])
        >>> FaceFilter(min_size=40).reasons(faces.attributes(np.zeros((90, 90, 3), np.uint8)))
        ['min_size', '']
    """

    min_size: float | None = field(
        default=None,
        metadata=setting(
            "Leave out faces smaller than this: the square root of the box's area in pixels",
            NON_NEGATIVE,
            metavar="PIXELS",
            default_help=_ALL,
        ),
    )
    max_yaw: float | None = field(
        default=None,
        metadata=setting(
            "Leave out faces that look further to the left or right", _DEGREES, metavar="DEGREES", default_help=_ALL
        ),
    )
    max_roll: float | None = field(
        default=None,
        metadata=setting(
            "Leave out faces that are turned further in the image plane",
            _DEGREES,
            metavar="DEGREES",
            default_help=_ALL,
        ),
    )
    min_sharpness: float | None = field(
        default=None,
        metadata=setting(
            "Leave out faces that are less sharp, on a scale from 0 to 1", FRACTION, metavar="S", default_help=_ALL
        ),
    )

    @property
    def filters(self) -> bool:
        """Whether any face can be left out."""
        return any(getattr(self, item.name) is not None for item in fields(FaceFilter))

    def reasons(self, attributes: FaceAttributes) -> list[str]:
        """Returns for each face the name of the first setting that leaves it out, or an empty string.

        A face whose pose is unknown because its landmarks coincide is left out by ``max_yaw`` and ``max_roll``.

        Raises:
            FaceDetError: There are faces without landmarks, and ``max_yaw`` or ``max_roll`` is set.
        """
        reasons = np.full(len(attributes), "", "U16")
        for item in fields(FaceFilter):
            limit = getattr(self, item.name)
            if limit is not None:
                most, _, column = item.name.partition("_")
                values = _column(attributes, column)
                kept = np.abs(values) <= limit if most == "max" else values >= limit
                reasons[(reasons == "") & ~kept] = item.name
        return [str(reason) for reason in reasons]


def _column(attributes: FaceAttributes, name: str) -> NDArray[np.float32]:
    values: NDArray[np.float32] | None = getattr(attributes, name)
    if values is None and len(attributes):
        raise FaceDetError(
            f"the {name} of a face is known from its landmarks, and this model predicts none; "
            "facedet models list shows which do"
        )
    return np.zeros(0, np.float32) if values is None else values
