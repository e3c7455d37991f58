"""The fuzz tool: it tells refusals from failures, and no reader fails on a few dozen files."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from facedet_mm.errors import ImageError


@pytest.fixture(scope="module")
def fuzz(root: Path) -> ModuleType:
    """The tool as a module."""
    spec = importlib.util.spec_from_file_location("fuzz", root / "tools" / "analysis" / "fuzz.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def refuse(*_: object) -> str:
    raise ImageError("a.jpg: not an image")


def fail(*_: object) -> str:
    return [][0]


@pytest.mark.parametrize(
    ("reader", "verdict", "detail"),
    [
        (lambda *_: "", "read", ""),
        (lambda *_: "3 frames, PyAV decodes 4", "difference", "3 frames, PyAV decodes 4"),
        (refuse, "refused", "a.jpg: not an image"),
        (fail, "traceback", "IndexError: list index out of range (test_fuzz.py:"),
    ],
)
def test_only_an_error_of_the_package_is_a_refusal(
    fuzz: ModuleType, tmp_path: Path, reader: Callable[..., str], verdict: str, detail: str
) -> None:
    found = fuzz.verdict_of(reader, tmp_path, np.random.default_rng(0))
    assert found[0] == verdict
    assert found[1].startswith(detail)


def test_a_file_that_ends_or_holds_up_its_process_is_reported_and_the_next_one_is_read(
    fuzz: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import json, os, sys, time\nprint('ready', flush=True)\nfor line in sys.stdin:\n"
        "    number = json.loads(line)[1]\n    if number == 1: os._exit(3)\n    if number == 2: time.sleep(60)\n"
        "    print(json.dumps(['read', '', 0.5]), flush=True)\n"
    )
    monkeypatch.setattr(fuzz, "__file__", str(program))
    with fuzz.Worker(tmp_path, limit=1.0) as worker:
        outcomes = [worker.try_file("image", number, 0) for number in range(4)]
    assert [outcome.verdict for outcome in outcomes] == ["read", "crash", "hang", "read"]
    assert [outcome.failed for outcome in outcomes] == [False, True, True, False]
    assert "status 3" in outcomes[1].detail


@pytest.mark.slow
def test_no_reader_fails_on_a_hundred_files(root: Path) -> None:
    pytest.importorskip("torch", reason="NEEDS PyTorch: pip install 'facedet-mm[train]'")
    command = [sys.executable, root / "tools" / "analysis" / "fuzz.py", "--count", "100", "--seed", "5"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[-1].startswith("100 files in ")
