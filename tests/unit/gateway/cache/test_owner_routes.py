import asyncio
import contextvars
import time
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette

from services.errors import Failure
from services.gateway.auth.caller import set_caller
from services.gateway.cache.lookup_log import LoggedLookup
from services.gateway.cache.lookup_report import ReportedLookup
from services.gateway.cache.owner_routes import OwnerRoutes
from services.gateway.cache.purging import PurgeRequest
from services.gateway.cache.types import Entry, Scope
from services.gateway.http.errors import handle_failure
from services.key_file import Key
from tests.fakes.cache_store import fake_scopes

ENTRY = Entry("e", "?", "!", Scope("t", "ann"), "f", {}, 0.0, 0.0)


class Admin:
    def __init__(self) -> None:
        self.calls: list[Any] = []

    async def get(self, scope: Scope, entry_id: str) -> Entry:
        self.calls.append(("get", scope, entry_id))
        return ENTRY

    async def delete(self, scope: Scope, entry_id: str) -> None:
        self.calls.append(("delete", scope, entry_id))

    async def purge(self, scope: Scope, request: PurgeRequest) -> tuple[int, list[Entry]]:
        self.calls.append(("purge", scope, request.prompt_contains, request.force))
        return 3, [ENTRY]


class Report:
    def __init__(self) -> None:
        self.calls: list[Any] = []

    async def read(self, tenant: str, namespace: str | None = None) -> list[ReportedLookup]:
        self.calls.append((tenant, namespace))
        lookup = LoggedLookup(time.time(), "miss", "", "shop", "?", "e")
        return [ReportedLookup(lookup, True, "number")]


class Names:
    async def tenants(self) -> list[str]:
        return ["", "acme"]

    async def namespaces(self, tenant: str) -> list[str]:
        return ["help", "shop"]


class House:
    def __init__(self) -> None:
        self.admin, self.report = Admin(), Report()
        parts: Any = (self.admin, self.report, Names(), fake_scopes())
        routes = OwnerRoutes(*parts, facts={"has_prices": False}).routes()
        self.app = Starlette(routes=routes, exception_handlers={Failure: handle_failure})

    async def send(self, method: str, path: str, key: Key | None = None, **options: Any) -> Any:
        async def run() -> httpx.Response:
            if key:
                set_caller(key)
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
                return await client.request(method, f"/v1/cache/{path}", **options)

        return await asyncio.create_task(run(), context=contextvars.Context())


@pytest.fixture
def house() -> House:
    return House()


async def test_a_caller_without_keys_chooses_among_all_tenants(house: House) -> None:
    reply = (await house.send("GET", "scopes")).json()
    assert reply == {
        "tenants": ["", "acme"],
        "namespaces": ["help", "shop"],
        "has_prices": False,
    }


async def test_a_key_sees_its_tenant_and_its_namespaces(house: House) -> None:
    key = Key("00" * 32, "t", namespaces=("shop",), user="ann")
    reply = (await house.send("GET", "scopes", key)).json()
    assert (reply["tenants"], reply["namespaces"]) == (["t"], ["shop"])
    assert (await house.send("GET", "scopes?tenant=other", key)).status_code == 403


async def test_lookups_are_of_a_tenant_or_of_a_namespace(house: House) -> None:
    reply = await house.send("GET", "lookups?tenant=t")
    [lookup] = reply.json()["lookups"]
    assert (lookup["prompt"], lookup["is_stored"], lookup["rule"]) == ("?", True, "number")
    assert reply.headers["cache-control"] == "no-store"
    await house.send("GET", "lookups?tenant=t&namespace=")
    assert house.report.calls == [("t", None), ("t", "")]


async def test_an_entry_is_read_and_deleted_in_its_scope(house: House) -> None:
    query = "entries/e?tenant=t&user=ann&namespace=caf%C3%A9"
    assert (await house.send("GET", query)).json()["response"] == "!"
    assert (await house.send("DELETE", query)).json() == {}
    scope = Scope("t", "ann", "café")
    assert house.admin.calls == [("get", scope, "e"), ("delete", scope, "e")]
    key = Key("00" * 32, "t", user="bob")
    assert (await house.send("DELETE", query, key)).status_code == 403


async def test_a_purge_is_previewed_and_confirmed(house: House) -> None:
    body = {"scope": {"tenant": "t"}, "filter": {"prompt_contains": "x"}}
    reply = (await house.send("POST", "purge", json=body)).json()
    assert (reply["count"], reply["deleted"], reply["sample"][0]["prompt"]) == ("3", False, "?")
    reply = (await house.send("POST", "purge", json=body | {"force": True})).json()
    assert reply["deleted"]
    assert [call[3] for call in house.admin.calls] == [False, True]
    assert (await house.send("POST", "purge", json={"filter": 1})).status_code == 400
