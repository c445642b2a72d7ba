from dataclasses import replace
from typing import Any

import pytest

from services.errors import InvalidArgument
from services.gateway.rag.ingest.types import (
    DOCUMENT_FIELD,
    MAX_DOCUMENT_BYTES,
    MAX_ID_BYTES,
    DocumentCollection,
    Source,
    check_collection,
    collection_of,
    collection_of_copy,
    document_of_chunk,
)
from services.gateway.tenants import Tenant

SOURCE = Source("c", "a.md", "", "", {}, b"# A")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"collection": "a b"}, "BAD_COLLECTION_NAME"),
        ({"id": ""}, "BAD_ID"),
        ({"id": "é" * (MAX_ID_BYTES // 2 + 1)}, "BAD_ID"),
        ({"fields": {DOCUMENT_FIELD: "x"}}, "RESERVED_FIELD"),
        ({"content": b"x" * (MAX_DOCUMENT_BYTES + 1)}, "TOO_LARGE"),
        ({"media_type": "image/png"}, "UNKNOWN_MEDIA_TYPE"),
    ],
)
def test_what_cannot_be_ingested_is_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        replace(SOURCE, **change).validated_media_type()
    assert caught.value.reason == reason


def test_a_valid_document_has_a_media_type() -> None:
    assert SOURCE.validated_media_type() == "text/markdown"


@pytest.mark.parametrize(
    "change",
    [{"title": "A"}, {"media_type": "text/plain"}, {"fields": {"a": 1.0}}, {"content": b"# B"}],
)
async def test_a_version_depends_on_all_that_is_chunked(change: dict[str, Any]) -> None:
    assert await replace(SOURCE, **change).version(256) != await SOURCE.version(256)
    assert await replace(SOURCE).version(256) == await SOURCE.version(256)


async def test_a_large_document_has_a_version_of_its_content() -> None:
    one, other = (replace(SOURCE, content=bytes(2**21) + end) for end in (b"1", b"2"))
    assert await one.version(256) == await replace(one).version(256) != await other.version(256)


@pytest.mark.parametrize("name", ["", "a/b", "a b", "é", "x" * 101])
def test_names_of_collections_are_checked(name: str) -> None:
    with pytest.raises(InvalidArgument):
        check_collection(name)
    check_collection("A-b_c.9")


def test_names_of_copies_and_chunks_are_read_back() -> None:
    notes, digest = DocumentCollection("my-notes"), "0123456789abcdef"
    assert notes.search_name == "documents-my-notes"
    assert notes.copy_name(digest) == "reembedded-0123456789ab-my-notes"
    for tenant in (Tenant(), Tenant("0af9" * 8)):
        one = replace(notes, tenant=tenant)
        assert collection_of(one.search_name) == collection_of_copy(one.copy_name(digest)) == one
        assert collection_of(one.copy_name(digest)) is collection_of_copy(one.search_name) is None
    assert document_of_chunk("a#b.md#0123-1") == "a#b.md"


async def test_the_version_depends_on_the_length_of_chunks() -> None:
    assert await SOURCE.version(512) != await SOURCE.version(256) != await SOURCE.version(128)
