from dataclasses import replace
from typing import Any

import pytest

from services.errors import InvalidArgument
from services.gateway.rag.ingest.types import (
    DOCUMENT_FIELD,
    MAX_DOCUMENT_BYTES,
    MAX_ID_BYTES,
    Source,
    check_collection,
    collection_of_copy,
    copy_name,
    document_of_chunk,
    search_collection,
)

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
    assert search_collection("a") == "documents-a"


def test_names_of_copies_and_chunks_are_read_back() -> None:
    assert copy_name("my-notes", "0123456789abcdef") == "reembedded-0123456789ab-my-notes"
    assert collection_of_copy(copy_name("my-notes", "0123456789abcdef")) == "my-notes"
    assert document_of_chunk("a#b.md#0123-1") == "a#b.md"


async def test_the_version_depends_on_the_length_of_chunks() -> None:
    assert await SOURCE.version(512) != await SOURCE.version(256) != await SOURCE.version(128)
