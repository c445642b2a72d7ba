from typing import Any

from openai.types.responses import Response

from services.gateway.llm.types import Json
from services.gateway.openai.response_objects import is_our_id, object_id, response_object

USAGE = {
    "prompt_tokens": 3,
    "completion_tokens": 2,
    "total_tokens": 5,
    "prompt_tokens_details": {"cached_tokens": 1},
    "completion_tokens_details": None,
}


def completion(reason: str = "stop", **message: Any) -> Json:
    message = {"role": "assistant", "content": "Yes.", **message}
    return {
        "id": "chatcmpl-1",
        "created": 7,
        "model": "m-1",
        "choices": [{"index": 0, "message": message, "finish_reason": reason}],
        "usage": USAGE,
    }


def response(body: Json | None = None, reason: str = "stop", **message: Any) -> Response:
    return Response.model_validate(response_object(body or {}, completion(reason, **message)))


def test_a_text_is_a_message() -> None:
    reply = response()
    assert (reply.output_text, reply.status, reply.model) == ("Yes.", "completed", "m-1")
    assert reply.created_at == 7
    assert reply.usage is not None
    counts = reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.total_tokens
    assert counts == (3, 2, 5)
    assert reply.usage.input_tokens_details.cached_tokens == 1


def test_the_same_answer_has_the_same_ids() -> None:
    one, other = response(), response({"metadata": {"a": "b"}})
    assert (one.id, one.output) == (other.id, other.output)
    assert is_our_id(one.id)
    assert is_our_id(str(one.output[0].id))
    assert not is_our_id("resp_68af4030baa48193b0b43b4c2a176a1a")
    assert object_id("msg", "a") != object_id("msg", "b")
    assert object_id("fc", "a", 1) != object_id("fc", "a", 2)


def test_a_completion_without_an_id_has_a_random_one() -> None:
    replies = [response_object({}, completion() | {"id": ""})["id"] for _ in range(2)]
    assert replies[0] != replies[1]


def test_the_request_is_repeated() -> None:
    body = {"instructions": "Be brief.", "temperature": 0.5, "metadata": {"a": "b"}, "top_p": None}
    reply = response(body)
    assert (reply.instructions, reply.temperature, reply.top_p) == ("Be brief.", 0.5, 1.0)
    assert reply.metadata == {"a": "b"}


def test_an_incomplete_answer_says_why() -> None:
    for reason, cause in [("length", "max_output_tokens"), ("content_filter", "content_filter")]:
        reply = response(reason=reason)
        assert reply.status == "incomplete"
        assert reply.incomplete_details is not None
        assert reply.incomplete_details.reason == cause


def test_a_refusal_is_a_part_of_a_message() -> None:
    [item] = response(content=None, refusal="No.").output
    assert item.type == "message"
    assert item.content[0].to_dict() == {"type": "refusal", "refusal": "No."}


def test_tool_calls_are_items() -> None:
    function = {"name": "f", "arguments": '{"a": 1}'}
    calls = [{"id": name, "type": "function", "function": function} for name in ("c", "d")]
    text, *items = response(reason="tool_calls", tool_calls=calls).output
    assert text.type == "message"
    found = [(one.call_id, one.name, one.arguments) for one in items if one.type == "function_call"]
    assert found == [("c", "f", '{"a": 1}'), ("d", "f", '{"a": 1}')]


def test_null_counts_are_zeros() -> None:
    usage = {"prompt_tokens": None, "completion_tokens": 2}
    counts = response_object({}, completion() | {"usage": usage})["usage"]
    assert (counts["input_tokens"], counts["total_tokens"]) == (0, 2)
    assert response_object({}, completion() | {"usage": None})["usage"] is None
