"""Every rpc and every route has a right: a new one without a row fails here."""

import re
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool

from memetwin.embedder.v1 import embedder_pb2
from memetwin.gateway.v1 import admin_pb2, cache_pb2, chat_pb2, rag_pb2, twin_pb2
from memetwin.search.v1 import search_pb2
from services.gateway.auth.rights import (
    ROUTE_RIGHTS,
    RPC_RIGHTS,
    right_of_route,
    right_of_rpc,
)
from services.key_file import ADMIN, ALL_BUT_ADMIN

ROOT = Path(__file__).parents[4]
MODULES = (embedder_pb2, search_pb2, admin_pb2, cache_pb2, chat_pb2, rag_pb2, twin_pb2)


def described_methods() -> set[str]:
    """Return the full names of all rpcs in ``protos``."""
    assert MODULES  # their import adds them to the pool
    methods = set()
    for file in (ROOT / "protos/memetwin").rglob("*.proto"):
        name = str(file.relative_to(ROOT / "protos"))
        for service in re.findall(r"^service (\w+)", file.read_text(), re.MULTILINE):
            described = descriptor_pool.Default().FindFileByName(name).services_by_name[service]
            methods |= {f"/{described.full_name}/{one.name}" for one in described.methods}
    return methods


def declared_routes() -> set[str]:
    """Return the paths below /v1/ that the gateway's code declares."""
    sources = (ROOT / "services/gateway").rglob("*.py")
    return {
        path
        for source in sources
        if "auth" not in source.parts
        for path in re.findall(r'oute\(\s*"(/v1/[^"]+)"', source.read_text())
    }


def test_every_rpc_has_a_right_and_no_other_method_has() -> None:
    assert set(RPC_RIGHTS) == described_methods()


def test_every_route_has_a_right_and_no_other_path_has() -> None:
    assert set(ROUTE_RIGHTS) == declared_routes()


def test_the_rights_exist() -> None:
    used = {*RPC_RIGHTS.values(), *(one for rows in ROUTE_RIGHTS.values() for one in rows.values())}
    assert used <= ALL_BUT_ADMIN | {ADMIN}


@pytest.mark.parametrize(
    ("method", "path", "right"),
    [
        ("GET", "/v1/models", "chat:read"),
        ("HEAD", "/v1/models", "chat:read"),
        ("POST", "/v1/models", ""),
        ("GET", "/v1/twins/a/b/picture", "twin:read"),
        ("GET", "/v1/twins/picture", ""),
        ("PUT", "/v1/twins/a/picture", "twin:write"),
        ("DELETE", "/v1/twins/map", "twin:write"),
        ("GET", "/v1/twins/map", "twin:read"),
        ("GET", "/v1/twins//picture", "twin:read"),
        ("GET", "/v1/nothing", ""),
    ],
)
def test_a_route_is_found_as_the_router_finds_it(method: str, path: str, right: str) -> None:
    assert right_of_route(method, path) == right


def test_a_method_without_a_row_is_for_administrators() -> None:
    assert right_of_rpc("/memetwin.gateway.v1.CacheService/Forgotten") == ADMIN
    assert right_of_rpc("") == ""
