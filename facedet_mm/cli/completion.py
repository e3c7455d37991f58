"""``facedet completion``: prints a script that completes commands and options in a shell."""

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
    """Adds the command's arguments to ``parser``."""
    parser.epilog = _EPILOG
    parser.add_argument("shell", choices=shtab.SUPPORTED_SHELLS, help="name of the shell")


def run(args: argparse.Namespace) -> int:
    """Runs the command and returns the exit status."""
    parser = build_parser(wanted=None)
    _add_completions(parser)
    print(shtab.complete(parser, args.shell))
    return 0


def _add_completions(parser: argparse.ArgumentParser) -> None:
    """Marks the arguments that are files, folders or model names, so that shtab completes them."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                _add_completions(sub)
        elif action.metavar == "NAME":
            action.choices = list(MODELS)
        elif action.type is Path or action.metavar == "INPUT" or "--model" in action.option_strings:
            folder = "DIR" in str(action.metavar)
            action.complete = shtab.DIRECTORY if folder else shtab.FILE  # type: ignore[attr-defined]
