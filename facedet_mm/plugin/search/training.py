"""Trains the architectures of a search one after the other, each in a process of its own."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from facedet_mm.errors import FaceDetError
from facedet_mm.plugin.search.steps import write_config
from facedet_mm.report.logs import final_metrics
from facedet_mm.search.architecture import Architecture
from facedet_mm.search.store import SearchStore
from facedet_mm.system.files import write_text


@dataclass(frozen=True)
class Launch:
    """How a training is started.

    Attributes:
        command: Command line that starts ``tools/train.py`` or a launcher of it; ``{config}`` is replaced by the
            config, and ``--work-dir``, ``--resume`` and ``--cfg-options`` are appended.
        template: Config that the search varies.
        epochs: Number of epochs of each training.
        options: Changes of the config, each as ``KEY=VALUE``.
    """

    command: str
    template: Path
    epochs: int
    options: Sequence[str] = ()

    def words(self, config: Path, work_dir: Path) -> list[str]:
        """Returns the command line of one training."""
        words = [word.replace("{config}", str(config)) for word in shlex.split(self.command)]
        if words == shlex.split(self.command):
            raise FaceDetError(f"the command {self.command!r} lacks {{config}}, the placeholder for the config")
        options = ["--cfg-options", *self.options] if self.options else []
        return [*words, "--work-dir", str(work_dir), "--resume", *options]


def train_next(store: SearchStore, launch: Launch, step: str | None = None) -> Architecture | None:
    """Trains and evaluates the first waiting architecture and records its metrics, or why it failed.

    A training that was interrupted continues from its last checkpoint.

    Returns:
        The architecture with its new state, or ``None`` if none is waiting.

    Raises:
        FaceDetError: The command cannot be started, or the journal cannot be written.
    """
    architecture = store.claim(step)
    if architecture is None:
        return None
    done = False
    try:
        metrics, error = _train(store, architecture, launch)
        if metrics is not None:
            store.finish(architecture, metrics)
        else:
            store.fail(architecture, error)
        done = True
    finally:
        if not done:
            store.release(architecture)
    return next(now for now in store.architectures(architecture.step) if now.number == architecture.number)


def _train(store: SearchStore, architecture: Architecture, launch: Launch) -> tuple[dict[str, float] | None, str]:
    folder = store.path.parent
    config = write_config(architecture, launch.template, folder / "configs", launch.epochs)
    work_dir = folder / config.stem
    if metrics := final_metrics(work_dir, launch.epochs):
        return metrics, ""
    words = launch.words(config, work_dir)
    try:
        done = subprocess.run(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, encoding="utf-8", errors="replace"
        )
    except OSError as error:
        raise FaceDetError(f"cannot start {words[0]}: {error.strerror or error}") from error
    write_text(work_dir / "output.txt", done.stdout)
    metrics = final_metrics(work_dir, launch.epochs)
    if done.returncode or metrics is None:
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        return None, f"status {done.returncode}: {(lines or ['no output'])[-1]}"
    return metrics, ""


def default_command(root: Path) -> str:
    """Returns the command that trains on this machine without a launcher."""
    return f"{shlex.quote(sys.executable)} {shlex.quote(str(root / 'tools' / 'train.py'))} {{config}}"
