from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.gateway.rag.reranking import depth, rerank
from services.gateway.rag.stepwise import stepwise
from tests.fakes.backends import FakeEmbedder
from tests.fakes.passages import passage


class Reader(FakeEmbedder):
    """A cross-encoder that scores a text by its number of x."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    async def rerank(self, query: str, texts: Sequence[str]) -> NDArray[np.float64]:
        self.texts = list(texts)
        return np.array([float(text.count("x")) for text in texts])


async def test_passages_come_in_the_order_of_the_cross_encoder() -> None:
    reader = Reader()
    texts = ["x", "xxx", "", "xx", "xxx y"]
    reranked = await rerank(reader, "?", stepwise([passage(text) for text in texts], 1), 5)
    assert [one.text for one in reranked] == ["xxx", "xxx y", "xx", "x", ""]
    assert [one.score for one in reranked] == [3, 3, 2, 1, 0]


async def test_a_passage_is_read_with_its_title() -> None:
    reader = Reader()
    await rerank(reader, "?", stepwise([passage("a", title="T"), passage("b")], 1), 5)
    assert reader.texts == ["T\na", "b"]


async def test_many_are_read_to_select_few() -> None:
    reader = Reader()
    passages = [passage(str(number)) for number in range(200)]
    assert (
        len(await rerank(reader, "?", stepwise(passages, 1), 3))
        == len(reader.texts)
        == depth(3)
        == 50
    )
    assert len(await rerank(reader, "?", stepwise(passages, 1), 90)) == depth(90) == 90


async def test_nothing_is_read_if_nothing_was_found() -> None:
    reader = Reader()
    reader.texts = ["untouched"]
    assert await rerank(reader, "?", stepwise([], 1), 5) == []
    assert reader.texts == ["untouched"]
