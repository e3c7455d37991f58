"""Files that are either whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

from mmengine.fileio import LocalBackend, register_backend

from facedet_mm.system.files import write_bytes, write_text


@register_backend("atomic")
class AtomicLocalBackend(LocalBackend):
    """Local files, written to a temporary name and then renamed.

    In a config: ``default_hooks = dict(checkpoint=dict(backend_args=dict(backend='atomic')))``. A run killed while
    it saves leaves the previous checkpoint, never half of the next.
    """

    def put(self, obj: bytes, filepath: str | os.PathLike[str]) -> None:
        """Writes bytes; missing folders are made."""
        write_bytes(filepath, obj)

    def put_text(self, obj: str, filepath: str | os.PathLike[str], encoding: str = "utf-8") -> None:
        """Writes a text; missing folders are made."""
        if encoding.lower().replace("-", "") != "utf8":
            raise ValueError(f"only UTF-8 is written, not {encoding}")
        write_text(filepath, obj)


def latest_checkpoint(work_dir: str | os.PathLike[str]) -> Path | None:
    """The checkpoint of the latest epoch in a run's folder, ``None`` where there is none.

    The names decide: ``last_checkpoint``, which mmengine writes, may be half-written or lag behind.
    """
    numbered = [(path.stem.rpartition("_")[2], path) for path in Path(work_dir).glob("epoch_*.pth")]
    return max(((int(number), path) for number, path in numbered if number.isdigit()), default=(0, None))[1]
