"""Overlapping work keeps its order, its bounds and its errors."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from facedet_mm.system.concurrency import map_ahead, prefetch, thread_pool, uninterrupted


def test_items_come_in_order_and_only_so_many_before_their_turn() -> None:
    drawn: list[int] = []

    def items() -> Iterator[int]:
        for i in range(50):
            drawn.append(i)
            yield i

    seen = []
    for i in prefetch(items(), ahead=3):
        seen.append(i)
        time.sleep(0.002)
        assert len(drawn) <= len(seen) + 3 + 1  # three wait, one is in hand
    assert seen == drawn == list(range(50))


def test_stages_run_at_the_same_time() -> None:
    def slowly(items: Iterator[int]) -> Iterator[int]:
        for i in items:
            time.sleep(0.01)
            yield i

    start = time.perf_counter()
    list(prefetch(slowly(prefetch(slowly(prefetch(slowly(iter(range(30))), 2)), 2)), 2))
    assert time.perf_counter() - start < 0.6  # one after the other: 0.9


def test_an_error_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("gone")

    seen = []
    with pytest.raises(OSError, match="gone"):
        seen.extend(prefetch(items(), ahead=5))
    got = prefetch(items(), ahead=5)
    assert [next(got), next(got)] == [1, 2]
    with pytest.raises(OSError, match="gone"):
        next(got)


def test_closing_closes_the_source_in_its_own_thread_and_leaves_no_thread() -> None:
    where: list[str] = []

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 0
        finally:
            where.append(threading.current_thread().name)

    before = threading.active_count()
    chain = prefetch(prefetch(endless(), ahead=2), ahead=2)
    assert next(chain) == 0
    chain.close()
    assert where == ["facedet-prefetch"]
    assert threading.active_count() == before


def test_nothing_begins_before_the_first_item_is_wanted() -> None:
    before = threading.active_count()
    prefetch(iter(range(3)), ahead=2)
    assert threading.active_count() == before


def test_a_process_that_ends_in_the_middle_of_native_work_ends_well() -> None:
    code = (
        "import cv2, numpy, sys, facedet_mm.system.concurrency as c\n"
        "image = numpy.zeros((64, 64, 3), numpy.uint8)\n"
        "def larger():\n"
        "    while True:\n"
        "        yield cv2.resize(image, (200, 200))\n"
        "threads = [c.prefetch(larger(), ahead=10**6) for _ in range(4)]\n"
        "print(sum(next(items).size for items in threads))\n"
        "sys.exit(7)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (7, "480000\n", "")


@pytest.fixture(params=["SIGINT", "SIGTERM"])
def interrupt(request: pytest.FixtureRequest) -> Iterator[int]:
    """A signal that raises ``KeyboardInterrupt``, whatever this process has inherited."""
    number = getattr(signal, request.param)
    before = signal.signal(number, signal.default_int_handler)
    yield number
    signal.signal(number, before)


def interrupted_block(number: int, times: int, done: list[str]) -> None:
    """A block that is interrupted so many times, and notes how far it came."""
    with uninterrupted():
        for _ in range(times):
            signal.raise_signal(number)
            done.append("block")
    done.append("after")


@pytest.mark.parametrize("times", [1, 2], ids=["first", "second"])
def test_an_interrupt_waits_for_the_end_of_the_block_and_a_second_one_does_not(interrupt: int, times: int) -> None:
    done: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        interrupted_block(interrupt, times, done)
    assert done == ["block"]
    assert signal.getsignal(interrupt) is signal.default_int_handler


def test_a_block_without_an_interrupt_and_one_in_another_thread_change_nothing(interrupt: int) -> None:
    with uninterrupted():
        assert signal.getsignal(interrupt) is not signal.default_int_handler
    seen: list[object] = []

    def in_thread() -> None:
        with uninterrupted():
            seen.append(signal.getsignal(interrupt))

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(interrupt)] == [signal.default_int_handler]


def test_a_pool_maps_in_order_and_computes_only_some_results_in_advance() -> None:
    drawn: list[int] = []

    def items() -> Iterator[int]:
        for i in range(20):
            drawn.append(i)
            yield i

    with thread_pool(2) as pool:
        for number, result in enumerate(map_ahead(pool, lambda i: i * i, items(), ahead=3)):
            assert result == number * number
            assert len(drawn) <= number + 1 + 3


def test_an_error_in_the_block_cancels_what_has_not_started() -> None:
    started: list[int] = []
    release = threading.Event()

    def work(i: int) -> None:
        started.append(i)
        release.wait(10)

    def submit_and_fail() -> None:
        with thread_pool(1) as pool:
            for i in range(50):
                pool.submit(work, i)
            raise KeyboardInterrupt

    threading.Timer(0.2, release.set).start()
    with pytest.raises(KeyboardInterrupt):
        submit_and_fail()
    assert len(started) <= 2
