"""Page tokens: the place at which a list continues, with a keyed hash that binds it to its list."""

import base64
import binascii
import hmac
from collections.abc import Awaitable, Callable, Sequence

from services.errors import InvalidArgument
from services.gateway.digests import canonical

_HASH_BYTES = 16


class PageTokens:
    """Writes and reads page tokens.

    Every method raises Unavailable if the secret cannot be read.

    Args:
        read_secret: returns the key of the hashes.
    """

    def __init__(self, read_secret: Callable[[], Awaitable[bytes]]) -> None:
        self._read_secret = read_secret

    async def write(self, listed: Sequence[str], key: str) -> str:
        """Return the token of the page after ``key``; empty if ``key`` is empty.

        ``listed`` names the list, with the tenant or the scope that owns it.
        """
        if not key:
            return ""
        value = await self._hash(listed, key.encode()) + key.encode()
        return base64.urlsafe_b64encode(value).decode().rstrip("=")

    async def read(self, listed: Sequence[str], token: str) -> str:
        """Return the key after which a page begins; empty for the first page.

        Raises:
            InvalidArgument: another list has issued the token, or the token was altered.
        """
        if not token:
            return ""
        try:
            value = base64.b64decode(token + "=" * (-len(token) % 4), b"-_", validate=True)
            key = value[_HASH_BYTES:].decode()
        except (binascii.Error, ValueError):
            value, key = b"", ""
        expected = await self._hash(listed, key.encode())
        if not hmac.compare_digest(value[:_HASH_BYTES], expected):
            raise InvalidArgument(
                "INVALID_PAGE_TOKEN",
                "page_token does not belong to this list. Send the next_page_token of the previous"
                " page unchanged, or no token to begin again.",
                field="page_token",
            )
        return key

    async def _hash(self, listed: Sequence[str], key: bytes) -> bytes:
        message = canonical(["page", *listed]) + key
        return hmac.digest(await self._read_secret(), message, "sha256")[:_HASH_BYTES]
