"""Converts protobuf messages to JSON data, and data to server-sent events."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from starlette.responses import Response

# Converting a message of this size takes milliseconds.
_THREAD_BYTES = 2**15


def message_to_dict(message: Message) -> dict[str, Any]:
    """Return a message as JSON data with proto field names; unset fields have their defaults."""
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


async def message_response(message: Message, headers: Mapping[str, str] | None = None) -> Response:
    """Return a response with a message as JSON. A large one is written in a thread."""
    if message.ByteSize() > _THREAD_BYTES:
        content = await asyncio.to_thread(_write, message)
    else:
        content = _write(message)
    return Response(content, headers=headers, media_type="application/json")


def server_sent_event(name: str, data: object) -> str:
    """Return a named server-sent event with JSON data (WHATWG HTML, section 9.2)."""
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"


def _write(message: Message) -> bytes:
    return json.dumps(message_to_dict(message), ensure_ascii=False, separators=(",", ":")).encode()
