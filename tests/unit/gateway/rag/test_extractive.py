import pytest

from services.errors import FailedPrecondition
from services.gateway.rag.extractive import MAX_QUOTES, MAX_SENTENCES, ExtractiveWriter
from services.gateway.rag.types import Draft, Passage, WriteRequest
from tests.fakes.backends import FakeEmbedder
from tests.fakes.passages import passage


async def write_request(embedder: FakeEmbedder, question: str) -> WriteRequest:
    return WriteRequest(question, (await embedder.embed_queries([question])).rows[0])


async def write(question: str, *passages: Passage) -> Draft:
    embedder = FakeEmbedder()
    request = await write_request(embedder, question)
    *pieces, draft = [piece async for piece in ExtractiveWriter(embedder).write(request, passages)]
    assert isinstance(draft, Draft)
    assert pieces == [draft.text]
    return draft


async def test_the_nearest_sentences_are_quoted_word_for_word() -> None:
    first = passage("The heron waits. The otter swims in the river.", "a", start=100)
    second = passage("Where the otter swims. Rates rose.", "b")
    draft = await write("Where does the otter swim in the river?", first, second)
    assert draft.text.startswith(ExtractiveWriter.OPENING)
    assert [one.quote for one in draft.citations] == [
        "The otter swims in the river.",
        "Where the otter swims.",
    ]
    for citation, source in zip(draft.citations, (first, second), strict=True):
        assert draft.text[citation.start : citation.end] == citation.quote
        place = slice(citation.source_start - source.start, citation.source_end - source.start)
        assert source.text[place] == citation.quote
        assert citation.document == source.document
    assert draft.text.endswith("”")
    assert draft.passages == [first, second]
    assert (draft.model, draft.complete) == ("", True)


async def test_quotes_are_few_and_in_the_order_of_their_passages() -> None:
    sentences = [f"The otter swims {number}." for number in range(9)]
    draft = await write("otter swims 3", passage(" ".join(sentences)))
    assert [one.quote for one in draft.citations] == [sentences[at] for at in (0, 1, 3)]
    assert len(draft.citations) == MAX_QUOTES


async def test_what_is_far_from_the_best_sentence_is_not_quoted() -> None:
    draft = await write("otter river", passage("Otter river. Interest rates rose again today."))
    assert [one.quote for one in draft.citations] == ["Otter river."]


async def test_only_the_first_sentences_are_embedded() -> None:
    embedder = FakeEmbedder()
    texts = " ".join(f"Sentence {number}." for number in range(2 * MAX_SENTENCES))
    writer = ExtractiveWriter(embedder)
    async for _ in writer.write(
        await write_request(embedder, "sentence"), [passage(texts, title="T")]
    ):
        pass
    assert len(embedder.embedded) == MAX_SENTENCES
    assert embedder.embedded[0] == "T: Sentence 0."


async def test_a_sentence_is_quoted_once() -> None:
    first = passage("The otter swims in the river. The heron waits.", "a")
    again = passage("The heron sleeps. The otter  swims in\nthe river!", "b")
    draft = await write("Where does the otter swim in the river?", first, again)
    assert [(one.document, one.quote) for one in draft.citations] == [
        ("a", "The otter swims in the river.")
    ]


async def test_a_passage_without_words_can_be_quoted() -> None:
    draft = await write("?!", passage("?!", "a"), passage("?!", "b"))
    assert [one.quote for one in draft.citations] == ["?!"]


def test_a_language_model_that_is_named_must_be_configured() -> None:
    writer = ExtractiveWriter(FakeEmbedder())
    assert writer.author("") == "extractive"
    with pytest.raises(FailedPrecondition) as caught:
        writer.author("gpt")
    assert (caught.value.reason, caught.value.field) == ("NO_LANGUAGE_MODEL", "model")
