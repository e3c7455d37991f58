"""Work that overlaps, in order and in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


@contextmanager
def thread_pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    """A pool that on an error, Ctrl-C included, forgets what has not begun.

    Example:
        >>> with thread_pool(2) as pool:
        ...     pool.submit(len, "abc").result()
        3
    """
    pool = ThreadPoolExecutor(workers)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def map_ahead(pool: ThreadPoolExecutor, function: Callable[[A], B], items: Iterable[A], ahead: int) -> Iterator[B]:
    """``map(function, items)`` in the pool, up to ``ahead`` items before their turn.

    Items are drawn in the caller's thread, results come in their order, and no more than ``ahead`` + 1 of them are
    under way or wait.

    Raises:
        Exception: what ``function`` raised, when its result's turn comes.

    Example:
        >>> with thread_pool(2) as pool:
        ...     list(map_ahead(pool, len, ["a", "bb", "ccc"], ahead=2))
        [1, 2, 3]
    """
    queue: deque[Future[B]] = deque()
    for item in items:
        queue.append(pool.submit(function, item))
        if len(queue) > ahead:
            yield queue.popleft().result()
    while queue:
        yield queue.popleft().result()
