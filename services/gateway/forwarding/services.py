"""SearchService and EmbedderService, as the gateway serves them within the caller's tenant."""

from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf.descriptor import Descriptor

from memetwin.embedder.v1 import embedder_pb2
from memetwin.search.v1 import search_pb2
from services.gateway.forwarding import names
from services.gateway.forwarding.forwarder import Forwarder
from services.gateway.forwarding.tenant_names import TenantNames
from services.gateway.page_tokens import PageTokens
from services.gateway.tenants import Tenant, Tenants

SEARCH = search_pb2.DESCRIPTOR.services_by_name["SearchService"]
EMBEDDER = embedder_pb2.DESCRIPTOR.services_by_name["EmbedderService"]

# Messages with page tokens.
_LISTS = frozenset(
    {
        "ListCollectionsRequest",
        "ListCollectionsResponse",
        "ListDocumentsRequest",
        "ListDocumentsResponse",
    }
)


def embedder_forwarder(channel: grpc.aio.Channel) -> Forwarder:
    """Return the forwarder of EmbedderService. Nothing in it belongs to a tenant."""
    return Forwarder(EMBEDDER, channel, "embedder")


def search_forwarder(channel: grpc.aio.Channel, tenants: Tenants) -> Forwarder:
    """Return the forwarder of SearchService, with the names of the caller's tenant."""

    async def translation() -> SearchTranslation:
        return SearchTranslation(await tenants.current(), tenants.page_tokens)

    return Forwarder(SEARCH, channel, "search", translation, _is_translated)


def _is_translated(descriptor: Descriptor) -> bool:
    return descriptor.name in _LISTS or names.have_names(descriptor)


class SearchTranslation:
    """Translates names of collections and page tokens in the messages of one call."""

    def __init__(self, tenant: Tenant, page_tokens: PageTokens) -> None:
        self._tenant, self._page_tokens = tenant, page_tokens
        self._names = TenantNames(tenant)
        self._listed: Sequence[str] = ()

    async def request(self, message: Any) -> Any:
        """Return a request with names of search."""
        if message.DESCRIPTOR.name in _LISTS:
            self._listed = ["search", self._tenant.tag, getattr(message, "collection", "")]
            message.page_token = await self._page_tokens.read(self._listed, message.page_token)
        names.translate(message, self._names.to_search)
        if isinstance(message, search_pb2.ListCollectionsRequest):
            message.include_internal = False
            message.name_prefix = self._tenant.prefix
            # Search continues after this name.
            message.page_token = message.page_token and self._tenant.prefix + message.page_token
        return message

    async def response(self, message: Any) -> Any:
        """Return a response with the tenant's own names."""
        if isinstance(message, bytes):
            return message
        if message.DESCRIPTOR.name in _LISTS:
            after = message.next_page_token.removeprefix(self._tenant.prefix)
            message.next_page_token = await self._page_tokens.write(self._listed, after)
        if isinstance(message, search_pb2.ListCollectionsResponse):
            visible = [one for one in message.collections if self._names.is_visible(one.name)]
            del message.collections[:]
            message.collections.extend(visible)
        names.translate(message, self._names.from_search)
        return message
