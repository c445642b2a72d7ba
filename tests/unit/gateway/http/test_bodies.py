import asyncio
import contextlib
import gzip
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from starlette.datastructures import FormData, UploadFile
from starlette.requests import Request

from memetwin.gateway.v1 import rag_pb2
from services.errors import InvalidArgument
from services.gateway.http import bodies

FORM = b"--x\r\n" + b"\r\n--x\r\n".join(
    [
        b'Content-Disposition: form-data; name="title"\r\n\r\nA cat',
        b'Content-Disposition: form-data; name="file"; filename="cat.png"\r\n\r\nPNG',
    ]
)
FORM += b"\r\n--x--\r\n"


def request(
    parts: Sequence[bytes], media_type: str = "", *, disconnects: bool = False, encoding: str = ""
) -> Request:
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": part, "more_body": True} for part in parts
    ]
    messages.append({"type": "http.disconnect" if disconnects else "http.request"})

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    headers = [(b"content-type", media_type.encode()), (b"content-encoding", encoding.encode())]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


@contextlib.asynccontextmanager
async def parsed(one: Request, max_bytes: int, **options: bool) -> AsyncIterator[FormData]:
    form = await bodies.form(one, max_bytes, **options)
    yield form
    await form.close()


async def test_an_object_is_read_from_its_parts() -> None:
    assert await bodies.json_object(request([b'{"a"', b": [1]}"])) == {"a": [1]}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"1", b'"a"', b"\xff"])
async def test_any_other_body_is_no_object(body: bytes) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await bodies.json_object(request([body]))
    assert caught.value.reason == "BAD_JSON"


async def test_a_body_may_be_as_large_as_the_limit() -> None:
    assert await bodies.read(request([b"ab", b"cd"]), 4) == b"abcd"
    with pytest.raises(InvalidArgument) as caught:
        await bodies.read(request([b"ab", b"cde"]), 4)
    assert (caught.value.reason, caught.value.metadata) == ("BODY_TOO_LARGE", {"limit": "4"})


async def test_a_client_that_disconnects_sends_no_body() -> None:
    with pytest.raises(InvalidArgument) as caught:
        await bodies.read(request([b"ab"], disconnects=True), 4)
    assert caught.value.reason == "BODY_CUT"


async def test_a_form_has_fields_and_files() -> None:
    one = request([FORM[:60], FORM[60:]], "Multipart/Form-Data; boundary=x")
    assert bodies.is_form(one)
    async with parsed(one, 1000) as form:
        assert form["title"] == "A cat"
        upload = form["file"]
        assert isinstance(upload, UploadFile)
        assert (upload.filename, await upload.read()) == ("cat.png", b"PNG")


@pytest.mark.parametrize("in_memory", [True, False])
async def test_a_file_reaches_the_disk_unless_it_must_not(in_memory: bool) -> None:
    large = b"x" * (2**20 + 1)
    one = request([FORM.replace(b"PNG", large)], "multipart/form-data; boundary=x")
    async with parsed(one, 2**21, in_memory=in_memory) as form:
        upload = form["file"]
        assert isinstance(upload, UploadFile)
        assert upload._in_memory == in_memory
        assert await upload.read() == large


async def test_a_form_may_be_invalid_or_too_large() -> None:
    media_type = "multipart/form-data; boundary=x"
    with pytest.raises(InvalidArgument) as invalid:
        await bodies.form(request([b"--y\r\n"], media_type), 1000)
    assert invalid.value.reason == "BAD_FORM"
    with pytest.raises(InvalidArgument) as large:
        await bodies.form(request([FORM], media_type), len(FORM) - 1)
    assert large.value.reason == "BODY_TOO_LARGE"


def test_a_media_type_has_no_parameters() -> None:
    assert bodies.content_type(request([], "Application/JSON; charset=utf-8")) == "application/json"
    assert bodies.content_type(Request({"type": "http", "headers": []})) == ""
    assert not bodies.is_form(request([], "application/json"))


async def test_a_pause_in_a_body_counts_as_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    async def receive() -> Any:
        await asyncio.Event().wait()

    monkeypatch.setattr(bodies, "PAUSE", 0.0)
    with pytest.raises(InvalidArgument) as caught:
        await bodies.read(Request({"type": "http", "headers": []}, receive), 4)
    assert caught.value.reason == "BODY_CUT"


async def test_a_large_object_and_a_small_one_are_read_alike() -> None:
    large = {"text": "x" * 2**19}
    assert await bodies.json_object(request([json.dumps(large).encode()])) == large


@pytest.mark.parametrize("shape", [b'{"a":' * 60_000, b'{"a":[' + b"[]," * 300_000 + b"[]]}"])
async def test_nested_and_numerous_values_are_refused(shape: bytes) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await bodies.json_object(request([shape]))
    assert caught.value.reason == "BAD_JSON"


@pytest.mark.parametrize("size", [1, 2**17])
async def test_a_message_is_read_from_json(size: int) -> None:
    body = {"question": "x" * size, "limit": 3}
    message = await bodies.json_message(request([json.dumps(body).encode()]), rag_pb2.AskRequest())
    assert message == rag_pb2.AskRequest(question="x" * size, limit=3)


@pytest.mark.parametrize("body", [b'{"limit": "many"}', b'{"unknown": 1}', b"[]"])
async def test_json_that_does_not_fit_the_message_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await bodies.json_message(request([body]), rag_pb2.AskRequest())
    assert caught.value.reason == "BAD_JSON"


async def test_a_compressed_body_is_read() -> None:
    packed = gzip.compress(b'{"a": 1}')
    assert await bodies.json_object(request([packed[:5], packed[5:]], encoding="gzip")) == {"a": 1}
    form = request([gzip.compress(FORM)], "multipart/form-data; boundary=x", encoding="GZIP")
    async with parsed(form, 1000) as parts:
        assert parts["title"] == "A cat"


async def test_a_bomb_is_read_up_to_the_limit() -> None:
    packed = gzip.compress(bytes(2**24))
    with pytest.raises(InvalidArgument) as caught:
        await bodies.read(request([packed], encoding="gzip"), 2**20)
    assert caught.value.reason == "BODY_TOO_LARGE"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"nothing": 1}, "nothing"),
        ({"question": 5}, "question"),
        ({"history": [{"role": 5}]}, "history.role"),
        ({"limit": 2**40}, "limit"),
        ({"filter": {"tag": {}, "text": {}}}, "filter"),
    ],
)
async def test_an_object_that_does_not_fit_names_the_field(body: Any, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await bodies.json_message(request([json.dumps(body).encode()]), rag_pb2.AskRequest())
    assert (caught.value.reason, caught.value.field) == ("BAD_JSON", field)


async def test_half_a_surrogate_pair_in_a_form_is_refused() -> None:
    media_type = "multipart/form-data; boundary=x; charset=raw_unicode_escape"
    half = FORM.replace(b"A cat", rb"\ud83d")
    with pytest.raises(InvalidArgument) as caught:
        await bodies.form(request([half], media_type), 1000)
    assert caught.value.reason == "BAD_FORM"
