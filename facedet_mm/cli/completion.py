"""``facedet completion``: a script that completes commands and options in a shell."""

from __future__ import annotations

import argparse
from pathlib import Path

import shtab

from facedet_mm.cli import build_parser
from facedet_mm.zoo import MODELS

_EPILOG = """\
examples:
  facedet completion bash > ~/.local/share/bash-completion/completions/facedet
  facedet completion zsh > ~/.zfunc/_facedet          (with fpath+=~/.zfunc before compinit in ~/.zshrc)
  facedet completion fish > ~/.config/fish/completions/facedet.fish"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.epilog = _EPILOG
    parser.add_argument("shell", choices=shtab.SUPPORTED_SHELLS, help="the shell")


def run(args: argparse.Namespace) -> int:
    """Runs the command; gives the exit status."""
    parser = build_parser(wanted=None)
    _tell_values(parser)
    print(shtab.complete(parser, args.shell))
    return 0


def _tell_values(parser: argparse.ArgumentParser) -> None:
    """Tells shtab which arguments are files and folders, and which names of the zoo."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                _tell_values(sub)
        elif action.metavar == "NAME":
            action.choices = list(MODELS)
        elif action.type is Path or action.metavar == "INPUT" or "--model" in action.option_strings:
            folder = "DIR" in str(action.metavar)
            action.complete = shtab.DIRECTORY if folder else shtab.FILE  # type: ignore[attr-defined]
