"""Counts function calls, which measure work independently of the machine."""

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any


def count_calls(code: Callable[[], Any]) -> int:
    """Return how many calls of Python and of C functions ``code`` makes."""
    count = 0

    def note(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        code()
    finally:
        sys.setprofile(before)
    return count
