"""Converts protobuf messages to JSON data, and data to server-sent events."""

import json
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message


def message_to_dict(message: Message) -> dict[str, Any]:
    """Return a message as JSON data with proto field names; unset fields have their defaults."""
    return json_format.MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )


def server_sent_event(name: str, data: object) -> str:
    """Return a named server-sent event with JSON data (WHATWG HTML, section 9.2)."""
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n"
