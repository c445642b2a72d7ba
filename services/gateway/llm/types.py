"""The plain data that OpenAI-compatible servers exchange."""

from typing import Any

Json = dict[str, Any]
