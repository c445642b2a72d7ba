"""Decompresses request bodies that are sent with gzip or deflate (RFC 9110, section 8.4.1)."""

import asyncio
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator

from services.errors import InvalidArgument

# A compressed body may expand a thousandfold, so each step yields at most this many bytes.
PIECE_BYTES = 2**16
GZIP = "gzip"
_GZIP_NAMES = frozenset({"gzip", "x-gzip"})
# The numbers select the format: gzip, zlib, or a bare deflate stream
# (https://docs.python.org/3/library/zlib.html#zlib.decompressobj).
_GZIP_BITS, _ZLIB_BITS, _BARE_BITS = 31, 15, -15
_ZLIB_METHOD, _ZLIB_CHECK = 8, 31


def encoding(header: str) -> str:
    """Return the encoding that a ``Content-Encoding`` header names, or an empty text for none.

    Raises:
        InvalidArgument: there is more than one encoding, or it is not supported.
    """
    name = header.strip().lower()
    if name in ("", "identity"):
        return ""
    if name in _GZIP_NAMES:
        return GZIP
    if name == "deflate":
        return name
    raise InvalidArgument(
        "UNSUPPORTED_CONTENT_ENCODING",
        f"The gateway does not read the Content-Encoding {name[:100]!r}. Send the body as it is,"
        " or compress it once with gzip or deflate.",
        field="Content-Encoding",
    )


async def decompressed(parts: AsyncIterator[bytes], name: str) -> AsyncGenerator[bytes, None]:
    """Yield a body in pieces of at most ``PIECE_BYTES``, and let other tasks run between them.

    Args:
        parts: the compressed body.
        name: ``gzip`` or ``deflate``.

    Raises:
        InvalidArgument: the body is not compressed in this way, or ends early.
    """
    decoder = _Decoder(name)
    try:
        async for part in parts:
            for piece in decoder.feed(part):
                yield piece
                await asyncio.sleep(0)
        for piece in decoder.finish():
            yield piece
    except zlib.error as error:
        raise InvalidArgument(
            "BAD_CONTENT_ENCODING",
            f"The body is not valid {name}. Compress all of it, or send it without"
            " Content-Encoding.",
            field="Content-Encoding",
        ) from error


class _Decoder:
    """Decompresses a body. A gzip body may have several members (RFC 1952, section 2.2)."""

    def __init__(self, name: str) -> None:
        self._is_gzip = name == GZIP
        self._start = b""
        # Without _start, the format of a deflate body is not known: clients send both.
        self._inner = zlib.decompressobj(_GZIP_BITS) if self._is_gzip else None

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what the next bytes of the body contain."""
        if self._inner is None:
            self._start += data
            if len(self._start) < 2:  # noqa: PLR2004 - the header of zlib (RFC 1950, section 2.2)
                return
            data, self._inner = self._start, zlib.decompressobj(_deflate_bits(self._start))
        while data:
            if self._inner.eof:
                if not self._is_gzip:
                    raise zlib.error("The stream has ended before the body.")
                self._inner = zlib.decompressobj(_GZIP_BITS)
            if piece := self._inner.decompress(data, PIECE_BYTES):
                yield piece
            data = self._inner.unconsumed_tail or self._inner.unused_data

    def finish(self) -> Iterator[bytes]:
        """Yield the rest. Raises zlib.error if the body ends early."""
        if self._inner is None:
            raise zlib.error("The body has no header.")
        while not self._inner.eof and (piece := self._inner.decompress(b"", PIECE_BYTES)):
            yield piece
        if not self._inner.eof:
            raise zlib.error("The body ends early.")


def _deflate_bits(start: bytes) -> int:
    has_header = start[0] & 15 == _ZLIB_METHOD and int.from_bytes(start[:2]) % _ZLIB_CHECK == 0
    return _ZLIB_BITS if has_header else _BARE_BITS
