from typing import Any

import numpy as np

from services.errors import Unavailable
from services.gateway.backends.types import Vectors
from services.gateway.rag.grounding.support import MAX_SENTENCES, EmbedderSupport


class FakeEmbedder:
    """Embeds texts as given angles."""

    def __init__(self, **angles: float) -> None:
        self.angles, self.sizes = angles, [0]

    async def embed_documents(self, texts: list[str]) -> Vectors:
        self.sizes.append(len(texts))
        if not self.angles:
            raise Unavailable("DOWN", "It is down.")
        angles = np.array([self.angles[text[0]] for text in texts])
        return Vectors(np.stack([np.cos(angles), np.sin(angles)], 1), "m", "d")


async def supports(cited: list[str], others: list[str], **angles: float) -> bool:
    embedder: Any = FakeEmbedder(**angles)
    supported = await EmbedderSupport(embedder).supports("s", cited, others)
    assert embedder.sizes[-1] <= 1 + 2 * MAX_SENTENCES
    return supported


async def test_a_near_sentence_supports_a_statement() -> None:
    assert await supports(["a", "b"], [], s=0, a=0.5, b=2)
    assert not await supports(["b"], [], s=0, b=2)
    assert not await supports([], [], s=0)


async def test_a_nearer_sentence_of_another_passage_does_not() -> None:
    assert await supports(["a"], ["b"], s=0, a=0.3, b=0.5)
    assert not await supports(["b"], ["a"], s=0, a=0.3, b=0.5)


async def test_few_sentences_are_embedded() -> None:
    assert await supports(["a"] * 99, ["b"] * 99, s=0, a=0.3, b=0.5)


async def test_without_the_embedder_the_words_decide() -> None:
    assert not await supports(["a"], [])
