"""The storage backend ``zip``: files of a data set in one archive."""

from __future__ import annotations

import os
import threading
import zipfile
import zlib
from pathlib import Path
from typing import Any

from mmengine.fileio import BaseStorageBackend, register_backend

from facedet_mm.errors import AnnotationError, ImageError

_LARGEST_FILE = 1 << 30
"""Bytes of an unpacked file."""


@register_backend("zip")
class ZipBackend(BaseStorageBackend):
    """Reads files from a ZIP archive.

    In a config: ``dict(type='LoadImageFromFile', backend_args=dict(backend='zip', path='data/images.zip'))``. Every
    process and thread of a data loader opens the archive for itself, when the first file is read.

    Args:
        path: The archive.

    Raises:
        AnnotationError: The archive is missing or damaged.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._open: dict[tuple[int, int], zipfile.ZipFile] = {}
        self._archive()

    def get(self, filepath: str | os.PathLike[str]) -> bytes:
        """Returns the content of a file by its name in the archive.

        Raises:
            ImageError: It is missing, damaged, encrypted or larger than 1 GB.
        """
        name = Path(filepath).as_posix()
        try:
            archive = self._archive()
            size = archive.getinfo(name).file_size
            if size > _LARGEST_FILE:
                raise ImageError(f"{self.path}: {name} has {size:,} bytes unpacked, which is no image")
            return archive.read(name)
        except KeyError:
            raise ImageError(
                f"{self.path} has no {name}; names in it must be those of the annotations after data_prefix.img"
            ) from None
        except (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, EOFError, zlib.error) as error:
            raise ImageError(f"{self.path}: {name} can't be read: {error}") from error

    def get_text(self, filepath: str | os.PathLike[str], encoding: str = "utf-8") -> str:
        """Returns the content of a text file by its name in the archive; see :meth:`get`."""
        return self.get(filepath).decode(encoding)

    def _archive(self) -> zipfile.ZipFile:
        """Returns the archive as this thread of this process has opened it: their positions in the file must differ."""
        key = (os.getpid(), threading.get_ident())
        if key not in self._open:
            try:
                self._open[key] = zipfile.ZipFile(self.path)
            except (OSError, zipfile.BadZipFile) as error:
                raise AnnotationError(f"{self.path} is not an intact ZIP archive: {error}") from error
        return self._open[key]

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "_open": {}}
