import gzip
import zlib
from collections.abc import AsyncIterator, Callable

import pytest

from services.errors import InvalidArgument
from services.gateway.http.content_encoding import PIECE_BYTES, decompressed, encoding

TEXT = b"The otter swims. " * 10_000


def bare(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


async def read(packed: bytes, name: str, size: int = 1000) -> bytes:
    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(packed), size):
            yield packed[start : start + size]

    pieces = [piece async for piece in decompressed(parts(), name)]
    assert all(len(piece) <= PIECE_BYTES for piece in pieces)
    return b"".join(pieces)


@pytest.mark.parametrize("size", [1, 7, 10**6])
@pytest.mark.parametrize(
    ("name", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", bare)]
)
async def test_a_body_is_read_however_it_is_split(
    name: str, pack: Callable[[bytes], bytes], size: int
) -> None:
    for text in (b"", b"x", TEXT):
        assert await read(pack(text), name, size) == text


async def test_a_gzip_body_may_have_several_members() -> None:
    assert await read(gzip.compress(b"One, ") + gzip.compress(b"two."), "gzip") == b"One, two."


@pytest.mark.parametrize("name", ["gzip", "deflate"])
@pytest.mark.parametrize(
    "packed",
    [
        b"",
        b"{",
        b"plain text",
        gzip.compress(TEXT)[:-1],
        gzip.compress(TEXT)[:100],
        gzip.compress(TEXT) + b"rest",
        zlib.compress(TEXT) + b"rest",
        bare(TEXT)[:-1],
    ],
)
async def test_anything_else_is_refused(name: str, packed: bytes) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await read(packed, name)
    assert caught.value.reason == "BAD_CONTENT_ENCODING"


def test_the_encoding_is_named_by_the_header() -> None:
    names = ["", "identity", "gzip", " X-GZIP ", "Deflate"]
    assert [encoding(name) for name in names] == ["", "", "gzip", "gzip", "deflate"]
    for name in ("br", "zstd", "gzip, gzip", "²"):
        with pytest.raises(InvalidArgument) as caught:
            encoding(name)
        assert caught.value.reason == "UNSUPPORTED_CONTENT_ENCODING"
