"""How servers of language models behave, and what their callers must get for it.

Each behaviour is written out from a server that exists, or from a report about one.
"""

import email.utils
import gzip
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.scripted_model import Json, chunked, http

HEAD = {"id": "chatcmpl-7", "created": 1_700_000_000, "model": "parrot", "system_fingerprint": None}
SSE, JSON, HTML = "text/event-stream", "application/json", "text/html"
USAGE = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
TEXTS = ("Zwölf ", "große ", "🦊", " jump", ".")
TEXT = "".join(TEXTS)


def chunk(delta: Json, reason: str | None = None, **more: Any) -> Json:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
    return {**HEAD, "object": "chat.completion.chunk", "choices": [choice], **more}


def chunks(
    texts: tuple[str, ...] = TEXTS, reason: str | None = "stop", usage: Any = USAGE, **delta: Any
) -> list[Json]:
    first = chunk({"role": "assistant", "content": "", "refusal": None})
    end = [chunk({}, reason)] if reason else []
    last = [{**HEAD, "object": "chat.completion.chunk", "choices": [], "usage": usage}]
    return [first, *(chunk({"content": one, **delta}) for one in texts), *end, *last]


def whole(content: Any = TEXT, reason: str = "stop", **more: Any) -> Json:
    message = {"role": "assistant", "content": content, "refusal": None, **more}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    return {**HEAD, "object": "chat.completion", "choices": [choice], "usage": USAGE}


def dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def events(found: list[Json], end: bytes = b"data: [DONE]\n\n") -> bytes:
    return b"".join(b"data: %b\n\n" % dump(one) for one in found) + end


@dataclass(frozen=True)
class Error:
    """An error that the caller gets: its status, its code, a text that it has, one that it has not.

    The status is that of the response, unless a stream has begun. Then the last event is the error.
    ``headers`` has a pattern for the value of each header.
    """

    status: int
    code: str
    has: str = ""
    has_not: str = "secret"
    headers: Json = field(default_factory=dict)


@dataclass(frozen=True)
class Behaviour:
    """What a server sends, and what a caller gets.

    Attributes:
        events: the body of a stream.
        reply: the body of a whole answer.
        expected_stream: the chunks that a caller gets who wants the usage, or an error.
        expected_reply: the completion that a caller gets, or an error.
        stores_stream, stores_reply: whether the next caller gets the answer from the cache.
        raw: makes the whole response, instead of the bodies.
        headers: headers of the responses.
        step: how many bytes are sent at a time.
    """

    events: bytes = field(default_factory=lambda: events(chunks()))
    reply: bytes = field(default_factory=lambda: dump(whole()))
    expected_stream: list[Json] | Error = field(default_factory=chunks)
    expected_reply: Json | Error = field(default_factory=whole)
    stores_stream: bool = True
    stores_reply: bool = True
    raw: Callable[[Json], bytes | None] = lambda body: None
    headers: Json = field(default_factory=dict)
    step: int = 100

    def respond(self, body: Json) -> list[bytes]:
        if raw := self.raw(body):
            return [raw]
        if body.get("stream"):
            return chunked(self.events, {"Content-Type": SSE, **self.headers}, self.step)
        return [http(200, self.reply, {"Content-Type": JSON, **self.headers})]


def says(found: list[Json], reply: Json, *, stored: bool = True, **more: Any) -> Behaviour:
    """Return a behaviour whose answers reach the caller as they are."""
    return Behaviour(
        **{
            "events": events(found),
            "reply": dump(reply),
            "expected_stream": found,
            "expected_reply": reply,
            "stores_stream": stored,
            "stores_reply": stored,
            **more,
        }
    )


def fails(error: Error, raw: Callable[[Json], bytes]) -> Behaviour:
    """Return a behaviour that is an error for every caller."""
    return Behaviour(
        expected_stream=error,
        expected_reply=error,
        stores_stream=False,
        stores_reply=False,
        raw=raw,
    )


def refuses(status: int, error: Error, body: Any, headers: Json | None = None) -> Behaviour:
    content = body if isinstance(body, bytes) else dump(body)
    kind = HTML if isinstance(body, bytes) else JSON
    return fails(error, lambda _: http(status, content, {"Content-Type": kind, **(headers or {})}))


def strict(body: Json) -> bytes | None:
    """Refuse ``stream_options``."""
    if "stream_options" not in body:
        return None
    error = {"message": "Unrecognized request argument supplied: stream_options"}
    return http(400, dump({"error": error}), {"Content-Type": JSON})


def separated(letter: str) -> Behaviour:
    texts = (f"one{letter}two", letter, f"{letter}\n{letter}three")
    return says(chunks(texts), whole("".join(texts)), step=1)


def spelled(change: Callable[[bytes], bytes], **more: Any) -> Behaviour:
    return Behaviour(events=change(events(chunks())), reply=change(dump(whole())), **more)


