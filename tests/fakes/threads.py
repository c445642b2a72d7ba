"""Runs a call in another thread."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def in_new_thread(call: Callable[[], T]) -> T:
    """Run a call in its own thread, and return what it returns."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(call).result()
