import json
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from services.gateway.backends.types import Value
from services.gateway.rag.ingest.batched_backends import BatchedBackends
from services.gateway.rag.ingest.parsers import markdown
from services.gateway.rag.ingest.preparation import PreparedDocument, prepare
from services.gateway.rag.ingest.types import DOCUMENT_FIELD, Source
from tests.fakes.backends import fake_backends

SECTIONS = [f"# Part {number}\n\nIt is about part {number}.\n" for number in range(4)]


@pytest.fixture
def backends() -> Iterator[BatchedBackends]:
    one = BatchedBackends(fake_backends()[0], "caller")
    yield one
    one.close()


async def prepared(
    backends: BatchedBackends, text: str, fields: dict[str, Value] | None = None, title: str = ""
) -> PreparedDocument:
    source = Source("c", "a", title, "text/markdown", fields or {}, text.encode())
    extract = markdown.parse(source.content)
    return await prepare(source, "text/markdown", await source.version(256), extract, backends)


async def test_what_is_stored_is_the_text_and_the_metadata(backends: BatchedBackends) -> None:
    text = "---\ntitle: Doors\nyear: 2000\n---\nThey open.\n"
    document = await prepared(backends, text, {"tag": "x"})
    assert (document.stored.id, document.stored.title, document.stored.text) == ("a", "Doors", text)
    assert document.stored.fields == document.fields == {"year": 2000.0, "tag": "x"}
    assert (document.stored.chunks, document.model_digest) == (1, "digest")
    named = await prepared(backends, text, title="Windows")
    assert named.stored.title == "Windows"
    assert named.stored.version != document.stored.version


async def test_unchanged_chunks_keep_their_ids(backends: BatchedBackends) -> None:
    before = await prepared(backends, "\n".join(SECTIONS), title="Parts")
    changed = [SECTIONS[2], SECTIONS[1].replace("about", "no more about"), SECTIONS[0]]
    after = await prepared(backends, "\n".join(changed), title="Parts")
    assert len(before.chunks.keys() & after.chunks.keys()) == 2
    assert all(key.startswith("a#") for key in before.chunks)


async def test_repeated_chunks_have_ids_of_their_own(backends: BatchedBackends) -> None:
    section = "## Same\n\nThe same words.\n"
    document = await prepared(backends, f"# A\n\n{section}\n# A\n\n{section}\n# A\n\n{section}")
    keys = list(document.chunks)
    assert len(set(keys)) == document.stored.chunks == len(keys)
    repeated = [key for key in keys if key.endswith(("-1", "-2"))]
    assert len(repeated) >= 2


async def test_search_gets_the_place_of_a_chunk_in_the_text(backends: BatchedBackends) -> None:
    document = await prepared(backends, "\n".join(SECTIONS), {"year": 2000.0}, "Parts")
    row = np.ones(4, np.float32)
    numbers = []
    for key, chunk in document.chunks.items():
        found = document.search_document(key, row)
        place = json.loads(found.payload)
        own = document.stored.text[place["start"] : place["end"]]
        assert found.text[place["lead"] :].startswith(own)
        assert document.embedded_text(key).endswith(own)
        assert (place["document"], place["title"]) == ("a", "Parts")
        assert (place["version"], place["section"]) == (document.stored.version, chunk.section)
        assert found.fields == {"year": 2000.0, DOCUMENT_FIELD: "a"}
        assert (found.id, found.vector is row) == (key, True)
        numbers.append(place["number"])
    assert numbers == [0, 1, 2, 3]


async def test_metadata_that_the_collection_lacks_is_not_filtered_by(
    backends: BatchedBackends,
) -> None:
    await prepared(backends, "---\nyear: 2000\n---\nText.\n")
    document = await prepared(backends, "---\nyear: soon\ncolour: red\n---\nText.\n")
    assert document.fields == {"colour": "red"}
    assert document.stored.fields == {"year": "soon", "colour": "red"}
    assert len(document.warnings) == 1
    assert "'year'" in document.warnings[0]


async def test_fields_of_the_caller_are_sent_even_if_they_do_not_fit(
    backends: BatchedBackends,
) -> None:
    await prepared(backends, "Text.", {"year": 2000.0})
    document = await prepared(backends, "---\nyear: later\n---\nText.", {"year": "soon"})
    assert document.fields == {"year": "soon"}
    assert document.warnings == []


async def test_warnings_of_the_parser_are_passed_on(backends: BatchedBackends) -> None:
    source = Source("c", "a", "", "text/markdown", {}, b"Text.")
    extract = replace(markdown.parse(source.content), warnings=["Page 7 cannot be read."])
    document = await prepare(source, "text/markdown", "v1", extract, backends)
    assert document.warnings == ["Page 7 cannot be read."]
