"""``UnbufferedFile``: a file for FFmpeg that reports a full disk at once."""

from __future__ import annotations

from pathlib import Path


class UnbufferedFile:
    """The file that FFmpeg writes to; FFmpeg itself would notice a full disk only at the end.

    Args:
        path: File to write.

    Attributes:
        error: Why nothing more is written; ``None`` if everything was written so far.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=0)
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        """Writes ``data``; after an error, discards it and reports success."""
        rest = memoryview(data)
        try:
            while rest and not self.error:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self.error = error
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        """See :meth:`io.IOBase.seek`."""
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        """See :meth:`io.IOBase.tell`."""
        return self._file.tell()

    def seekable(self) -> bool:
        """Returns ``True``: the header of the container is completed at the end."""
        return True

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
