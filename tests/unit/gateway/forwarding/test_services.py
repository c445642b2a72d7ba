from typing import Any

from google.protobuf import message_factory

from memetwin.search.v1 import search_pb2
from services.gateway.auth.rights import RPC_RIGHTS
from services.gateway.forwarding import names, services
from services.gateway.forwarding.services import SearchTranslation
from services.gateway.forwarding.tenant_names import TenantNames
from services.gateway.tenants import Tenant

TENANT = Tenant("0123456789abcdef" * 2)


def translation() -> SearchTranslation:
    return SearchTranslation(TenantNames(TENANT))


def test_every_rpc_has_a_right() -> None:
    for service in (services.SEARCH, services.EMBEDDER):
        for method in service.methods:
            assert f"/{service.full_name}/{method.name}" in RPC_RIGHTS


def test_every_request_is_bound_to_the_tenant() -> None:
    """Whatever field names a collection, search gets a name of the tenant."""
    for method in services.SEARCH.methods:
        kind: Any = message_factory.GetMessageClass(method.input_type)
        request = kind()
        fill(request, "x")
        sent = translation().request(request)
        for name in filled(sent):
            assert name.startswith(TENANT.prefix), method.name


def fill(message: Any, name: str) -> None:
    """Set every field that names a collection."""
    own, nested = names._fields(message.DESCRIPTOR)
    for field in own:
        if isinstance(getattr(message, field), str):
            setattr(message, field, name)
    for field, is_repeated in nested:
        value = getattr(message, field)
        fill(value.add() if is_repeated else value, name)
        if not is_repeated:
            value.SetInParent()


def filled(message: Any) -> list[str]:
    found: list[str] = []
    names.translate(message, lambda name, _: found.append(name) or name)  # type: ignore[func-returns-value]
    assert found
    return found


def test_a_list_has_only_the_tenants_collections() -> None:
    request = search_pb2.ListCollectionsRequest(
        page_token="m", include_internal=True, name_prefix="tenant-"
    )
    sent = translation().request(request)
    assert (sent.name_prefix, sent.page_token) == (TENANT.prefix, f"{TENANT.prefix}m")
    assert not sent.include_internal
    reply = search_pb2.ListCollectionsResponse(
        collections=[
            search_pb2.Collection(name=f"{TENANT.prefix}notes", aliases=[f"{TENANT.prefix}latest"]),
            search_pb2.Collection(name=f"{TENANT.prefix}documents-x"),
            search_pb2.Collection(name="notes"),
        ],
        next_page_token=f"{TENANT.prefix}notes",
    )
    shown = translation().response(reply)
    assert [(one.name, list(one.aliases)) for one in shown.collections] == [("notes", ["latest"])]
    assert shown.next_page_token == "notes"


def test_responses_without_names_stay_bytes() -> None:
    assert translation().response(b"bytes") == b"bytes"
