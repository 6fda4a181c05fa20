"""Work in a thread, a little ahead of the one that takes its results."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Generator
from typing import Any, TypeVar

logger = logging.getLogger(__name__)

Item = TypeVar("Item")

PATIENCE = 0.1  # seconds until a waiting thread looks whether it is still needed
LOG_PERIOD = 60.0  # seconds of a wait
TIME_TO_END = (
    2.0  # seconds for a thread that is no longer needed; it may be in a read that never ends
)


def prefetched(items: Generator[Item, None, None], size: int) -> Generator[Item, None, None]:
    """The same items, made by a thread, up to `size` of them before they are asked for.

    An exception in the thread is raised here, in its turn. A wait is logged every minute; a signal ends it. The thread
    has ended once this generator is closed, unless it is in a read that does not end.
    """
    results: queue.Queue[tuple[bool, Any]] = queue.Queue(size)
    closed = threading.Event()

    def put(entry: tuple[bool, Any]) -> None:
        while not closed.is_set():
            try:
                return results.put(entry, timeout=PATIENCE)
            except queue.Full:
                pass

    def work() -> None:
        error: BaseException | None = None
        try:
            for item in items:
                put((True, item))
                if closed.is_set():
                    break
        except BaseException as raised:
            error = raised
        finally:
            items.close()
        put((False, error))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        while True:
            more, result = _wait(results)
            if more:
                yield result
            elif result is None:
                return
            else:
                raise result
    finally:
        closed.set()
        thread.join(TIME_TO_END)


def _wait(results: queue.Queue[tuple[bool, Any]]) -> tuple[bool, Any]:
    waited = 0.0
    while True:
        try:
            return results.get(timeout=LOG_PERIOD)
        except queue.Empty:
            waited += LOG_PERIOD
            logger.warning("data: waited %.0f s for the next image", waited)
