"""Command line options made from settings classes, and types of arguments for argparse."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Collection
from dataclasses import Field
from typing import Any, TypeVar

from facedet_mm.detectors.options import INPUT_SIZE, DetectorOptions
from facedet_mm.errors import FaceDetError
from facedet_mm.system.settings import FLAG, FRACTION, NON_NEGATIVE, POSITIVE, Kind, Setting, declared_settings

T = TypeVar("T")


def argument_type(kind: Kind) -> Callable[[str], Any]:
    """Returns the argparse type for values of a kind.

    Example:
        >>> argument_type(POSITIVE)("0")
        Traceback (most recent call last):
        argparse.ArgumentTypeError: must be a whole number from 1 on, not '0'
    """

    def read(text: str) -> Any:
        try:
            return kind.check(kind.parse(text))
        except FaceDetError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be {kind.expected}, not {text!r}") from None

    read.__doc__ = f"Reads {kind.expected}."
    return read


input_size = argument_type(INPUT_SIZE)
positive = argument_type(POSITIVE)
fraction = argument_type(FRACTION)
non_negative = argument_type(NON_NEGATIVE)


def add_settings(group: Any, cls: type[Any], without: Collection[str] = (), **defaults: Any) -> None:
    """Declares an option for each field of a settings class.

    Args:
        group: Parser or group of arguments.
        cls: Dataclass whose fields are made by :func:`~facedet_mm.system.settings.setting`.
        without: Fields that get no option.
        **defaults: Defaults that differ from those of the class.
    """
    for item, declared in declared_settings(cls):
        if item.name not in without:
            _add_setting(group, item, declared, defaults.get(item.name, item.default))


def _add_setting(group: Any, item: Field[Any], declared: Setting, default: Any) -> None:
    name, help = item.name.replace("_", "-"), _lower_first(declared.help).replace("%", "%%")
    if declared.kind is FLAG:
        if default:
            group.add_argument(f"--no-{name}", dest=item.name, action="store_false", help=f"no {help}")
        else:
            group.add_argument(f"--{name}", dest=item.name, action="store_true", help=help)
        return
    group.add_argument(
        declared.flag or f"--{name}",
        dest=item.name,
        type=argument_type(declared.kind),
        default=default,
        choices=declared.choices,
        metavar=declared.metavar,
        help=f"{help} (default: {declared.default_help if default is None else default})",
    )


def settings_from(args: argparse.Namespace, cls: type[T], **given: Any) -> T:
    """Returns the settings that the command line asks for.

    Args:
        args: Parsed arguments.
        cls: Dataclass passed to :func:`add_settings`.
        **given: Fields that have no option.

    Raises:
        FaceDetError: Values that do not go together.
    """
    parsed = {item.name: getattr(args, item.name) for item, _ in declared_settings(cls) if item.name not in given}
    return cls(**parsed, **given)


def command_line_words(message: str) -> str:
    """Returns an error message with options of the command line where it names arguments of Python functions.

    Example:
        >>> command_line_words("x.py needs its checkpoint: pass weights='….pth'")
        'x.py needs its checkpoint: pass --weights ….pth'
    """
    for item, declared in declared_settings(DetectorOptions):
        flag = declared.flag or f"--{item.name.replace('_', '-')}"
        given = rf"\b(pass|or|leave|set|use|with) {item.name}='?([^\s,;)']+)'?"
        message = re.sub(given, rf"\1 {flag} \2", message)
    return re.sub(r",? or call \w+\([^)]*\)", "", message)


def _lower_first(text: str) -> str:
    """Returns ``text`` with a small first letter, unless its first word is an abbreviation such as IoU."""
    return text if any(map(str.isupper, text.partition(" ")[0][1:])) else text[0].lower() + text[1:]
