import json

import pytest

from memetwin.gateway.v1 import rag_pb2
from services.gateway.http.responses import message_response, message_to_dict, server_sent_event


@pytest.mark.parametrize("size", [1, 2**16])
async def test_a_message_is_written_as_json(size: int) -> None:
    message = rag_pb2.AskResponse(answer="ü" * size)
    response = await message_response(message, {"X-Name": "value"})
    assert json.loads(bytes(response.body)) == message_to_dict(message)
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-name"] == "value"


def test_fields_have_their_names_and_defaults() -> None:
    span = message_to_dict(rag_pb2.TextSpan(start=1))
    reason = "UNSUPPORTED_REASON_UNSPECIFIED"
    assert span == {"start": 1, "end": 0, "reason": reason, "detail": ""}


def test_an_event_has_a_name_and_data() -> None:
    assert server_sent_event("delta", "ü") == 'event: delta\ndata: "ü"\n\n'
