from typing import Any

import pytest
from google.protobuf import message_factory

from memetwin.search.v1 import search_pb2
from services.errors import InvalidArgument
from services.gateway.auth.rights import RPC_RIGHTS
from services.gateway.forwarding import names, services
from services.gateway.forwarding.services import SearchTranslation
from services.gateway.page_tokens import PageTokens
from services.gateway.tenants import Tenant

TENANT = Tenant("0123456789abcdef" * 2)


async def secret() -> bytes:
    return b"s" * 32


def translation(tenant: Tenant = TENANT) -> SearchTranslation:
    return SearchTranslation(tenant, PageTokens(secret))


def test_every_rpc_has_a_right() -> None:
    for service in (services.SEARCH, services.EMBEDDER):
        for method in service.methods:
            assert f"/{service.full_name}/{method.name}" in RPC_RIGHTS


def test_every_page_token_is_translated() -> None:
    for method in services.SEARCH.methods:
        for one in (method.input_type, method.output_type):
            has_token = any(field.name.endswith("page_token") for field in one.fields)
            assert has_token == (one.name in services._LISTS)
            assert services._is_translated(one) or not has_token


async def test_every_request_is_bound_to_the_tenant() -> None:
    """Whatever field names a collection, search gets a name of the tenant."""
    for method in services.SEARCH.methods:
        kind: Any = message_factory.GetMessageClass(method.input_type)
        request = kind()
        fill(request, "x")
        sent = await translation().request(request)
        if method.name == "ListCollections":
            assert sent.name_prefix == TENANT.prefix
        else:
            found = names_in(sent)
            assert found
            assert all(name.startswith(TENANT.prefix) for name in found), method.name


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


def names_in(message: Any) -> list[str]:
    found: list[str] = []

    def record(name: str, path: str) -> str:
        found.append(name)
        return name

    names.translate(message, record)
    return found


async def test_a_list_has_only_the_tenants_collections() -> None:
    listing = translation()
    request = search_pb2.ListCollectionsRequest(include_internal=True, name_prefix="tenant-")
    sent = await listing.request(request)
    assert (sent.name_prefix, sent.page_token) == (TENANT.prefix, "")
    assert not sent.include_internal
    reply = search_pb2.ListCollectionsResponse(
        collections=[
            search_pb2.Collection(name=f"{TENANT.prefix}notes", aliases=[f"{TENANT.prefix}latest"]),
            search_pb2.Collection(name=f"{TENANT.prefix}documents-x"),
            search_pb2.Collection(name="notes"),
        ],
        next_page_token=f"{TENANT.prefix}notes",
    )
    shown = await listing.response(reply)
    assert [(one.name, list(one.aliases)) for one in shown.collections] == [("notes", ["latest"])]
    following = search_pb2.ListCollectionsRequest(page_token=shown.next_page_token)
    sent = await translation().request(following)
    assert sent.page_token == f"{TENANT.prefix}notes"
    for token in (shown.next_page_token, "notes"):
        foreign = search_pb2.ListCollectionsRequest(page_token=token)
        with pytest.raises(InvalidArgument) as caught:
            await translation(Tenant("f" * 32)).request(foreign)
        assert caught.value.reason == "INVALID_PAGE_TOKEN"


async def test_a_page_token_belongs_to_its_collection() -> None:
    listing = translation()
    await listing.request(search_pb2.ListDocumentsRequest(collection="notes"))
    reply = await listing.response(search_pb2.ListDocumentsResponse(next_page_token="d9"))
    request = search_pb2.ListDocumentsRequest(collection="notes", page_token=reply.next_page_token)
    assert (await translation().request(request)).page_token == "d9"
    request = search_pb2.ListDocumentsRequest(collection="other", page_token=reply.next_page_token)
    with pytest.raises(InvalidArgument):
        await translation().request(request)


async def test_responses_without_names_stay_bytes() -> None:
    assert await translation().response(b"bytes") == b"bytes"
