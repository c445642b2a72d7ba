from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from services.errors import Failure, NotFound
from services.gateway.cache.routes import CacheRoutes
from services.gateway.cache.types import Scope
from services.gateway.http.errors import handle_failure


class Recorder:
    """Records feedback, and knows one entry."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    async def record(self, scope: Scope, entry_id: str, prompt: str, *, correct: bool) -> bool:
        if entry_id != "e1":
            raise NotFound("ENTRY_NOT_FOUND", "There is no such entry.")
        self.calls.append((scope, entry_id, prompt, correct))
        return not correct


async def post(
    recorder: Recorder, body: Any, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    unused: Any = None
    feedback: Any = recorder
    routes = CacheRoutes(unused, unused, feedback, unused).routes()
    app = Starlette(routes=routes, exception_handlers={Failure: handle_failure})
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        reply = await client.post("/v1/feedback", json=body, headers=headers)
    return reply.status_code, reply.json()


async def test_feedback_is_about_an_entry_of_the_scope() -> None:
    recorder = Recorder()
    body = {"entry_id": "e1", "correct": False, "prompt": "Hi?"}
    assert await post(recorder, body, {"X-Memetwin-User": "ann"}) == (200, {"deleted": True})
    body = {"entry_id": "e1", "correct": True, "prompt": None}
    assert await post(recorder, body) == (200, {"deleted": False})
    assert recorder.calls == [
        (Scope("", "ann"), "e1", "Hi?", False),
        (Scope(), "e1", "", True),
    ]
    assert (await post(recorder, body | {"entry_id": "e2"}))[0] == 404


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "entry_id"),
        ({"entry_id": 1, "correct": True}, "entry_id"),
        ({"entry_id": "e1"}, "correct"),
        ({"entry_id": "e1", "correct": "yes"}, "correct"),
        ({"entry_id": "e1", "correct": True, "prompt": ["Hi?"]}, "prompt"),
    ],
)
async def test_bad_feedback_is_refused(body: Any, field: str) -> None:
    status, reply = await post(Recorder(), body)
    assert status == 400
    assert (reply["error"]["reason"], reply["error"]["field"]) == ("BAD_FEEDBACK", field)


async def test_the_body_of_feedback_may_name_the_scope() -> None:
    recorder = Recorder()
    body = {"entry_id": "e1", "correct": True, "scope": {"user": "zoë", "namespace": "カフェ"}}
    assert await post(recorder, body, {"X-Memetwin-User": "ann"}) == (200, {"deleted": False})
    assert recorder.calls == [(Scope("", "zoë", "カフェ"), "e1", "", True)]
    status, reply = await post(recorder, body | {"scope": "ann"})
    assert (status, reply["error"]["reason"]) == (400, "BAD_FEEDBACK")


class Usage:
    async def stats(self, scope: Scope, *, whole_tenant: bool) -> dict[str, float]:
        return {"exact": 1, "miss": 1} if whole_tenant else {}

    async def namespace_stats(self, tenant: str, namespace: str) -> dict[str, float]:
        return {"exact": {"shop": 5}.get(namespace, 0)}

    async def history(
        self, tenant: str, namespace: str | None = None
    ) -> list[tuple[float, dict[str, float]]]:
        return [(0.0, {"semantic": 4, "expected_wrong": 0.5, "miss": 2 if namespace else 1})]


async def test_statistics_are_of_a_tenant_or_of_a_namespace() -> None:
    usage: Any = Usage()
    unused: Any = None
    app = Starlette(routes=CacheRoutes(usage, unused, unused, unused).routes())
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        whole = (await client.get("/v1/cache/stats?tenant=t")).json()
        shop = (await client.get("/v1/cache/stats?tenant=t&namespace=shop")).json()
    assert (whole["exact"], shop["exact"]) == ("1", "5")
    assert whole["history"][0]["expected_wrong"] == 0.5
    assert (whole["history"][0]["misses"], shop["history"][0]["misses"]) == ("1", "2")