def _with_fields() -> Behaviour:
    more = {"provider": "x", "x_groq": {"id": "q"}}
    stream = [{**one, **more} for one in chunks()]
    for one in stream[:-1]:
        one["choices"] = [{**one["choices"][0], "content_filter_results": {}, "stop_reason": None}]
    reply = {**whole(), **more}
    reply["choices"] = [{**reply["choices"][0], "native_finish_reason": "end_turn"}]
    return says(stream, reply)


def _in_lines(one: Json) -> bytes:
    """Return an event with a line of data for each line of pretty JSON."""
    lines = json.dumps(one, indent=1).encode().split(b"\n")
    return b"".join(b"data: %b\n" % line for line in lines) + b"\n"


def _azure() -> Behaviour:
    results = [{"prompt_index": 0, "content_filter_results": {"hate": {"filtered": False}}}]
    first = {"choices": [], "created": 0, "id": "", "model": "", "object": ""}
    stream = [{**first, "prompt_filter_results": results}, *chunks()]
    return says(stream, {**whole(), "prompt_filter_results": results})


def _halves() -> Behaviour:
    split = [rb'"a\ud83e"', rb'"\udd8a\ud83e"', rb'"\udd8ab"']
    lines = [dump(chunk({"content": "?"})).replace(b'"?"', one) for one in split]
    whole_line = dump(whole("?")).replace(b'"?"', rb'"x\ud83e\udd8a \ud83e"')
    end = [chunk({}, "stop")]
    return Behaviour(
        events=b"".join(b"data: %b\n\n" % line for line in lines) + events(end),
        reply=whole_line,
        expected_stream=[chunk({"content": one}) for one in ("a", "🦊", "🦊b")] + end,
        expected_reply=whole("x🦊 \ufffd"),
    )


def _log_probabilities() -> Behaviour:
    def fill(value: Json, number: Any, name: str) -> Json:
        logprobs = {"content": [{"token": "a", "logprob": number, "top_logprobs": []}]}
        return {**value, "choices": [{**value["choices"][0], "logprobs": logprobs}]}

    raw = fill(chunk({"content": "a"}), float("-inf"), "delta")
    end = [chunk({}, "stop")]
    return Behaviour(
        events=events([raw, *end]),
        reply=dump(fill(whole("a"), float("-inf"), "message")),
        expected_stream=[fill(chunk({"content": "a"}), -9999.0, "delta"), *end],
        expected_reply=fill(whole("a"), -9999.0, "message"),
        stores_stream=False,
    )


def _tool_call() -> Behaviour:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    stream = [chunk({"tool_calls": [{"index": 0, **call}]}), chunk({}, "tool_calls")]
    return says(stream, whole(None, "tool_calls", tool_calls=[call]), stored=False)


def _cut(body: Json) -> bytes:
    text = events(chunks())[:700] if body.get("stream") else dump(whole())[:50]
    kind = SSE if body.get("stream") else JSON
    return http(200, text, {"Content-Type": kind}, length=10**6)


def _error_within(body: Json) -> bytes:
    error = {"error": {"message": "The server is out of memory.", "code": "oom"}}
    text = events([*chunks()[:3], error]) if body.get("stream") else dump(error)
    return http(200, text, {"Content-Type": SSE if body.get("stream") else JSON})


def _gzipped(body: Json) -> bytes:
    text = events(chunks()) if body.get("stream") else dump(whole())
    kind = SSE if body.get("stream") else JSON
    return http(200, gzip.compress(text), {"Content-Type": kind, "Content-Encoding": "gzip"})


def _always_whole(body: Json) -> bytes:
    return http(200, dump(whole()), {"Content-Type": JSON})


def _as_chunk(reply: Json) -> Json:
    choice = dict(reply["choices"][0])
    choice["delta"] = choice.pop("message")
    return {**reply, "object": "chat.completion.chunk", "choices": [choice]}


OWN = {"message": "No.", "type": "own_type", "param": "temperature", "code": "own_code"}
PAGE = b"<html><body>secret</body></html>"
UNAVAILABLE = Error(503, "language_model_unavailable")
BUSY_CODE = "rate_limit_exceeded"
BUSY = {"error": {"message": "Slow down.", "type": "tokens", "code": BUSY_CODE}}
CREDENTIALS = Error(502, "language_model_misconfigured", "credentials of the gateway")
FUTURE = email.utils.formatdate(time.time() + 3600, usegmt=True)
NO_COUNTS = dict.fromkeys(USAGE)
ODD_USAGE = {"prompt_tokens": None, "completion_tokens": "5", "total_tokens": -1, "cost": 0.5}

