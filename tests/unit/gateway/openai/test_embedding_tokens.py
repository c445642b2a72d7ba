import asyncio

import pytest
import tiktoken

from services.errors import InvalidArgument, Unavailable
from services.gateway.openai.embedding_tokens import TokenDecoder
from services.settings import SettingError
from tests.fakes.backends import FakeEmbedder
from tests.fakes.encodings import small_encoding

EMBEDDER = FakeEmbedder()
ENCODING = small_encoding("small")


async def test_tokens_are_decoded() -> None:
    decoder = TokenDecoder(EMBEDDER, "small", small_encoding)
    texts = ["a bird", "Grüße 🙂", " "]
    assert await decoder.decode(ENCODING.encode_batch(texts), "") == texts


async def test_a_part_of_a_character_is_replaced() -> None:
    [smile] = ENCODING.encode_batch(["🙂"])
    assert await TokenDecoder(EMBEDDER, "small", small_encoding).decode([smile[:2]], "") == [
        "\ufffd"
    ]


async def test_without_an_encoding_no_tokens_are_decoded() -> None:
    with pytest.raises(InvalidArgument) as caught:
        await TokenDecoder(EMBEDDER, "").decode([[1]], "")
    assert (caught.value.reason, caught.value.field) == ("TOKENS_NOT_ACCEPTED", "input")


@pytest.mark.parametrize("token", [299, 10_000, 2**40])
async def test_unknown_tokens_are_refused(token: int) -> None:
    with pytest.raises(InvalidArgument, match="Input 1") as caught:
        await TokenDecoder(EMBEDDER, "small", small_encoding).decode([[1], [1, token]], "")
    assert (caught.value.reason, caught.value.field) == ("UNKNOWN_TOKEN", "input")


async def test_an_encoding_is_loaded_once_and_again_after_a_failure() -> None:
    names, failures = [], [OSError("no network")]

    def load(name: str) -> tiktoken.Encoding:
        names.append(name)
        if failures:
            raise failures.pop()
        return small_encoding(name)

    decoder = TokenDecoder(EMBEDDER, "small", load)
    with pytest.raises(Unavailable) as caught:
        await decoder.decode([[1]], "")
    assert caught.value.reason == "ENCODING_UNAVAILABLE"
    assert "TIKTOKEN_CACHE_DIR" in caught.value.message
    await asyncio.gather(*(decoder.decode([[1]], "") for _ in range(5)))
    assert names == ["small", "small"]


def test_the_setting_names_an_encoding_of_tiktoken() -> None:
    for name in ("", "cl100k_base", "model"):
        TokenDecoder.of_setting(EMBEDDER, name)
    with pytest.raises(SettingError, match="cl100k_base"):
        TokenDecoder.of_setting(EMBEDDER, "cl100k")
