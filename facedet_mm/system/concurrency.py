"""Work that overlaps, in order and in bounded memory."""

from __future__ import annotations

import atexit
import queue
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

A = TypeVar("A")
B = TypeVar("B")

_PATIENCE = 0.1
"""Seconds after which a thread that can't hand over looks whether anybody still waits."""
_GRACE = 2.0
"""Seconds that the end of the process waits for a thread: one that reads a dead camera never comes back."""


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
    tasks: deque[Future[B]] = deque()
    for item in items:
        tasks.append(pool.submit(function, item))
        if len(tasks) > ahead:
            yield tasks.popleft().result()
    while tasks:
        yield tasks.popleft().result()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Lets Ctrl-C, and what asks the process to end, wait for the end of the block; a second time they do not wait.

    Example:
        >>> with uninterrupted():
        ...     files = ["a.mp4", "a.jsonl"]  # both get the frame, or none
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []

    def note(number: int, _: object) -> None:
        if waiting:
            raise KeyboardInterrupt
        waiting.append(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in before.items() if handler is not None}  # None is not Python's
    for number in before:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for came in waiting:
            signal.raise_signal(came)


@contextmanager
def background(work: Callable[[], object], stop: Callable[[], object], name: str) -> Iterator[None]:
    """Runs ``work`` in a thread; leaving calls ``stop``, which is to make it return, and waits for it.

    The end of the process does the same, for generators that nobody closed: Python would tear down a thread that is
    in native code then, and that aborts the whole process.

    Example:
        >>> stopped = threading.Event()
        >>> with background(stopped.wait, stopped.set, "waits"):
        ...     pass
    """
    thread = threading.Thread(target=work, name=name, daemon=True)

    def finish(timeout: float | None = _GRACE) -> None:
        stop()
        thread.join(timeout)

    atexit.register(finish)
    thread.start()
    try:
        yield
    finally:
        atexit.unregister(finish)
        finish(None)


def prefetch(items: Iterable[A], ahead: int, on_stop: Callable[[], object] = lambda: None) -> Generator[A, None, None]:
    """``items``, drawn in a thread of their own, up to ``ahead`` of them before their turn.

    Closing the generator, or an error in it such as Ctrl-C, calls ``on_stop``, which is to end what ``items`` wait for,
    closes ``items`` where they can be closed, in their thread, and waits for it.

    Raises:
        BaseException: what drawing an item raised, after the items before it.

    Example:
        >>> list(prefetch(iter("abc"), ahead=2))
        ['a', 'b', 'c']
    """
    ready: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(ahead)
    stopped = threading.Event()

    def hand_over(item: Any, error: BaseException | None = None) -> bool:
        while not stopped.is_set():
            try:
                ready.put((item, error), timeout=_PATIENCE)
            except queue.Full:
                continue
            return True
        return False

    def draw() -> None:
        try:
            if all(map(hand_over, items)):
                hand_over(None, StopIteration())
        except BaseException as error:
            hand_over(None, error)
        finally:
            if isinstance(items, Generator):
                items.close()

    def stop() -> None:
        stopped.set()
        on_stop()

    with background(draw, stop, "facedet-prefetch"):
        while True:
            item, error = ready.get()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
