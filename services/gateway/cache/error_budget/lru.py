"""A dictionary that drops the least recently used entry."""

from collections import OrderedDict
from typing import Generic, TypeVar

Value = TypeVar("Value")


class LruDict(Generic[Value]):
    """Holds at most ``max_size`` values by name."""

    def __init__(self, max_size: int) -> None:
        self._values: OrderedDict[str, Value] = OrderedDict()
        self._max_size = max_size

    def get(self, name: str) -> Value | None:
        """Return a value, or None."""
        return self._values.get(name)

    def put(self, name: str, value: Value) -> Value:
        """Store a value as the most recently used one, and return it."""
        self._values[name] = value
        self._values.move_to_end(name)
        if len(self._values) > self._max_size:
            self._values.popitem(last=False)
        return value

    def pop(self, name: str) -> Value | None:
        """Remove a value and return it, or return None."""
        return self._values.pop(name, None)
