import json
from dataclasses import replace

import pytest

from services.gateway.rag.word_match import nearest_with_all_words, sufficient_share
from tests.fakes.backends import FakeEmbedder
from tests.fakes.passages import hit

AUCTION = "The harbour sells fuel. The fish auction opens at five. A ticket costs eight euros."


async def nearest(question: str, *texts: str) -> float:
    embedder = FakeEmbedder()
    vector = (await embedder.embed_queries([question])).rows[0]
    return await nearest_with_all_words(question, vector, [hit(one) for one in texts], embedder)


async def test_a_sentence_with_all_words_counts_by_its_own_cosine() -> None:
    question = "When does the fish auction open?"
    [row] = (await FakeEmbedder().embed_documents(["The fish auction opens at five."])).rows
    [asked] = (await FakeEmbedder().embed_queries([question])).rows
    assert await nearest(question, AUCTION) == pytest.approx(float(row @ asked))


async def test_a_missing_word_or_two_sentences_do_not_count() -> None:
    assert await nearest("When does the fish market open?", AUCTION) == 0
    assert await nearest("Does the auction sell fuel?", AUCTION) == 0


async def test_questions_without_words_and_hits_without_place_do_not_count() -> None:
    assert await nearest("What is it?", AUCTION) == 0
    embedder = FakeEmbedder()
    vector = (await embedder.embed_queries(["fish"])).rows[0]
    bare = replace(hit("fish"), payload=b"")
    assert await nearest_with_all_words("fish", vector, [bare], embedder) == 0


def test_several_words_need_a_lower_cosine_than_one() -> None:
    assert sufficient_share("When does the fish auction open?") == 0.75
    assert sufficient_share("Who is the captain?") == 1


async def test_a_text_that_repeats_the_question_does_not_answer_it() -> None:
    question = "When does the fish auction open?"
    assert await nearest(question, f'ask --question "{question}"') == 0
    assert await nearest(question, f"Somebody asked: {question} Nobody knew.") == 0


async def test_a_heading_lends_its_words_to_what_follows() -> None:
    assert await nearest("When is the fish auction?", "Fish auction\n\nEvery day at five.") > 0


async def test_the_title_of_a_document_lends_no_words() -> None:
    embedder = FakeEmbedder()
    one = hit("A card costs money.")
    place = json.loads(one.payload) | {"title": "City library"}
    one = replace(one, payload=json.dumps(place).encode())
    question = "How tall is the library?"
    vector = (await embedder.embed_queries([question])).rows[0]
    assert await nearest_with_all_words(question, vector, [one], embedder) == 0
