import json
from typing import Any

import pytest

from services.gateway.http.browsers import BrowserGuard

OWN = "127.0.0.1:8080"


async def inner(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


APP = "https://app.example"


async def call(path: str = "/v1/ask", *names: str, **headers: str) -> tuple[int, Any]:
    """Return the status and the error of a request to a guard that allows the names."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    raw = [(name.replace("_", "-").encode(), text.encode()) for name, text in headers.items()]
    guard = BrowserGuard(inner, frozenset(names), frozenset({APP}))
    await guard({"type": "http", "path": path, "headers": raw}, None, send)  # type: ignore[arg-type]
    return sent[0]["status"], json.loads(sent[1]["body"]).get("error")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"host": OWN},
        {"host": OWN, "origin": f"http://{OWN}", "sec_fetch_site": "same-origin"},
        {"host": OWN, "sec_fetch_site": "none"},
        {"host": "localhost", "origin": "http://localhost"},
        {"host": "Localhost:8080", "origin": "https://localhost:8080"},  # TLS ends at a proxy
        {"host": "[::1]:8080", "origin": "http://[::1]:8080"},
        {"host": "gateway:8080"},
        {"host": "gateway.memetwin.svc.cluster.local:8080"},
        {"host": "gateway.memetwin.svc:8080"},
        {"host": "10.1.2.3"},
    ],
)
async def test_our_own_pages_and_other_clients_pass(headers: dict[str, str]) -> None:
    assert await call(**headers) == (200, None)


@pytest.mark.parametrize(
    "headers",
    [
        {"host": OWN, "origin": "https://evil.example"},
        {"host": OWN, "origin": "null"},
        {"origin": "null"},
        {"host": OWN, "origin": "http://127.0.0.1:3000", "sec_fetch_site": "same-site"},
        {"host": OWN, "origin": "http://localhost:8080"},
        {"host": OWN, "sec_fetch_site": "cross-site"},
        {"host": OWN, "sec_fetch_site": "same-site"},
        {"host": OWN, "origin": f"http://{OWN}.evil.example"},
        {"host": OWN, "origin": f"http://{OWN}@evil.example"},
    ],
)
@pytest.mark.parametrize("path", ["/v1/ask", "/v1/twins/1/picture", "/metrics", "/unknown"])
async def test_requests_of_foreign_pages_are_refused(path: str, headers: dict[str, str]) -> None:
    status, error = await call(path, **headers)
    assert (status, error["reason"]) == (403, "FOREIGN_ORIGIN")


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.nip.example:8080", "localhost.evil.example.", "[", ":", "@"]
)
async def test_names_that_others_can_own_are_refused(host: str) -> None:
    status, error = await call(host=host, origin=f"http://{host}", sec_fetch_site="same-origin")
    assert (status, error["reason"]) == (403, "UNKNOWN_HOST")
    assert "MEMETWIN_ALLOWED_HOSTS" in error["message"]


async def test_allowed_names_pass_also_where_a_proxy_changes_the_host() -> None:
    name = "memes.example"
    assert (await call("/v1/ask", name, host=name, origin=f"https://{name}"))[0] == 200
    assert (await call("/v1/ask", name, host=f"{name}.:443"))[0] == 200
    assert (await call("/v1/ask", name, host="10.0.0.7:8080", origin=f"https://{name}"))[0] == 200
    assert (await call("/v1/ask", name, host=name, origin="https://other.example"))[0] == 403


@pytest.mark.parametrize(
    "path", ["/", "/ask", "/talk", "/cache", "/pages/twin.js", "/healthz", "/readyz"]
)
async def test_pages_and_probes_are_open(path: str) -> None:
    assert (await call(path, host="evil.example", sec_fetch_site="cross-site"))[0] == 200


async def test_a_route_of_openai_refuses_in_its_shape() -> None:
    _, error = await call("/v1/chat/completions", host=OWN, origin="null")
    assert error["code"] == "foreign_origin"


async def test_pages_of_allowed_origins_pass_unless_the_host_is_unknown() -> None:
    assert await call(host=OWN, origin=APP, sec_fetch_site="cross-site") == (200, None)
    status, error = await call(host="evil.example", origin=APP, sec_fetch_site="cross-site")
    assert (status, error["reason"]) == (403, "UNKNOWN_HOST")
