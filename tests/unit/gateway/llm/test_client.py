import functools
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from services import deadlines
from services.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    Overloaded,
    Unavailable,
)
from services.gateway.llm import response_bodies
from services.gateway.llm.client import LanguageModelClient
from services.gateway.llm.errors import upstream_error

BODY = {"model": "m", "messages": [{"role": "user", "content": "Hi?"}]}
DONE = b"data: [DONE]\n\n"


class Parts(httpx.AsyncByteStream):
    """A response body that arrives in parts and may be cut off."""

    def __init__(self, *parts: bytes, error: httpx.HTTPError | None = None) -> None:
        self._parts, self._error = parts, error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            yield part
        if self._error:
            raise self._error


def client(answer: Callable[[httpx.Request], httpx.Response]) -> LanguageModelClient:
    transport = httpx.MockTransport(answer)
    return LanguageModelClient("http://model/v1/", "default", "secret", transport=transport)


def streaming(*parts: bytes, framed: bool = True, **options: Any) -> LanguageModelClient:
    headers = {"Transfer-Encoding": "chunked"} if framed else {}
    return client(lambda _: httpx.Response(200, headers=headers, stream=Parts(*parts, **options)))


def event(content: str = "", reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": reason}
    return f"data: {json.dumps({'choices': [choice]}, ensure_ascii=False)}\n\n".encode()


async def texts(model: LanguageModelClient) -> list[str]:
    return [chunk["choices"][0]["delta"]["content"] async for chunk in model.stream(BODY)]


async def test_a_request_is_sent_as_it_is() -> None:
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json={"id": "1"})

    assert await client(answer).complete(BODY) == {"id": "1"}
    [request] = requests
    assert str(request.url) == "http://model/v1/chat/completions"
    assert request.headers["authorization"] == "Bearer secret"
    assert json.loads(request.content) == BODY


async def test_the_configured_model_is_the_default() -> None:
    model = client(lambda _: httpx.Response(200))
    assert (model.model(""), model.model("other")) == ("default", "other")