BEHAVIOURS: dict[str, Behaviour] = {
    "plain": Behaviour(headers={"X-Request-Id": "r7", "X-RateLimit-Remaining-Requests": "5"}),
    "byte-by-byte": Behaviour(step=1),
    "line-separator": separated("\u2028"),
    "paragraph-separator": separated("\u2029"),
    "next-line": separated("\x85"),
    "halves": _halves(),
    "null-error": says([{**one, "error": None} for one in chunks()], {**whole(), "error": None}),
    "azure": _azure(),
    "several-lines": Behaviour(
        events=b"".join(map(_in_lines, chunks())) + b"data: [DONE]\n\n",
        reply=json.dumps(whole(), indent=1).encode(),
    ),
    "byte-order-mark": spelled(lambda text: b"\xef\xbb\xbf" + text),
    "crlf": spelled(lambda text: text.replace(b"\n", b"\r\n"), step=7),
    "cr": spelled(lambda text: text.replace(b"\n", b"\r"), step=7),
    "no-space": spelled(lambda text: text.replace(b"data: ", b"data:")),
    "comments": spelled(lambda text: text.replace(b"data: ", b": ping\n\n:\nid: 1\ndata: ")),
    "named-events": spelled(lambda text: text.replace(b"data: ", b"event: message\ndata: ")),
    "no-empty-lines": spelled(lambda text: text.replace(b"\n\n", b"\n")),
    "no-done": Behaviour(events=events(chunks(), b"")),
    "no-last-newline": Behaviour(events=events(chunks(), b"data: [DONE]")),
    "null-counts": says(chunks(usage=NO_COUNTS), {**whole(), "usage": NO_COUNTS}),
    "odd-counts": says(chunks(usage=ODD_USAGE), {**whole(), "usage": ODD_USAGE}),
    "null-usage": says([{"usage": None, **one} for one in chunks()], {**whole(), "usage": None}),
    "no-usage": says(chunks()[:-1], {**whole(), "usage": {}}),
    "null-choices": says([*chunks()[:-1], {**chunks()[-1], "choices": None}], whole()),
    "infinite-log-probability": _log_probabilities(),
    "refuses-stream-options": Behaviour(raw=strict),
    "reasoning": says(chunks(reasoning_content="Hm. "), whole(reasoning_content="Hm. ")),
    "annotations": says(
        chunks(annotations=[{"type": "url_citation", "url_citation": {"url": "x"}}]),
        whole(annotations=[{"type": "url_citation", "url_citation": {"url": "x"}}]),
    ),
    "unknown-fields": _with_fields(),
    "padding": says([{**one, "obfuscation": "x" * n} for n, one in enumerate(chunks())], whole()),
    "gzip": Behaviour(raw=_gzipped),
    "does-not-stream": Behaviour(raw=_always_whole, expected_stream=[_as_chunk(whole())]),
    "length": says(chunks(reason="length"), whole(reason="length"), stored=False),
    "content-filter": says(
        chunks(reason="content_filter"), whole(reason="content_filter"), stored=False
    ),
    "tool-call": _tool_call(),
    "no-finish-reason": says(
        chunks(reason=None),
        {**whole(), "choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}}]},
        stored=False,
    ),
    "parts": says(
        [chunk({"content": [{"type": "text", "text": "a"}]}), chunk({}, "stop")],
        whole([{"type": "text", "text": "a"}]),
        stored=False,
    ),
    "refusal": says(
        [chunk({"refusal": "No."}), chunk({}, "stop")], whole("", refusal="No."), stored=False
    ),
    "html-503": refuses(503, Error(503, "", "HTTP status 503"), PAGE),
    "html-200": refuses(200, UNAVAILABLE, PAGE),
    "empty-200": refuses(200, UNAVAILABLE, b""),
    "list-200": refuses(200, UNAVAILABLE, [1]),
    "odd-choices": refuses(200, UNAVAILABLE, {"choices": [["secret"]]}),
    "error-200": refuses(
        200,
        Error(502, "402", "No credits."),
        {"error": {"message": "No credits.", "code": 402}},
    ),
    "bad-request": refuses(400, Error(400, "own_code", "No."), {"error": OWN}),
    "unknown-model": refuses(404, Error(404, "own_code", "No."), {"error": OWN}),
    "detail": refuses(422, Error(422, "", "Bad field."), {"detail": "Bad field."}),
    "broken-server": refuses(500, Error(500, "own_code", "No."), {"error": OWN}),
    "unauthorized": refuses(401, CREDENTIALS, {"error": {"message": "Incorrect key: secret"}}),
    "forbidden": refuses(403, CREDENTIALS, {"error": {"message": "secret"}}),
    "busy": refuses(
        429, Error(429, BUSY_CODE, headers={"retry-after": "3"}), BUSY, {"Retry-After": "3"}
    ),
    "busy-for-half-a-second": refuses(
        429,
        Error(429, BUSY_CODE, headers={"retry-after": "1", "retry-after-ms": "500"}),
        BUSY,
        {"Retry-After": "0.5"},
    ),
    "busy-for-milliseconds": refuses(
        429,
        Error(429, BUSY_CODE, headers={"retry-after": "2", "retry-after-ms": "1250"}),
        BUSY,
        {"Retry-After-Ms": "1250", "Retry-After": "9", "X-Request-Id": "their-id"},
    ),
    "busy-until": refuses(
        503, Error(503, BUSY_CODE, headers={"retry-after": "3[56]"}), BUSY, {"Retry-After": FUTURE}
    ),
    "cut": fails(UNAVAILABLE, _cut),
    "error-within": fails(Error(502, "oom", "out of memory"), _error_within),
}
