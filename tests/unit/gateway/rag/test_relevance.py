import numpy as np
import pytest

from services.gateway.rag.relevance import FEATURES, Candidate, embed, features
from tests.fakes.backends import FakeEmbedder
from tests.fakes.passages import hit

TEXT = "Otters eat 7 fish a day. They swim in the river."


async def row(question: str, *texts: str) -> list[float]:
    embedder = FakeEmbedder()
    vector = (await embedder.embed_queries([question])).rows[0]
    hits = [hit(text, similarity=0.6 - 0.1 * place) for place, text in enumerate(texts)]
    candidate = Candidate(question, vector, hits)
    [rows] = await embed([candidate], embedder)
    found = features(candidate, rows)
    assert found.shape == (FEATURES,)
    return [float(one) for one in found]


async def test_words_and_numbers_of_the_question_are_looked_for() -> None:
    right = await row("Do otters eat 7 fish?", TEXT, "Herons wait.")
    wrong = await row("Do herons drink 9 beers?", TEXT)
    assert right[2] == right[5] == pytest.approx(1)
    assert (right[3], wrong[2], wrong[3]) == (0, 0, 1)
    assert right[6] > wrong[6]


async def test_the_gap_is_to_the_other_hits() -> None:
    assert (await row("Otters?", TEXT, TEXT))[:2] == pytest.approx([0.6, 0.1])
    assert (await row("Otters?", TEXT))[:2] == pytest.approx([0.6, 0.6])
    assert (await row("Otters?"))[:2] == [0, 0]


async def test_only_some_sentences_are_read() -> None:
    many = "Otters eat fish. " * 500
    candidate = Candidate("Otters?", np.ones(2, np.float32), [hit(many)] * 20)
    assert len(candidate.texts) == 48


async def test_each_sentence_is_embedded_once() -> None:
    embedder = FakeEmbedder()
    one = Candidate("Otters?", np.ones(2, np.float32), [hit(TEXT), hit(TEXT)])
    rows = await embed([one, one], embedder)
    assert [len(part) for part in rows] == [4, 4]
    assert np.array_equal(rows[0][0], rows[1][2])
