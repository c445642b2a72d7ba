"""Reads whole numbers of queries, forms and JSON."""

import re
from collections.abc import Mapping
from typing import Any

from services.errors import InvalidArgument

# Each fits into an int32 of the protos. Other digits of Unicode, such as ², are no numbers.
_DIGITS = re.compile("[0-9]{1,9}")


def whole_number(options: Mapping[str, Any], name: str) -> int:
    """Return a number of at most nine digits; 0 if it is absent. Raises InvalidArgument."""
    text = str(options.get(name, "0"))
    if not _DIGITS.fullmatch(text):
        raise InvalidArgument(f"BAD_{name.upper()}", f"{name} must be a whole number.", field=name)
    return int(text)
