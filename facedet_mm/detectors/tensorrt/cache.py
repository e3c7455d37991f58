"""A cache for files that take long to compile."""

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
    """A file in ``<cache folder>/tensorrt`` whose content depends on ``ingredients`` only.

    A ``.json`` file beside it lists the ingredients and the SHA-256 of the content. An engine is a program, so one that
    does not match its hash is never loaded, and neither is one from another folder.

    Attributes:
        stem: Beginning of the file name.
        suffix: End of the file name.
        ingredients: Everything that the content depends on, by name.
    """

    stem: str
    suffix: str
    ingredients: Mapping[str, str]

    @property
    def path(self) -> Path:
        """Path of the file; its name depends on every ingredient."""
        key = hashlib.sha256(json.dumps(dict(self.ingredients), sort_keys=True).encode()).hexdigest()
        return cache_dir() / "tensorrt" / f"{self.stem}-{key[:20]}{self.suffix}"

    def read(self) -> bytes | None:
        """Returns the content, or ``None`` if there is none or it was changed."""
        try:
            data = self.path.read_bytes()
            note = json.loads(self._note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return data if note == self._about(data) else None

    def write(self, data: bytes) -> None:
        """Stores the content; a concurrent reader gets the old content, the new content or none.

        Raises:
            FaceDetError: The file can't be written.
        """
        write_bytes(self.path, data, follow_link=False)
        write_text(self._note, json.dumps(self._about(data), indent=2) + "\n", follow_link=False)

    def remove(self) -> None:
        """Deletes the file and its hash."""
        for path in (self.path, self._note):
            path.unlink(missing_ok=True)

    @property
    def _note(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    def _about(self, data: bytes) -> dict[str, str]:
        return {**self.ingredients, "sha256": hashlib.sha256(data).hexdigest()}
