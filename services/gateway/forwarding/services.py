"""SearchService and EmbedderService, as the gateway serves them within the caller's tenant."""

from typing import Any

import grpc

from memetwin.embedder.v1 import embedder_pb2
from memetwin.search.v1 import search_pb2
from services.gateway.forwarding import names
from services.gateway.forwarding.forwarder import Forwarder
from services.gateway.forwarding.tenant_names import TenantNames
from services.gateway.tenants import Tenants

SEARCH = search_pb2.DESCRIPTOR.services_by_name["SearchService"]
EMBEDDER = embedder_pb2.DESCRIPTOR.services_by_name["EmbedderService"]


def embedder_forwarder(channel: grpc.aio.Channel) -> Forwarder:
    """Return the forwarder of EmbedderService. Nothing in it belongs to a tenant."""
    return Forwarder(EMBEDDER, channel, "embedder")


def search_forwarder(channel: grpc.aio.Channel, tenants: Tenants) -> Forwarder:
    """Return the forwarder of SearchService, with the names of the caller's tenant."""

    async def translation() -> SearchTranslation:
        return SearchTranslation(TenantNames(await tenants.current()))

    return Forwarder(SEARCH, channel, "search", translation, names.have_names)


class SearchTranslation:
    """Translates the names of collections in the messages of one call."""

    def __init__(self, tenant: TenantNames) -> None:
        self._tenant = tenant

    def request(self, message: Any) -> Any:
        """Return a request with names of search."""
        if isinstance(message, search_pb2.ListCollectionsRequest):
            message.include_internal = False
            message.name_prefix = self._tenant.prefix
            if message.page_token:  # a token is a name, which need not exist
                message.page_token = self._tenant.prefix + message.page_token
            return message
        if not isinstance(message, bytes):
            names.translate(message, self._tenant.to_search)
        return message

    def response(self, message: Any) -> Any:
        """Return a response with the tenant's own names."""
        if isinstance(message, search_pb2.ListCollectionsResponse):
            visible = [one for one in message.collections if self._tenant.is_visible(one.name)]
            del message.collections[:]
            message.collections.extend(visible)
        if not isinstance(message, bytes):
            names.translate(message, self._tenant.from_search)
        return message
