"""Settings as frozen dataclasses whose fields carry their check and help text; command lines are made from them."""

from __future__ import annotations

import functools
import inspect
import math
import textwrap
from collections.abc import Callable
from dataclasses import Field, dataclass, fields
from typing import Any, ParamSpec, TypeVar

from facedet_mm.errors import FaceDetError

P = ParamSpec("P")
S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True)
class Kind:
    """The values that a setting takes.

    Attributes:
        expected: Description for error messages, such as "a number from 0 to 1".
        parse: Reads a value from text; raises ``ValueError`` for text of another kind.
        check: Returns the value, normalized; raises ``ValueError`` or ``TypeError`` for a value of another kind, or a
            :class:`FaceDetError` with a message of its own.

    Example:
        >>> FRACTION.checked("score_thr", 1.5)
        Traceback (most recent call last):
        facedet_mm.errors.FaceDetError: score_thr must be a number from 0 to 1, not 1.5
    """

    expected: str
    parse: Callable[[str], Any]
    check: Callable[[Any], Any]

    def checked(self, name: str, value: Any, optional: bool = False) -> Any:
        """Returns ``value``, normalized.

        Raises:
            FaceDetError: The value is of another kind; the message starts with ``name``.
        """
        if optional and value is None:
            return None
        try:
            return self.check(value)
        except (TypeError, ValueError, OverflowError):
            or_none = " or None" if optional else ""
            raise FaceDetError(f"{name} must be {self.expected}{or_none}, not {value!r}") from None


def _between(value: Any, low: float, high: float, whole: bool = False) -> Any:
    if isinstance(value, bool) or (whole and value != int(value)) or not low <= value <= high:
        raise ValueError
    return int(value) if whole else value


def one_of(*choices: str) -> Kind:
    """Returns the kind of a setting that takes one of ``choices``."""

    def check(value: Any) -> Any:
        if value not in choices:
            raise ValueError
        return value

    return Kind(f"one of {', '.join(choices)}", str, check)


TEXT = Kind("text or a path", str, lambda value: value)
FLAG = Kind("True or False", bool, bool)
FRACTION = Kind("a number from 0 to 1", float, lambda value: _between(value, 0, 1))
_LARGEST = math.nextafter(math.inf, 0)
NUMBER = Kind("a number", float, lambda value: float(_between(value, -_LARGEST, _LARGEST)))
NON_NEGATIVE = Kind("a number from 0 on", float, lambda value: _between(value, 0, _LARGEST))
POSITIVE_NUMBER = Kind("a number above 0", float, lambda value: _between(value, math.nextafter(0, 1), _LARGEST))
POSITIVE = Kind("a whole number from 1 on", int, lambda value: _between(value, 1, math.inf, whole=True))
COUNT = Kind("a whole number from 0 on", int, lambda value: _between(value, 0, math.inf, whole=True))


@dataclass(frozen=True)
class Setting:
    """What is known of one field of a settings class beside its type and default.

    Attributes:
        help: One sentence for the documentation and the command line, without a final period.
        kind: Values that the field takes.
        metavar: Placeholder of the value on the command line.
        choices: Values that the command line takes, where they are few.
        flag: Option on the command line; empty derives it from the field's name.
        default_help: Meaning of the default, where its value does not say it.
        fixed: Whether the value is settled once a detector has opened its model.
    """

    help: str
    kind: Kind = TEXT
    metavar: str | None = None
    choices: tuple[str, ...] | None = None
    flag: str = ""
    default_help: str = ""
    fixed: bool = False


def setting(help: str, kind: Kind = TEXT, **details: Any) -> dict[str, Setting]:
    """Returns the metadata of a dataclass field that is a setting; takes what :class:`Setting` takes."""
    return {"setting": Setting(help, kind, **details)}


class Settings:
    """Base of frozen dataclasses whose fields have the metadata of :func:`setting`; checks all values.

    Raises:
        FaceDetError: A value is of the wrong kind.

    Example:
        >>> from dataclasses import dataclass, field
        >>> @dataclass(frozen=True)
        ... class Options(Settings):
        ...     workers: int = field(default=4, metadata=setting("Number of threads", POSITIVE))
        >>> Options(workers=0)
        Traceback (most recent call last):
        facedet_mm.errors.FaceDetError: workers must be a whole number from 1 on, not 0
    """

    def __post_init__(self) -> None:
        for item, declared in declared_settings(type(self)):
            value = declared.kind.checked(item.name, getattr(self, item.name), optional=item.default is None)
            object.__setattr__(self, item.name, value)


def declared_settings(cls: type[Any]) -> list[tuple[Field[Any], Setting]]:
    """Returns the fields of a settings class that have the metadata of :func:`setting`, in their order."""
    return [(item, item.metadata["setting"]) for item in fields(cls) if "setting" in item.metadata]


def document(cls: type[T]) -> type[T]:
    """Class decorator that adds the help texts of the fields to the class's docstring."""
    lines = ["Attributes:"]
    for item, declared in declared_settings(cls):
        default = f" The default means {declared.default_help}." if declared.default_help else ""
        text = f"{item.name}: {declared.help}.{default}"
        lines += textwrap.wrap(text, 110, initial_indent="    ", subsequent_indent="        ")
    cls.__doc__ = "\n".join([inspect.cleandoc(cls.__doc__ or ""), "", *lines])
    return cls


def takes(settings: Callable[P, S]) -> Callable[[Callable[[S], T]], Callable[P, T]]:
    """Function decorator: the function takes the settings one by one, by position or keyword, as the class does.

    Example:
        >>> from dataclasses import dataclass, field
        >>> @dataclass(frozen=True)
        ... class Options(Settings):
        ...     workers: int = field(default=4, metadata=setting("Number of threads", POSITIVE))
        >>> @takes(Options)
        ... def start(options):
        ...     return options.workers
        >>> start(), start(2), start(workers=3)
        (4, 2, 3)
    """

    def decorate(function: Callable[[S], T]) -> Callable[P, T]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> T:
            return function(settings(*args, **kwargs))

        returned = inspect.signature(function).return_annotation
        call.__signature__ = inspect.signature(settings).replace(return_annotation=returned)  # type: ignore[attr-defined]
        return call

    return decorate
