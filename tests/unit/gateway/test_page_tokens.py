import base64

import pytest

from services.errors import InvalidArgument
from services.gateway.page_tokens import PageTokens


async def secret() -> bytes:
    return b"s" * 32


async def other_secret() -> bytes:
    return b"o" * 32


TOKENS = PageTokens(secret)
LIST = ("documents", "tag", "memes")


@pytest.mark.parametrize("key", ["a", "naïve/ümlaut", "x" * 256, "a\nb"])
async def test_a_token_brings_back_its_key(key: str) -> None:
    token = await TOKENS.write(LIST, key)
    assert token.isascii()
    assert "=" not in token
    assert await TOKENS.read(LIST, token) == key


async def test_the_first_and_the_last_page_have_no_token() -> None:
    assert await TOKENS.write(LIST, "") == ""
    assert await TOKENS.read(LIST, "") == ""


async def test_only_the_list_that_issued_a_token_accepts_it() -> None:
    token = await TOKENS.write(LIST, "a")
    for tokens, listed in [
        (TOKENS, ("documents", "tag", "other")),
        (TOKENS, ("documents", "other", "memes")),
        (TOKENS, ("documents", "tagmemes")),
        (PageTokens(other_secret), LIST),
    ]:
        with pytest.raises(InvalidArgument) as caught:
            await tokens.read(listed, token)
        assert caught.value.reason == "INVALID_PAGE_TOKEN"


@pytest.mark.parametrize(
    "altered",
    ["a", "memes", "é", "?", "AAAA", base64.urlsafe_b64encode(b"\xff" * 30).decode(), "A" * 4000],
)
async def test_what_no_list_has_issued_is_refused(altered: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await TOKENS.read(LIST, altered)
    assert caught.value.reason == "INVALID_PAGE_TOKEN"


async def test_every_altered_byte_is_noticed() -> None:
    token = await TOKENS.write(LIST, "key")
    for place, character in enumerate(token[:-1]):
        altered = token[:place] + ("A" if character != "A" else "B") + token[place + 1 :]
        with pytest.raises(InvalidArgument):
            await TOKENS.read(LIST, altered)
