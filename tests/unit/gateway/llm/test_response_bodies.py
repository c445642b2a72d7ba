import json
from typing import Any

import httpx
import pytest

from services.errors import Unavailable
from services.gateway.llm import response_bodies
from services.gateway.llm.response_bodies import as_chunk, chunks_of, read_answer


def test_an_event_has_a_chunk() -> None:
    assert chunks_of(b'{"a":1}') == [(b'{"a":1}', {"a": 1})]
    assert chunks_of(b" [DONE] ") == [(b"", None)]
    lines = json.dumps({"a": {"b": 1}, "c": 2}, indent=1).encode()
    assert chunks_of(lines) == [(lines, {"a": {"b": 1}, "c": 2})]


def test_events_without_an_empty_line_between_them_are_told_apart() -> None:
    assert [chunk for _, chunk in chunks_of(b'{"a":1}\n\n{"a":2}\n[DONE]')] == [
        {"a": 1},
        {"a": 2},
        None,
    ]


@pytest.mark.parametrize("data", [b"", b"1", b"[]", b"null", b"{", b'{"a":\n', b'{"a":1}\n{'])
def test_any_other_event_is_refused(data: bytes) -> None:
    with pytest.raises(Unavailable):
        chunks_of(data)


def test_a_completion_is_a_chunk_with_all_of_it() -> None:
    message = {"role": "assistant", "content": "Hi."}
    completion: dict[str, Any] = {"id": "1", "object": "chat.completion"}
    completion["choices"] = [{"index": 0, "message": message, "finish_reason": "stop"}]
    assert as_chunk(completion) == {
        "id": "1",
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": message, "finish_reason": "stop"}],
    }


async def test_a_large_answer_is_read_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(response_bodies, "_THREAD_BYTES", 1)
    assert (await read_answer(httpx.Response(200, json={"a": 1})))[1] == {"a": 1}
    half = httpx.Response(200, content=rb'{"a": "\ud83d"}')
    assert (await read_answer(half))[1] == {"a": "\ufffd"}
