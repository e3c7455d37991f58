"""Runs work in other threads, in order and in bounded memory."""

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

_POLL_INTERVAL = 0.1
"""Seconds between two looks of a waiting thread at whether its result is still needed."""
_EXIT_TIMEOUT = 2.0
"""Seconds for which the end of the process waits for a thread: one that reads a dead camera never returns."""


@contextmanager
def thread_pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    """A thread pool that cancels work that has not started when the block ends with an error, such as Ctrl-C.

    Args:
        workers: Number of threads.

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
    """Yields ``map(function, items)``, computed in the pool up to ``ahead`` items in advance.

    Items are drawn in the caller's thread and results are in their order.

    Args:
        pool: Thread pool in which ``function`` runs.
        function: Function of one item.
        items: Items, possibly endless.
        ahead: At most ``ahead`` + 1 results are being computed or wait.

    Raises:
        Exception: The error that ``function`` raised, in place of its result.

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
    """Delays Ctrl-C and SIGTERM until the end of the block; a second one interrupts the block at once.

    Example:
        >>> with uninterrupted():
        ...     files = ["a.mp4", "a.jsonl"]  # both get the frame, or none
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[int] = []

    def delay(number: int, _: object) -> None:
        if waiting:
            raise KeyboardInterrupt
        waiting.append(number)

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {
        number: handler for number, handler in before.items() if handler is not None
    }  # None: not installed by Python
    for number in before:
        signal.signal(number, delay)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for received in waiting:
            signal.raise_signal(received)


@contextmanager
def background(work: Callable[[], object], stop: Callable[[], object], name: str) -> Iterator[None]:
    """Runs ``work`` in a thread; the end of the block calls ``stop`` and waits for the thread.

    The end of the process does the same, for generators that were not closed: otherwise Python would end a thread that
    is in native code, which aborts the whole process.

    Args:
        work: Function that runs in the thread.
        stop: Function that makes ``work`` return.
        name: Name of the thread.

    Example:
        >>> stopped = threading.Event()
        >>> with background(stopped.wait, stopped.set, "waits"):
        ...     pass
    """
    thread = threading.Thread(target=work, name=name, daemon=True)

    def finish(timeout: float | None = _EXIT_TIMEOUT) -> None:
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
    """Yields ``items``, drawn in another thread up to ``ahead`` of them in advance.

    Closing the generator, or an error in it such as Ctrl-C, calls ``on_stop``, closes ``items`` in their thread if they
    are a generator, and waits for that thread.

    Args:
        items: Items, possibly endless.
        ahead: Number of items that may wait.
        on_stop: Function that ends whatever ``items`` wait for.

    Raises:
        BaseException: The error that drawing an item raised, after the items before it.

    Example:
        >>> list(prefetch(iter("abc"), ahead=2))
        ['a', 'b', 'c']
    """
    ready: queue.Queue[tuple[Any, BaseException | None]] = queue.Queue(ahead)
    stopped = threading.Event()

    def hand_over(item: Any, error: BaseException | None = None) -> bool:
        while not stopped.is_set():
            try:
                ready.put((item, error), timeout=_POLL_INTERVAL)
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
