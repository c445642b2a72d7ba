"""Finds the search collection that a user means by a name."""

from typing import Any

import click
import grpc

from memetwin.search.v1 import search_pb2, search_pb2_grpc

TIMEOUT = 30
# The gateway refuses the names of memetwin's own collections as invalid.
_ABSENT = (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT)
# The gateway keeps the chunks of documents in search collections with this prefix.
DOCUMENTS_PREFIX = "documents-"
# Prefixes of the gateway's other search collections, which users do not name.
_INTERNAL_PREFIXES = ("cache-", "reembedded-", "twins-", "twin-titles-")


def resolve(stub: search_pb2_grpc.SearchServiceStub, name: str) -> str:
    """Return the search collection ``name``, or that of the documents ``name``.

    Raises:
        click.ClickException: neither exists; the message lists the collections that do.
        grpc.RpcError: the search service refuses the call or is unreachable.
    """
    for candidate in (name, DOCUMENTS_PREFIX + name):
        if _exists(stub, candidate):
            return candidate
    names = _names(stub)
    known = f"Collections: {', '.join(names)}." if names else "There are no collections yet."
    raise click.ClickException(f"There is no collection named {name!r}. {known}")


def _exists(stub: search_pb2_grpc.SearchServiceStub, name: str) -> bool:
    try:
        stub.GetCollection(search_pb2.GetCollectionRequest(name=name), timeout=TIMEOUT)
    except grpc.RpcError as error:
        if isinstance(error, grpc.Call) and error.code() in _ABSENT:
            return False
        raise
    return True


def _names(stub: search_pb2_grpc.SearchServiceStub) -> list[str]:
    """Return the names that users know, in alphabetical order."""
    names, request = [], search_pb2.ListCollectionsRequest(page_size=1000, include_internal=True)
    while True:
        reply: Any = stub.ListCollections(request, timeout=TIMEOUT)
        names += [name for one in reply.collections for name in (one.name, *one.aliases)]
        if not reply.next_page_token:
            break
        request.page_token = reply.next_page_token
    return sorted(
        name.removeprefix(DOCUMENTS_PREFIX)
        for name in names
        if not name.startswith(_INTERNAL_PREFIXES)
    )