async def test_a_request_may_take_as_long_as_its_call() -> None:
    timeouts: list[dict[str, float]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        timeouts.append(request.extensions["timeout"])
        return httpx.Response(200, json={})

    model = client(answer)
    await model.complete(BODY)
    with deadlines.limit(2.0):
        await model.complete(BODY)
    assert timeouts[0]["read"] == deadlines.LONG_DEADLINE
    assert 0 < timeouts[1]["read"] < 2.0
    assert timeouts[1]["connect"] <= timeouts[1]["read"]
    with deadlines.limit(0.0), pytest.raises(DeadlineExceeded):
        await model.complete(BODY)


@pytest.mark.parametrize("size", [1, 7, 10_000])
async def test_a_stream_is_read_however_it_is_split(size: int) -> None:
    pieces = ["One ", "line\u2028or ", "\x85two", " – 🙂"]
    data = b": a comment\r\n" + b"".join(map(event, pieces)).replace(b"\n", b"\r\n") + DONE
    parts = [data[start : start + size] for start in range(0, len(data), size)]
    assert await texts(streaming(*parts)) == pieces


@pytest.mark.parametrize("end", [DONE, b"data: [DONE]", b"data:[DONE]\n"])
async def test_a_stream_ends_with_done(end: bytes) -> None:
    assert await texts(streaming(event("a"), end, framed=False)) == ["a"]


async def test_a_framed_stream_with_a_finish_reason_is_complete() -> None:
    assert await texts(streaming(event("a"), event("", "stop"))) == ["a", ""]


@pytest.mark.parametrize(
    "model",
    [
        streaming(event("a")),
        streaming(event("a"), event("", "stop"), framed=False),
        streaming(event("a"), event("", "stop"), error=httpx.RemoteProtocolError("cut")),
        streaming(event("a"), event("b")[:20]),
        streaming(event("a"), b"data: 1\n\n", DONE),
    ],
    ids=["unfinished", "unframed", "cut", "half an event", "no object"],
)
async def test_a_truncated_stream_raises(model: LanguageModelClient) -> None:
    chunks = model.stream(BODY)
    await anext(chunks)
    with pytest.raises(Unavailable) as caught:
        async for _ in chunks:
            pass
    assert caught.value.reason == "LANGUAGE_MODEL_UNAVAILABLE"


async def test_an_error_inside_a_stream_is_a_refusal() -> None:
    error = b'data: {"error": {"message": "Out of memory.", "code": "oom"}}\n\n'
    with pytest.raises(Unavailable) as caught:
        await texts(streaming(event("a"), error, DONE))
    upstream = upstream_error(caught.value)
    assert upstream is not None
    assert (upstream.status, upstream.message, upstream.code) == (502, "Out of memory.", "oom")


async def test_a_refusal_keeps_the_retry_hint() -> None:
    model = client(
        lambda _: httpx.Response(
            429, headers={"Retry-After": "3"}, json={"error": {"message": "Busy."}}
        )
    )
    with pytest.raises(Overloaded) as caught:
        await model.complete(BODY)
    assert (caught.value.reason, caught.value.retry_after) == ("LANGUAGE_MODEL_REFUSED", 3.0)
    with pytest.raises(Overloaded):
        await texts(model)


async def test_an_error_of_the_server_does_not_reveal_our_key(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        quoted = f"Incorrect API key: {request.headers['authorization']}"
        return httpx.Response(401, json={"error": {"message": quoted}})

    transport = httpx.MockTransport(answer)
    model = LanguageModelClient("http://model/v1", "m", "sk-hidden", transport=transport)
    for call in (model.complete(BODY), texts(model)):
        with pytest.raises(FailedPrecondition) as caught:
            await call
        assert caught.value.reason == "LANGUAGE_MODEL_MISCONFIGURED"
        assert "Incorrect" not in str(vars(caught.value))
    logged = str([record.__dict__ for record in caplog.records])
    assert "Incorrect API key: Bearer ***" in logged
    assert "sk-hidden" not in logged


async def test_a_server_that_does_not_answer_is_unavailable() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with pytest.raises(Unavailable):
        await client(answer).complete(BODY)


@pytest.mark.parametrize("content", [b"", b"[]", b"<html>", b"\xff"])
async def test_an_answer_that_is_no_object_is_unavailable(content: bytes) -> None:
    with pytest.raises(Unavailable):
        await client(lambda _: httpx.Response(200, content=content)).complete(BODY)


async def test_the_servers_models_are_listed() -> None:
    models = [{"id": "a"}, {"id": "b"}]
    assert await client(lambda _: httpx.Response(200, json={"data": models})).models() == models


async def test_without_a_server_nothing_is_sent() -> None:
    model = LanguageModelClient("", "m", "")
    assert await model.models() == []
    with pytest.raises(FailedPrecondition) as caught:
        await model.complete(BODY)
    assert caught.value.reason == "NO_LANGUAGE_MODEL"
    await model.close()


@pytest.mark.parametrize("status", [307, 308])
async def test_a_redirect_is_followed_with_the_body(status: int) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/chat/completions":
            return httpx.Response(status, headers={"Location": "/other/completions"})
        return httpx.Response(
            200, json={"path": request.url.path, "body": request.content.decode()}
        )

    reply = await client(answer).complete(BODY)
    assert (reply["path"], json.loads(reply["body"])) == ("/other/completions", BODY)


async def test_redirects_without_end_are_unavailable() -> None:
    model = client(lambda request: httpx.Response(308, headers={"Location": str(request.url)}))
    with pytest.raises(Unavailable):
        await model.complete(BODY)


@pytest.mark.parametrize("size", [response_bodies.MAX_ANSWER_BYTES, 0])
async def test_an_answer_without_end_is_unavailable(size: int) -> None:
    async def parts() -> AsyncIterator[bytes]:
        yield b"data: " + b" " * size
        while size:
            yield b" "

    class Endless(httpx.AsyncByteStream):
        def __aiter__(self) -> AsyncIterator[bytes]:
            return parts()

    with pytest.raises(Unavailable):
        await client(lambda _: httpx.Response(200, stream=Endless())).complete(BODY)
    with pytest.raises(Unavailable):
        await texts(client(lambda _: httpx.Response(200, stream=Endless())))


async def test_an_error_response_without_end_is_read_in_part() -> None:
    class Endless(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 1000

    with pytest.raises(Unavailable) as caught:
        await client(lambda _: httpx.Response(500, stream=Endless())).complete(BODY)
    assert caught.value.reason == "LANGUAGE_MODEL_REFUSED"


async def test_numbers_of_any_size_are_sent() -> None:
    received: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        received.append(request.content)
        return httpx.Response(200, json={})

    await client(answer).complete({"seed": 2**70, "text": "ü"})
    assert json.loads(received[0]) == {"seed": 2**70, "text": "ü"}


@pytest.mark.parametrize(("left", "kind"), [(60.0, Unavailable), (0.0, DeadlineExceeded)])
async def test_a_timeout_at_the_deadline_of_the_call_is_reported_as_such(
    left: float, kind: type[Exception]
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        deadlines.start(left)  # as if time had passed
        raise httpx.ReadTimeout("too slow")

    with deadlines.limit(60.0), pytest.raises(kind):
        await client(answer).complete(BODY)


async def test_an_error_that_is_null_is_none() -> None:
    reply: dict[str, Any] = {"error": None, "choices": []}
    assert await client(lambda _: httpx.Response(200, json=reply)).complete(BODY) == reply
    chunk = b'data: {"error": null, "choices": [{"delta": {"content": "a"}}]}\n\n'
    assert await texts(streaming(chunk, DONE)) == ["a"]


async def test_an_error_with_status_200_is_a_refusal() -> None:
    error = {"error": {"message": "No credits.", "code": 402}}
    model = client(lambda _: httpx.Response(200, json=error))
    named = streaming(b'event: error\ndata: {"message": "No credits."}\n\n', DONE)
    for call in (model.complete(BODY), texts(model), texts(named)):
        with pytest.raises(Unavailable) as caught:
            await call
        upstream = upstream_error(caught.value)
        assert upstream is not None
        assert (upstream.status, upstream.message) == (502, "No credits.")


async def test_halves_of_a_surrogate_pair_are_joined() -> None:
    halves = [
        rb'data: {"choices": [{"delta": {"content": "%b"}, "finish_reason": null}]}' % half
        for half in (rb"a\ud83d", rb"\ude42b")
    ]
    assert await texts(streaming(b"\n\n".join([*halves, DONE]))) == ["a", "🙂b"]


async def test_numbers_that_are_not_finite_are_read() -> None:
    content = (
        b'{"choices": [{"logprobs": {"content": [{"logprob": -Infinity}, {"logprob": NaN}]}}]}'
    )
    answer = await client(lambda _: httpx.Response(200, content=content)).complete(BODY)
    [choice] = answer["choices"]
    assert choice["logprobs"]["content"] == [{"logprob": -9999.0}, {"logprob": None}]


@pytest.mark.parametrize(
    "reply",
    [
        {"choices": {}},
        {"choices": "a"},
        {"choices": [None]},
        {"choices": [["a"]]},
        {"choices": [{"message": "a", "delta": "a"}]},
        {"choices": [{"message": [], "delta": []}]},
    ],
)
async def test_choices_of_another_shape_are_no_answer(reply: Any) -> None:
    whole = client(lambda _: httpx.Response(200, json=reply))
    for call in (whole.complete(BODY), texts(streaming(b"data: %b" % json.dumps(reply).encode()))):
        with pytest.raises(Unavailable):
            await call


async def test_a_server_that_does_not_stream_answers_in_one_chunk() -> None:
    message = {"role": "assistant", "content": "Hi."}
    reply = {"choices": [{"message": message, "finish_reason": "stop"}]}
    assert await texts(client(lambda _: httpx.Response(200, json=reply))) == ["Hi."]


STRICT = [
    {"error": {"message": "Unrecognized request argument supplied: stream_options"}},
    {"detail": [{"type": "extra_forbidden", "loc": ["body", "stream_options"]}]},
    {"message": "Extra inputs are not permitted"},
]


@pytest.mark.parametrize("status", [400, 422])
@pytest.mark.parametrize("error", STRICT)
async def test_a_server_that_refuses_stream_options_is_asked_without(
    status: int, error: Any
) -> None:
    requests: list[dict[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(json.loads(request.content))
        if "stream_options" in requests[-1]:
            return httpx.Response(status, json=error)
        return httpx.Response(200, stream=Parts(event("a"), DONE))

    model = client(answer)
    body = {**BODY, "stream_options": {"include_usage": True}}
    for _ in range(2):
        assert [chunk async for chunk in model.stream(body)]
    assert ["stream_options" in one for one in requests] == [True, False, False]


async def test_another_error_is_not_about_stream_options() -> None:
    requests: list[bytes] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request.content)
        message = "Unknown parameter: x" if b'"x"' in request.content else "Too long."
        return httpx.Response(400, json={"error": {"message": message}})

    model = client(answer)
    for further, count in ({}, 1), ({"x": 1}, 3), ({}, 4):
        with pytest.raises(InvalidArgument):
            async for _ in model.stream({**BODY, **further, "stream_options": {}}):
                pass
        assert len(requests) == count
    assert b"stream_options" in requests[-1]


async def test_callers_get_some_headers_of_the_response() -> None:
    passed = {
        "x-request-id": "r1",
        "x-ratelimit-remaining-tokens": "9",
        "openai-processing-ms": "5",
    }
    others = {"set-cookie": "a=b", "server": "x", "x-ratelimit-long": "9" * 200}
    received: list[dict[str, str]] = []
    model = client(lambda _: httpx.Response(200, headers=passed | others, json={"choices": []}))
    await model.complete(BODY, received.append)
    assert [chunk async for chunk in model.stream(BODY, received.append)]
    assert received == [passed, passed]


@pytest.mark.parametrize("status", [204, 301, 304])
async def test_a_status_that_is_neither_success_nor_error_is_no_answer(status: int) -> None:
    with pytest.raises(Unavailable):
        await client(lambda _: httpx.Response(status)).complete(BODY)


async def test_models_without_an_id_are_left_out() -> None:
    listed: list[Any] = [{"id": "a"}, {"id": 5}, "b", None, {}]
    assert await client(lambda _: httpx.Response(200, json={"data": listed})).models() == [
        {"id": "a"}
    ]
    for content in (b'{"data": {}}', b'{"data": "a"}', b'{"data": null}', b"{}"):
        reply = httpx.Response(200, content=content)
        assert await client(functools.partial(lambda one, _: one, reply)).models() == []
