"""The largest legal bodies of each HTTP route, and hostile ones of the same size."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from starlette.routing import BaseRoute, Mount, Route

from memetwin.gateway.v1 import rag_pb2
from services.cli.load import DEMO
from services.gateway.cache import comparison
from services.gateway.http.bodies import JSON_BYTES
from services.gateway.openai import chat, embeddings
from services.gateway.rag.ingest.types import MAX_DOCUMENT_BYTES
from services.gateway.settings import Settings
from services.gateway.wiring import wire
from tests.bench.largest_messages import Fill, Shape, build, image

JSON = "application/json"
FORM = "multipart/form-data; boundary=x"


@dataclass(frozen=True)
class Body:
    """A request: what is special about it, its body, and its headers."""

    name: str
    content: bytes = b""
    media_type: str = JSON
    path: str = ""
    accept: str = "*/*"


def chat_bodies(shape: Shape) -> Iterator[Body]:
    limit = chat.BODY_BYTES - 200
    text = _fitting(shape, limit)
    for stream in (False, True):
        message = {"role": "user", "content": text}
        body = {"model": "m", "messages": [message], "stream": stream}
        yield Body(f"one message{', streamed' * stream}", _json(body))
    message = {"role": "user", "content": shape.text(limit // 16_000 - 40)}
    yield Body("16,000 messages", _json({"model": "m", "messages": [message] * 16_000}))
    tools = [
        {"type": "function", "function": {"name": f"f{n}", "parameters": {}}} for n in range(8_000)
    ]
    one = {"role": "user", "content": "Which tool?"}
    yield Body("8,000 tools", _json({"model": "m", "messages": [one], "tools": tools}))
    yield from _hostile(chat.BODY_BYTES)


def response_bodies(shape: Shape) -> Iterator[Body]:
    limit = chat.BODY_BYTES - 200
    for stream in (False, True):
        body = {"model": "m", "input": _fitting(shape, limit), "stream": stream}
        yield Body(f"one text{', streamed' * stream}", _json(body))
    item = {"role": "user", "content": shape.text(limit // 16_000 - 40)}
    yield Body("16,000 items", _json({"model": "m", "input": [item] * 16_000}))
    yield from _hostile(chat.BODY_BYTES)


def embedding_bodies(shape: Shape) -> Iterator[Body]:
    count = embeddings.MAX_INPUTS
    text = _fitting(shape, embeddings.BODY_BYTES // count - 8)
    for encoding in ("float", "base64"):
        yield Body(encoding, _json({"input": [text] * count, "encoding_format": encoding}))
    yield from _hostile(embeddings.BODY_BYTES)


def ask_bodies(shape: Shape) -> Iterator[Body]:
    message = build(rag_pb2.AskRequest.DESCRIPTOR, Fill(shape, JSON_BYTES // 2))
    message.filter.Clear()
    body = json_format.MessageToDict(message)
    if len(_json(body)) > JSON_BYTES:
        body["question"] = _fitting(shape, JSON_BYTES // 2)
        body.pop("history", None)
    yield Body("all fields", _json(body))
    yield Body("all fields, streamed", _json(body), accept="text/event-stream")
    yield from _hostile(JSON_BYTES)


def entry_bodies(shape: Shape) -> Iterator[Body]:
    entry = {"prompt": _fitting(shape, 500), "response": _fitting(shape, 1_000)}
    entries = [{**entry, "prompt": f"{n} {entry['prompt']}"} for n in range(JSON_BYTES // 2_000)]
    yield Body("many entries", _json({"entries": entries}))
    yield from _hostile(JSON_BYTES)


def retrieve_bodies(shape: Shape) -> Iterator[Body]:
    message = build(rag_pb2.RetrieveRequest.DESCRIPTOR, Fill(shape, JSON_BYTES // 2))
    message.filter.Clear()
    body = json_format.MessageToDict(message)
    if len(_json(body)) > JSON_BYTES:
        body["question"] = _fitting(shape, JSON_BYTES // 2)
        body.pop("history", None)
    yield Body("all fields", _json(body))
    yield from _hostile(JSON_BYTES)


def pair_bodies(shape: Shape) -> Iterator[Body]:
    one = shape.text(comparison.MAX_CHARACTERS)
    yield Body("two long prompts", _json({"one": one, "other": f"{one[1:]}."}))
    yield from _hostile(JSON_BYTES)


def layer_bodies(shape: Shape) -> Iterator[Body]:
    yield Body("a picture", image(), "image/png", "?channels=64")


def purge_bodies(shape: Shape) -> Iterator[Body]:
    text = _fitting(shape, JSON_BYTES // 2)
    cites = [f"{n}" for n in range(1_000)]
    yield Body("a long filter", _json({"filter": {"prompt_contains": text, "cites": cites}}))
    yield from _hostile(JSON_BYTES)


def document_bodies(shape: Shape) -> Iterator[Body]:
    content = shape.text(MAX_DOCUMENT_BYTES).encode()
    query = "?collection=largest-documents&id=a"
    yield Body("one document", content, shape.media_type, query)
    part = content[: 2**20]
    yield Body("50 files", _form("file", [part] * 50), FORM, "?collection=largest-documents")
    yield Body("1,000 empty files", _form("file", [b""] * 1_000), FORM, query)
    yield Body("almost boundaries", b"--x\r\n" + b"\r\n--" * 2**21, FORM, query)


def twin_bodies(shape: Shape) -> Iterator[Body]:
    yield Body("a picture", image(), "image/png", "?limit=100")
    yield Body("a form", _form("image", [image()]), FORM)
    yield Body("a text", _json({"text": shape.text(10_000)}))
    yield from _hostile(JSON_BYTES)


def photo_bodies(shape: Shape) -> Iterator[Body]:
    yield Body("a picture", image(), "image/png")


def picture_bodies(shape: Shape) -> Iterator[Body]:
    yield Body("65 pictures", _form("image", [(DEMO / "visitor.jpg").read_bytes()] * 65), FORM)
    yield Body("one picture", _form("image", [image()]), FORM)


def feedback_bodies(shape: Shape) -> Iterator[Body]:
    entry = {"entry_id": "none", "correct": True, "prompt": _fitting(shape, JSON_BYTES - 200)}
    yield Body("a verdict", _json(entry))
    yield from _hostile(JSON_BYTES)


def no_bodies(shape: Shape) -> Iterator[Body]:
    yield Body("")


BODIES: dict[str, Callable[[Shape], Iterator[Body]]] = {
    "POST /v1/chat/completions": chat_bodies,
    "POST /v1/responses": response_bodies,
    "POST /v1/responses/{id:path}": no_bodies,
    "DELETE /v1/responses/{id:path}": no_bodies,
    "POST /v1/feedback": feedback_bodies,
    "DELETE /v1/cache/entries/{id:path}": no_bodies,
    "POST /v1/embeddings": embedding_bodies,
    "POST /v1/ask": ask_bodies,
    "POST /v1/cache/entries": entry_bodies,
    "POST /v1/cache/pairs": pair_bodies,
    "POST /v1/retrieve": retrieve_bodies,
    "POST /v1/cache/purge": purge_bodies,
    "POST /v1/documents": document_bodies,
    "DELETE /v1/documents": no_bodies,
    "DELETE /v1/documents/{id:path}": no_bodies,
    "POST /v1/twins": twin_bodies,
    "POST /v1/twins/map": photo_bodies,
    "POST /v1/twins/{id:path}/similarities": picture_bodies,
    "PUT /v1/twins/{id:path}": photo_bodies,
    "DELETE /v1/twins/{id:path}": no_bodies,
    "POST /v1/twins/vector": photo_bodies,
    "POST /v1/twins/layers": layer_bodies,
}


async def routes() -> list[str]:
    """Return the method and the path of each route, except those for static files."""
    async with wire(Settings()) as gateway:
        return list(_names(gateway.application.routes))


def bodies(route: str, shape: Shape) -> Iterator[Body]:
    """Yield the bodies of a route.

    Raises LookupError if a route that takes a body has none here.
    """
    if route.startswith(("GET ", "DELETE ")):
        yield Body("")
    elif route in BODIES:
        yield from BODIES[route](shape)
    else:
        raise LookupError(f"no bodies for {route}: add them to BODIES")


def _names(all_routes: list[BaseRoute]) -> Iterator[str]:
    for route in all_routes:
        assert isinstance(route, Route | Mount), route
        if isinstance(route, Route):
            for method in sorted((route.methods or set()) - {"HEAD"}):
                yield f"{method} {route.path}"


def _hostile(size: int) -> Iterator[Body]:
    """Yield bodies that are refused. They must not cost more than legal ones."""
    start = b'{"model":"m","messages":[{"role":"user","content":"Hi"}],"metadata":['
    yield Body("empty lists", start + b",".join([b"[]"] * ((size - 100) // 3)) + b"]}")
    yield Body("numbers", start + b",".join([b"1"] * ((size - 100) // 2)) + b"]}")
    yield Body("nesting", start + b"[" * (size // 2 - 60) + b"]" * (size // 2 - 60) + b"]}")
    yield Body("names", b"{%s}" % b",".join(b'"%07d":1' % n for n in range(size // 12)))
    yield Body("quotation marks", b'{"a":"' + rb"\"" * (size // 2 - 10) + b'"}')
    yield Body("surrogates", b'{"a":"' + rb"\ud83d\ude42" * (size // 12 - 10) + b'"}')
    yield Body("legal values", start + b",".join([b"[]"] * 24_000) + b"]}")
    yield Body("too large", b" " * (size + 1))


def _fitting(shape: Shape, size: int) -> str:
    """Return a text whose JSON has at most ``size`` bytes."""
    text = shape.text(size)
    return text[: int(len(text) * size / len(json.dumps(text, ensure_ascii=False).encode()))]


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _form(name: str, contents: list[bytes]) -> bytes:
    head = b'--x\r\nContent-Disposition: form-data; name="%s"; filename="%d.txt"\r\n\r\n'
    parts = [head % (name.encode(), n) + content for n, content in enumerate(contents)]
    return b"\r\n".join(parts) + b"\r\n--x--\r\n"
