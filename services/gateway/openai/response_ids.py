"""Binds the ids of stored responses to the tenant and the user that created them.

The language model server stores the responses of all callers in one account.
"""

import hmac
from collections.abc import Awaitable, Callable

from services.errors import NotFound, PermissionDenied
from services.gateway.cache.types import Scope
from services.gateway.digests import canonical
from services.gateway.llm.types import Json

_TAG_DIGITS = 16
_FIELDS = ("id", "previous_response_id")


class BoundIds:
    """The ids of the responses of a tenant's user.

    Args:
        key: keys the hashes; None leaves the ids as they are.
    """

    def __init__(self, key: bytes | None) -> None:
        self._key = key

    def write(self, name: str) -> str:
        """Return the id that the caller sees."""
        return name if self._key is None else f"{name}_{self._tag(name)}"

    def read(self, bound: str) -> str:
        """Return the server's id.

        Raises:
            NotFound: another tenant or user has created the response.
        """
        if self._key is None:
            return bound
        name, _, tag = bound.rpartition("_")
        if not hmac.compare_digest(tag.encode(), self._tag(name).encode()):
            raise NotFound(
                "RESPONSE_NOT_FOUND",
                "There is no response with this id. Send the whole conversation as input.",
                field="previous_response_id",
            )
        return name

    def write_reply(self, reply: Json) -> Json:
        """Return a response, or an event that contains one, with the ids that the caller sees."""
        inner = reply.get("response")
        if isinstance(inner, dict):
            return {**reply, "response": self._renamed(inner)}
        is_response = str(reply.get("object")).startswith("response")
        return self._renamed(reply) if is_response else reply

    def read_request(self, body: Json) -> Json:
        """Return a request with the server's ids.

        Raises:
            NotFound: the request continues a response of another tenant or user.
            PermissionDenied: it uses other state of the server, which may be another tenant's.
        """
        if self._key is None:
            return body
        items = body.get("input")
        kinds = [
            item.get("type")
            for item in (items if isinstance(items, list) else [])
            if isinstance(item, dict)
        ]
        if body.get("conversation") or "item_reference" in kinds:
            raise PermissionDenied(
                "SHARED_STATE",
                "All tenants share the conversations and items of the language model server. Send"
                " the whole conversation as input, or continue with previous_response_id.",
                field="conversation" if body.get("conversation") else "input",
            )
        previous = body.get("previous_response_id")
        return {**body, "previous_response_id": self.read(str(previous))} if previous else body

    def _renamed(self, response: Json) -> Json:
        names = [name for name in _FIELDS if isinstance(response.get(name), str)]
        return {**response, **{name: self.write(response[name]) for name in names}}

    def _tag(self, name: str) -> str:
        assert self._key is not None  # noqa: S101 - the callers have checked
        message = name.encode(errors="replace")
        return hmac.new(self._key, message, "sha256").hexdigest()[:_TAG_DIGITS]


class ResponseIds:
    """Gives each tenant's user its ids.

    Args:
        read_secret: returns the key of the hashes, or raises Unavailable.
    """

    def __init__(self, read_secret: Callable[[], Awaitable[bytes]]) -> None:
        self._read_secret = read_secret

    async def of(self, scope: Scope) -> BoundIds:
        """Return the ids of a scope's tenant and user. Without both, they are the server's."""
        if not (scope.tenant or scope.user):
            return BoundIds(None)
        message = canonical(["response", scope.tenant, scope.user])
        return BoundIds(hmac.digest(await self._read_secret(), message, "sha256"))
