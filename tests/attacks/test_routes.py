"""Every HTTP route with an attacker's key and the names of another tenant's data."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from starlette.routing import Mount, Route

from tests.attacks.names import MARKER, SECRET, Names
from tests.attacks.test_rpcs import seen_text
from tests.attacks.world import ATTACKER, CONTROL, World

# Routes that still reveal or change another tenant's data, and what is missing.
OPEN: dict[str, str] = {}
# What answers without a key.
KEYLESS = frozenset(
    {"GET /", "GET /ask", "GET /cache", "GET /talk", "GET /pages", "GET /healthz", "GET /readyz"}
)
Request = dict[str, Any]


def chat(names: Names) -> Request:
    return {"model": "parrot", "messages": [{"role": "user", "content": names.prompt}]}


def response(names: Names) -> Request:
    return {"model": "parrot", "input": names.prompt}


def scope(names: Names) -> dict[str, str]:
    return {"user": names.user, "namespace": names.namespace}


def scope_headers(names: Names) -> dict[str, str]:
    return {"X-Memetwin-User": names.user, "X-Memetwin-Namespace": names.namespace}


def ask(names: Names) -> Request:
    return {"collection": names.collection, "question": names.prompt, "scope": scope(names)}


def loaded(names: Names) -> Request:
    entry = {"prompt": names.prompt, "response": "an answer of the caller"}
    return {"scope": scope(names), "entries": [entry]}


def feedback(names: Names) -> Request:
    return {"entry_id": names.entry, "correct": True, "prompt": names.prompt}


STREAM = {"Accept": "text/event-stream"}
# The requests of an attack on each route.
ATTACKS: dict[str, Callable[[Names], list[Request]]] = {
    "GET /": lambda names: [{}],
    "GET /ask": lambda names: [{}],
    "GET /cache": lambda names: [{}],
    "GET /talk": lambda names: [{}],
    "GET /pages": lambda names: [{"path": "/pages/twin.js"}, {"path": f"/pages/../{names.twin}"}],
    "GET /healthz": lambda names: [{}],
    "GET /readyz": lambda names: [{}],
    "GET /v1/models": lambda names: [{}],
    "POST /v1/responses": lambda names: [
        {"json": response(names), "headers": scope_headers(names)},
        {"json": response(names) | {"stream": True}, "headers": scope_headers(names)},
        {"json": response(names) | {"previous_response_id": names.response}},
        {"json": response(names), "headers": {"X-Memetwin-Tenant": names.tenant}},
    ],
    "GET /v1/responses/{id:path}": lambda names: [
        {"path": f"/v1/responses/{names.response}"},
        {"path": f"/v1/responses/{names.response.rpartition('_')[0]}"},
    ],
    "POST /v1/responses/{id:path}": lambda names: [
        {"path": f"/v1/responses/{names.response}/cancel"}
    ],
    "DELETE /v1/responses/{id:path}": lambda names: [{"path": f"/v1/responses/{names.response}"}],
    "GET /v1/models/{id:path}": lambda names: [{"path": f"/v1/models/{names.model}"}],
    "POST /v1/feedback": lambda names: [
        {"json": feedback(names), "headers": scope_headers(names)},
        {"json": feedback(names), "headers": {"X-Memetwin-Tenant": names.tenant}},
    ],
    "GET /v1/cache/stats": lambda names: [
        {},
        {"params": {"tenant": names.tenant}},
        {"params": {"namespace": names.namespace}},
    ],
    "GET /v1/cache/scopes": lambda names: [{}, {"params": {"tenant": names.tenant}}],
    "GET /v1/cache/lookups": lambda names: [
        {},
        {"params": {"tenant": names.tenant}},
        {"params": {"namespace": names.namespace}},
    ],
    "GET /v1/cache/entries/{id:path}": lambda names: [
        {"path": f"/v1/cache/entries/{names.entry}", "params": scope(names)},
        {
            "path": f"/v1/cache/entries/{names.entry}",
            "params": {"tenant": names.tenant} | scope(names),
        },
    ],
    "DELETE /v1/cache/entries/{id:path}": lambda names: [
        {"path": f"/v1/cache/entries/{names.curated}", "params": scope(names)},
        {
            "path": f"/v1/cache/entries/{names.curated}",
            "params": {"tenant": names.tenant} | scope(names),
        },
    ],
    "POST /v1/cache/purge": lambda names: [
        {"json": {"scope": scope(names)}},
        {"json": {"scope": scope(names), "force": True, "filter": {"prompt_contains": "Who"}}},
        {"json": {"scope": {"tenant": names.tenant} | scope(names)}},
    ],
    "POST /v1/embeddings": lambda names: [{"json": {"input": names.prompt}}],
    "POST /v1/chat/completions": lambda names: [
        {"json": chat(names), "headers": scope_headers(names)},
        {"json": chat(names) | {"stream": True}, "headers": scope_headers(names)},
        {"json": chat(names), "headers": {"X-Memetwin-Tenant": names.tenant}},
    ],
    "POST /v1/cache/entries": lambda names: [
        {"json": loaded(names)},
        {"json": loaded(names) | {"scope": {"tenant": names.tenant} | scope(names)}},
    ],
    "POST /v1/ask": lambda names: [
        {"json": ask(names)},
        {"json": ask(names), "headers": STREAM},
        {"json": ask(names) | {"scope": {"tenant": names.tenant}}},
    ],
    "POST /v1/retrieve": lambda names: [
        {"json": {"collection": names.collection, "question": names.prompt}},
    ],
    "POST /v1/cache/pairs": lambda names: [{"json": {"one": names.prompt, "other": "Another."}}],
    "POST /v1/documents": lambda names: [
        {
            "params": {"collection": names.collection, "id": names.document},
            "content": b"A text of the caller.",
        },
        {
            "data": {"collection": names.collection},
            "files": {"file": (names.document, b"Another text of the caller.", "text/plain")},
        },
    ],
    "GET /v1/documents": lambda names: [{"params": {"collection": names.collection}}],
    "DELETE /v1/documents": lambda names: [{"params": {"collection": names.collection}}],
    "GET /v1/documents/{id:path}": lambda names: [
        {"path": f"/v1/documents/{names.document}", "params": {"collection": names.collection}}
    ],
    "DELETE /v1/documents/{id:path}": lambda names: [
        {"path": f"/v1/documents/{names.document}", "params": {"collection": names.collection}}
    ],
    "GET /v1/twins": lambda names: [
        {},
        {"params": {"page_token": names.tokens.get("TwinService/ListTwins", "")}},
    ],
    "GET /v1/twins/map": lambda names: [{}],
    "POST /v1/twins/map": lambda names: [{"content": names.picture}],
    "POST /v1/twins/{id:path}/similarities": lambda names: [
        {
            "path": f"/v1/twins/{names.twin}/similarities",
            "files": {"image": ("photo.png", names.picture, "image/png")},
        }
    ],
    "PUT /v1/twins/{id:path}": lambda names: [
        {"path": f"/v1/twins/{names.twin}", "content": names.picture}
    ],
    "DELETE /v1/twins/{id:path}": lambda names: [{"path": f"/v1/twins/{names.twin}"}],
    "POST /v1/twins": lambda names: [
        {"content": names.picture},
        {"json": {"text": names.prompt, "limit": 10}},
    ],
    "POST /v1/twins/vector": lambda names: [{"content": names.callers_picture}],
    "POST /v1/twins/layers": lambda names: [{"content": names.callers_picture}],
    "GET /v1/twins/{id:path}/picture": lambda names: [{"path": f"/v1/twins/{names.twin}/picture"}],
}
# A deletion comes last, and deletes what an attack has added under a name of the victim.
ROUTES = sorted(ATTACKS, key=lambda route: (route.startswith("DELETE"), route))


def routes_of(world: World) -> Iterator[str]:
    for route in world.stack.routes:
        if isinstance(route, Mount):
            yield f"GET {route.path}"
        else:
            assert isinstance(route, Route)
            yield from (f"{method} {route.path}" for method in (route.methods or set()) - {"HEAD"})


def test_every_route_is_attacked(world: World) -> None:
    assert set(routes_of(world)) == set(ATTACKS)


@pytest.mark.parametrize("route", ROUTES)
def test_another_tenants_data_is_secret_and_unchanged_and_looks_like_none(
    world: World, route: str, request: pytest.FixtureRequest
) -> None:
    _expect_failure(route, request)
    before = world.victims_data()
    for pair in zip(ATTACKS[route](world.victim), ATTACKS[route](world.ghost), strict=True):
        one, other = (send(world, route, request, ATTACKER) for request in pair)
        require_no_secret(world, one, pair[0])
        assert seen(one) == seen(other), pair
        assert not world.changes(before), pair[0]


@pytest.mark.parametrize("route", ROUTES)
def test_only_the_page_and_the_probes_answer_without_a_key(
    world: World, route: str, request: pytest.FixtureRequest
) -> None:
    _expect_failure(route, request)
    for one in ATTACKS[route](world.victim):
        for key in ("", "unknown-key"):
            reply = send(world, route, one, key)
            if route not in KEYLESS:
                assert reply.status_code in (401, 404), reply
            require_no_secret(world, reply, one)


def test_metrics_are_not_on_the_public_port(world: World) -> None:
    for key in ("", ATTACKER):
        assert send(world, "GET /metrics", {}, key).status_code == 404


def test_the_attacks_succeed_against_the_callers_own_data(world: World) -> None:
    """The requests are valid: with the owner's key, they are answered."""
    # What deletes comes last, and what deletes more comes after what deletes less.
    deletes = ("DELETE", "POST /v1/cache/purge")
    for route in sorted(ROUTES, key=lambda one: (one.startswith(deletes), -len(one))):
        replies = [send(world, route, one, CONTROL) for one in ATTACKS[route](world.control)]
        assert replies[0].status_code == 200, (route, replies[0].text)


def send(world: World, route: str, request: Request, key: str) -> httpx.Response:
    method, path = route.split()
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    options: dict[str, Any] = {"path": path, "headers": {}} | request
    url = f"http://{world.stack.http_address}{options.pop('path')}"
    headers |= options.pop("headers")
    return httpx.request(method, url, headers=headers, timeout=60, **options)


def require_no_secret(world: World, reply: httpx.Response, request: Request) -> None:
    content = reply.content + str(reply.headers).encode()
    assert SECRET.encode() not in content, reply.text
    assert world.victim.picture[-200:] not in content, "the picture"
    if MARKER not in str(request):
        assert MARKER.encode() not in content, reply.text


def seen(reply: httpx.Response) -> str:
    headers = {
        name: value
        for name, value in reply.headers.items()
        if name not in ("date", "content-length", "etag", "last-modified")
    }
    return seen_text(f"{reply.status_code} {json.dumps(headers)} {reply.text}")


def _expect_failure(route: str, request: pytest.FixtureRequest) -> None:
    if route in OPEN:
        request.applymarker(pytest.mark.xfail(strict=True, reason=OPEN[route]))
