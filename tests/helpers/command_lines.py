"""Runs ``facedet`` in a process of its own, with the streams and signals that a test wants."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from interrupts import heed_interrupts

ENDING = """
import os, signal, sys
from facedet_mm.cli import main
from facedet_mm.detectors import OnnxDetector
from facedet_mm.structures import Faces
calls = 0
def detect_batch(self, images):
    global calls
    calls += 1
    if calls == {at}:
        {what}
    return [Faces([[1, 2, 9, 12]], [0.5])] * len(images)
OnnxDetector.detect_batch = detect_batch
sys.exit(main(sys.argv[1:]))
"""
"""A program that finds one face in every image, and does ``what`` before the batch number ``at``."""


def facedet(*words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    settings = {"capture_output": True, "text": True, "timeout": 120, **options}
    if {"stdout", "stderr"} & options.keys():
        del settings["capture_output"]
    return subprocess.run([sys.executable, "-m", "facedet_mm", *map(str, words)], **settings)


def facedet_ending(what: str, at: int, *words: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Runs a command that finds a face in every image, and does ``what`` before the batch number ``at``."""
    command = [sys.executable, "-c", ENDING.format(what=what, at=at), *map(str, words)]
    settings = {"capture_output": True, "text": True, "timeout": 120, "preexec_fn": heed_interrupts, **options}
    return subprocess.run(command, **settings)


def write_images(folder: Path, *names: str) -> list[Path]:
    """Writes small black images."""
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(".png", np.zeros((32, 32, 3), np.uint8))[1].tobytes())
    return paths
