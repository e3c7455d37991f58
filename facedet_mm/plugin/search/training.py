"""Training the architectures of a search, one after the other, through the Runner."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from facedet_mm.errors import FaceDetError
from facedet_mm.plugin.search.steps import write_config
from facedet_mm.plugin.search.store import Run, SearchStore
from facedet_mm.report.logs import final_metrics
from facedet_mm.system.files import write_text


@dataclass(frozen=True)
class Launch:
    """How a run is started.

    Attributes:
        command: starts ``tools/train.py`` or a launcher of it; ``{config}`` stands for the config, and ``--work-dir``,
            ``--resume`` and ``--cfg-options`` follow.
        epochs: of each run.
        options: ``KEY=VALUE`` changes of the config.
    """

    command: str
    epochs: int
    options: Sequence[str] = ()

    def words(self, config: Path, work_dir: Path) -> list[str]:
        """The command line of one run."""
        words = [word.replace("{config}", str(config)) for word in shlex.split(self.command)]
        if words == shlex.split(self.command):
            raise FaceDetError(f"the command {self.command!r} has no {{config}}, which stands for the config of a run")
        options = ["--cfg-options", *self.options] if self.options else []
        return [*words, "--work-dir", str(work_dir), "--resume", *options]


def train_next(store: SearchStore, launch: Launch, step: str | None = None) -> Run | None:
    """Trains and evaluates the first waiting run and writes down what it gave, or why it failed.

    A run that was stopped goes on from its last checkpoint.

    Returns:
        The run, as it is now; ``None`` where none waits.

    Raises:
        FaceDetError: the command can't be started, or the search's file can't be written.
    """
    run = store.claim(step)
    if run is None:
        return None
    done = False
    try:
        metrics, error = _train(store, run, launch)
        if metrics is not None:
            store.finish(run, metrics)
        else:
            store.fail(run, error)
        done = True
    finally:
        if not done:
            store.release(run)
    return next(now for now in store.runs() if now.id == run.id)


def _train(store: SearchStore, run: Run, launch: Launch) -> tuple[dict[str, float] | None, str]:
    folder = store.path.parent
    config = write_config(store, run.id, folder / "configs", launch.epochs)
    work_dir = folder / config.stem
    if metrics := final_metrics(work_dir, launch.epochs):
        return metrics, ""
    words = launch.words(config, work_dir)
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    except OSError as error:
        raise FaceDetError(f"cannot start {words[0]}: {error.strerror or error}") from error
    write_text(work_dir / "output.txt", done.stdout)
    metrics = final_metrics(work_dir, launch.epochs)
    if done.returncode or metrics is None:
        lines = [line for line in done.stdout.splitlines() if line.strip()]
        return None, f"status {done.returncode}: {(lines or ['no output'])[-1]}"
    return metrics, ""


def default_command(root: Path) -> str:
    """Training on this machine, without a launcher."""
    return f"{shlex.quote(sys.executable)} {shlex.quote(str(root / 'tools' / 'train.py'))} {{config}}"
