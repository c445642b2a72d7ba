"""Tests how the command line resolves names of collections."""

from typing import Any

import click
import grpc
import pytest

from memetwin.search.v1 import search_pb2
from services.cli.collections import resolve


@grpc.Call.register
class NotFound(grpc.RpcError):
    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.NOT_FOUND


class FakeSearch:
    """The rpcs that resolve names. It lists one collection per page."""

    def __init__(self, *names: str) -> None:
        self._names = sorted(names)

    def GetCollection(self, request: Any, timeout: float) -> Any:  # noqa: N802
        if request.name not in self._names:
            raise NotFound
        return search_pb2.GetCollectionResponse()

    def ListCollections(self, request: Any, timeout: float) -> Any:  # noqa: N802
        after = [name for name in self._names if name > request.page_token]
        return search_pb2.ListCollectionsResponse(
            collections=[search_pb2.Collection(name=name) for name in after[:1]],
            next_page_token=after[0] if len(after) > 1 else "",
        )


def find(name: str, *names: str) -> str:
    search: Any = FakeSearch(*names)
    return resolve(search, name)


def test_documents_are_found_by_the_name_that_readers_know() -> None:
    assert find("memes", "documents-memes", "books") == "documents-memes"


def test_an_exact_search_collection_wins() -> None:
    assert find("memes", "documents-memes", "memes") == "memes"


def test_the_error_lists_what_there_is_without_internal_collections() -> None:
    internal = ("cache-0123-7", "twins-0123-l2", "twin-titles-0123")
    with pytest.raises(click.ClickException) as caught:
        find("mimes", "documents-memes", "books", *internal)
    assert caught.value.message == (
        "There is no collection named 'mimes'. Collections: books, memes."
    )


def test_the_error_says_so_if_there_are_no_collections() -> None:
    with pytest.raises(click.ClickException, match="There are no collections yet"):
        find("memes")
