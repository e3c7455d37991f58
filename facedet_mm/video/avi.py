"""``AviSlots``: the time of each frame of an AVI file, and how often it is shown again.

AVI knows no timestamps: each chunk of a track has a slot of its own in a constant rate, whatever its frame is needed
for. An empty chunk means that the image of the slot before is shown again; FFmpeg skips it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any

_BYTES_PER_CHUNK = 8
"""Bytes of a file that a chunk takes at least, which bounds the number of frames that a file can state."""
_LONGEST_DELAY = 64
"""Packets that a decoder gets before it returns the first frame, at most."""


class AviSlots:
    """Assigns slots to frames.

    Args:
        stream: PyAV stream of an AVI file.
        size: Size of the file in bytes.

    Attributes:
        indexed: Number of frames in the index of the file; 0 without an index.
    """

    def __init__(self, stream: Any, size: int) -> None:
        self._filled = {entry.timestamp for entry in getattr(stream, "index_entries", ())}  # new in PyAV 17
        self._stated = min(int(stream.frames), size // _BYTES_PER_CHUNK)
        self._sent: list[int] = []
        self._last: int | None = None
        self.indexed = len(self._filled)

    def send(self, slot: int | None) -> None:
        """Records the slot of a packet that the decoder gets."""
        if slot is not None:
            heapq.heappush(self._sent, slot)
        if len(self._sent) > _LONGEST_DELAY:
            heapq.heappop(self._sent)  # of a packet without a frame

    def fail(self, slot: int | None) -> None:
        """Forgets the slot of a packet that the decoder refused."""
        if slot in self._sent:
            self._sent.remove(slot)
            heapq.heapify(self._sent)

    def receive(self) -> tuple[Iterator[int], int]:
        """Returns the slots in which the frame before is shown again, and the slot of the next frame.

        Frames come in the order of their slots, in whatever order their packets are.
        """
        last = -1 if self._last is None else self._last
        slot = heapq.heappop(self._sent) if self._sent else last + 1
        again = iter(()) if self._last is None else self._empty(last + 1, slot)
        self._last = slot
        return again, slot

    def rest(self) -> Iterator[int]:
        """Returns the slots at the end of a complete file in which the last frame is shown again."""
        return iter(()) if self._last is None or not self.indexed else self._empty(self._last + 1, self._stated)

    def _empty(self, first: int, end: int) -> Iterator[int]:
        return (slot for slot in range(first, min(end, first + self._stated)) if slot not in self._filled)
