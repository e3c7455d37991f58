"""The parser of command lines: no abbreviations, no empty names, and the usage of the command that was given."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from facedet_mm.system.text import one_line


class Parser(argparse.ArgumentParser):
    """An argument parser that reads options only by their whole names and refuses empty names of files.

    Example:
        >>> parser = Parser(prog="facedet detect")
        >>> _ = parser.add_argument("--out", type=Path)
        >>> parser.parse_args(["--out", "faces"])
        Namespace(out=PosixPath('faces'))
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **{"allow_abbrev": False, **options})
        self.register("type", Path, _path)
        self.register("type", None, _text)

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parses the words; unknown options are an error of the command, not of the program around it."""
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self._refuse(unknown)
        return found, []

    def add_subparsers(self, **options: Any) -> Any:
        """Adds commands, whose words are checked by the parser of each command."""
        commands = super().add_subparsers(**options)
        commands.type = str
        return commands

    def error(self, message: str) -> NoReturn:
        """Ends the program with the usage and one line, in which names show their escapes."""
        super().error(one_line(message))

    def _refuse(self, unknown: Sequence[str]) -> NoReturn:
        options = [word.partition("=")[0] for word in unknown if word.startswith("-")]
        known = [name for action in self._actions for name in action.option_strings if name.startswith("--")]
        close = [name for option in options[:1] for name in _similar(option, known)]
        hint = f"; did you mean {close[0]}?" if close else ""
        self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")


def _similar(option: str, known: Sequence[str]) -> list[str]:
    begun = [name for name in known if option.startswith("--") and name.startswith(option)]
    return begun or difflib.get_close_matches(option, known, 1, 0.7)


def _path(text: str) -> Path:
    return Path(_text(text))


def _text(text: str) -> str:
    if not text:
        raise argparse.ArgumentTypeError("must not be empty")
    return text
