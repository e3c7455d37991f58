"""Files that took long to make, kept for what they were made from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from facedet_mm.system.files import write_bytes, write_text
from facedet_mm.zoo import cache_dir


@dataclass(frozen=True)
class CacheEntry:
    """A place in ``<cache folder>/tensorrt`` for bytes that depend on all of ``ingredients`` and nothing else.

    A ``.json`` file beside it says what it was made from and holds its SHA-256. TensorRT runs what an engine file
    says, so one that does not fit its hash is never loaded, nor is one from another folder.

    Attributes:
        stem: how the file's name begins.
        suffix: how it ends.
        ingredients: what the bytes are made from.
    """

    stem: str
    suffix: str
    ingredients: Mapping[str, str]

    @property
    def path(self) -> Path:
        """The file; its name changes with each ingredient."""
        key = hashlib.sha256(json.dumps(dict(self.ingredients), sort_keys=True).encode()).hexdigest()
        return cache_dir() / "tensorrt" / f"{self.stem}-{key[:20]}{self.suffix}"

    def read(self) -> bytes | None:
        """The bytes, or ``None`` where there are none or they are not those that were written."""
        try:
            data = self.path.read_bytes()
            note = json.loads(self._note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return data if note == self._about(data) else None

    def write(self, data: bytes) -> None:
        """Keeps the bytes; a reader sees the old ones, the new ones or none.

        Raises:
            FaceDetError: the file can't be written.
        """
        write_bytes(self.path, data)
        write_text(self._note, json.dumps(self._about(data), indent=2) + "\n")

    def remove(self) -> None:
        """Forgets what is kept."""
        for path in (self.path, self._note):
            path.unlink(missing_ok=True)

    @property
    def _note(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    def _about(self, data: bytes) -> dict[str, str]:
        return {**self.ingredients, "sha256": hashlib.sha256(data).hexdigest()}
