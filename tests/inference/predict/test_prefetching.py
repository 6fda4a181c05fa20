"""Prefetching in a thread: order, errors and the end of the thread."""

import threading
import time

import pytest

from hrnet_kpt.inference.predict.stream import prefetched


def count(made, until=1000):
    for i in range(until):
        made.append(i)
        yield i


def test_items_come_in_order():
    assert list(prefetched(prefetched(count([], 100), 3), 2)) == list(range(100))


def test_size_limits_the_items_ahead():
    made = []
    items = prefetched(count(made), 3)
    assert next(items) == 0
    deadline = time.monotonic() + 10
    while len(made) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.1)
    assert len(made) == 5, "one taken, three in the queue, one that waits"
    items.close()


def test_error_is_raised_after_the_items_before_it():
    def failing():
        yield 1
        yield 2
        raise ValueError("third")

    items = prefetched(failing(), 8)
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ValueError, match="third"):
        next(items)


def test_closing_ends_the_threads_and_closes_their_generators():
    closed = []

    def endless():
        try:
            yield from count([], 10**9)
        finally:
            closed.append(True)

    def doubled(items):
        try:
            for item in items:
                yield 2 * item
        finally:
            items.close()

    before = threading.active_count()
    items = prefetched(doubled(prefetched(endless(), 2)), 2)
    assert next(items) == 0
    items.close()
    assert closed == [True]
    assert threading.active_count() == before
