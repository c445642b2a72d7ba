import pytest

from services.errors import FailedPrecondition
from services.gateway.rag.extractive import MAX_QUOTES, MAX_UNITS, ExtractiveWriter
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
    second = passage("The badger swims in the lake. Rates rose.", "b")
    draft = await write("Where do the otter and the badger swim?", first, second)
    assert draft.text.startswith(ExtractiveWriter.OPENING)
    assert [one.quote for one in draft.citations] == [
        "The otter swims in the river.",
        "The badger swims in the lake.",
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
    sentences = [f"The otter swims in river {name}." for name in "abcdefghi"]
    draft = await write("otter swims in river", passage(" ".join(sentences)))
    assert len(draft.citations) == MAX_QUOTES
    starts = [one.source_start for one in draft.citations]
    assert starts == sorted(starts)


async def test_what_adds_nothing_is_not_quoted() -> None:
    text = "The harbour master is Ines Calder. A ticket costs eight euros. The harbour sells fuel."
    draft = await write("Who is the harbour master?", passage(text))
    assert [one.quote for one in draft.citations] == ["The harbour master is Ines Calder."]


async def test_a_sentence_with_the_other_words_of_the_question_is_quoted_too() -> None:
    text = "The otter swims in the river. The badger swims in the lake. Rates rose."
    draft = await write("Where do the otter and the badger swim?", passage(text))
    assert len(draft.citations) == 2


async def test_headings_are_not_quoted_and_signs_are_left_out() -> None:
    source = passage(
        "# Otter river\n\nThe **otter** swims in the [river](https://x).", title="Otter"
    )
    draft = await write("Where does the otter swim?", source)
    assert draft.text == f"{ExtractiveWriter.OPENING} “The otter swims in the river.”"
    [citation] = draft.citations
    assert citation.quote == "The **otter** swims in the [river](https://x)."
    assert draft.text[citation.start : citation.end] == "The otter swims in the river."


async def test_rows_are_quoted_after_the_header_of_their_table() -> None:
    table = "| plan | price |\n|---|---|\n| Basic | 10 EUR |\n| Pro | 30 EUR |"
    draft = await write("What is the price of Pro?", passage(table))
    assert draft.text == f"{ExtractiveWriter.OPENING}\n“plan | price\nPro | 30 EUR”"
    [citation] = draft.citations
    assert draft.text[citation.start : citation.end] == "Pro | 30 EUR"
    draft = await write("What is the price of Pro and Basic?", passage(table))
    assert draft.text.count("plan | price") == 1
    assert draft.text.endswith("Basic | 10 EUR”\n“Pro | 30 EUR”")


async def test_code_is_quoted_with_its_lines() -> None:
    draft = await write(
        "How do I start the otter?", passage("Start the otter:\n\n```sh\ncd otter\nmake start\n```")
    )
    assert draft.text.endswith("\n“cd otter\nmake start”")


async def test_what_is_far_from_the_best_sentence_is_not_quoted() -> None:
    draft = await write("otter river", passage("Otter river. Interest rates rose again today."))
    assert [one.quote for one in draft.citations] == ["Otter river."]


async def test_only_the_first_sentences_are_embedded() -> None:
    embedder = FakeEmbedder()
    texts = " ".join(f"Otter number {number}." for number in range(2 * MAX_UNITS))
    writer = ExtractiveWriter(embedder)
    async for _ in writer.write(
        await write_request(embedder, "sentence"), [passage(texts, title="T")]
    ):
        pass
    assert len(embedder.embedded) == MAX_UNITS
    assert embedder.embedded[0] == "T: Otter number 0."


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
    assert writer.author("") == "extractive-2"
    with pytest.raises(FailedPrecondition) as caught:
        writer.author("gpt")
    assert (caught.value.reason, caught.value.field) == ("NO_LANGUAGE_MODEL", "model")
