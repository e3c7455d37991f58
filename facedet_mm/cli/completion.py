"""``facedet completion``: a script that completes commands and options in a shell."""

from __future__ import annotations

import argparse

import shtab

from facedet_mm.cli import build_parser

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
    print(shtab.complete(build_parser(wanted=None), args.shell))
    return 0
