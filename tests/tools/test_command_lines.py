"""Every tool starts, and takes no abbreviation for an option."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
from conftest import ROOT

TOOLS = sorted(path for path in ROOT.glob("tools/**/*.py") if "import argparse" in path.read_text())


@pytest.mark.parametrize("path", TOOLS, ids=lambda path: path.stem)
def test_help_is_printed_but_not_for_an_abbreviation(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if "facedet_mm.plugin" in path.read_text():
        pytest.importorskip("mmdet")
    monkeypatch.syspath_prepend(path.parent)
    for word, status in (("--help", 0), ("--hel", 2)):
        monkeypatch.setattr(sys, "argv", [str(path), word])
        with pytest.raises(SystemExit) as stop:
            runpy.run_path(str(path), run_name="__main__")
        assert stop.value.code == status
        assert f"usage: {path.name}" in "".join(capsys.readouterr())
