"""Storage that never leaves incomplete files, and the checkpoints in it."""

from __future__ import annotations

import os
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from facedet_mm.system.files import write_bytes, write_text


@register_backend("atomic")
class AtomicLocalBackend(LocalBackend):
    """Local files that are written under a temporary name and then renamed.

    In a config: ``default_hooks = dict(checkpoint=dict(backend_args=dict(backend='atomic')))``. A run that is killed
    while saving keeps its previous checkpoint and leaves no incomplete one.
    """

    def put(self, obj: bytes, filepath: str | os.PathLike[str]) -> None:
        """Writes bytes; creates missing folders."""
        write_bytes(filepath, obj)

    def put_text(self, obj: str, filepath: str | os.PathLike[str], encoding: str = "utf-8") -> None:
        """Writes a text; creates missing folders."""
        if encoding.lower().replace("-", "") != "utf8":
            raise ValueError(f"encoding must be UTF-8, not {encoding}")
        write_text(filepath, obj)


def latest_checkpoint(work_dir: str | os.PathLike[str]) -> Path | None:
    """Returns the checkpoint of the latest epoch or iteration in a run's folder, or ``None`` if there is none.

    Only file names count: mmengine's ``last_checkpoint`` file may be incomplete or outdated. Where a folder has both
    kinds, the newer file counts.
    """
    latest = []
    for unit in ("epoch", "iter"):
        numbered = [(path.stem.rpartition("_")[2], path) for path in Path(work_dir).glob(f"{unit}_*.pth")]
        latest += sorted((int(number), path) for number, path in numbered if number.isdigit())[-1:]
    return max((path for _, path in latest), key=lambda path: path.stat().st_mtime, default=None)
