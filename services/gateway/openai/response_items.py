"""Remembers the items of responses for a day, so that callers can refer to them by their ids.

The Vercel AI SDK sends earlier answers of the assistant as references. Keys in Redis, under the
prefix of the settings:

- ``gateway:response_items:<tenant>:<partition>:<id>``    an item, as JSON
"""

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

from redis.asyncio import Redis

from services.errors import Failure, NotFound, Unavailable
from services.gateway.cache.scopes import Scopes
from services.gateway.cache.types import Scope
from services.gateway.circuit_breaker import CircuitBreaker
from services.gateway.llm.types import Json
from services.gateway.openai.response_objects import is_our_id
from services.gateway.redis_store import dump, load, redis_errors

log = logging.getLogger(__name__)
KEPT_SECONDS = 86_400
MAX_ITEM_BYTES = 2**20
STORE_TIMEOUT = 1.0
_BATCH_SIZE = 100


class ResponseItems:
    """Stores items, and puts them in the place of references.

    Args:
        redis: the client.
        prefix: what every key begins with.
        scopes: names the partitions.
        breaker: the circuit breaker of Redis.
    """

    def __init__(self, redis: Redis, prefix: str, scopes: Scopes, breaker: CircuitBreaker) -> None:
        self._redis: Any = redis
        self._prefix = f"{prefix}gateway:response_items:"
        self._scopes, self._breaker = scopes, breaker

    async def put(self, scope: Scope, items: Sequence[Json]) -> None:
        """Store items that were sent to a caller. A failure is logged."""
        records = {item["id"]: dump(item) for item in items}
        small = {name: text for name, text in records.items() if len(text) <= MAX_ITEM_BYTES}
        if not small or not self._breaker.allows():
            return
        try:
            async with asyncio.timeout(STORE_TIMEOUT):
                prefix = await self._prefix_of(scope)
                async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
                    for name, text in small.items():
                        pipe.set(prefix + name, text, ex=KEPT_SECONDS)
                    await pipe.execute()
        except (Failure, TimeoutError) as error:
            if isinstance(error, Unavailable | TimeoutError):
                self._breaker.record_failure()
            log.warning("callers cannot refer to the items of a response", exc_info=True)
        else:
            self._breaker.record_success()

    async def resolve(self, scope: Scope, body: Json) -> Json:
        """Return a request with the items to which its input refers.

        References to items of the language model server stay.

        Raises:
            NotFound: the scope has no such item.
            Unavailable: Redis is unreachable.
        """
        given = body.get("input")
        if not isinstance(given, list):
            return body
        names = [item["id"] for item in given if _is_our_reference(item)]
        found = await self._get(scope, names) if names else {}
        resolved = [found[item["id"]] if _is_our_reference(item) else item for item in given]
        return {**body, "input": resolved} if names else body

    async def _get(self, scope: Scope, names: Sequence[str]) -> dict[str, Json]:
        prefix, wanted = await self._prefix_of(scope), [*dict.fromkeys(names)]
        texts: list[bytes | None] = []
        for start in range(0, len(wanted), _BATCH_SIZE):
            async with redis_errors(), self._redis.pipeline(transaction=False) as pipe:
                for name in wanted[start : start + _BATCH_SIZE]:
                    pipe.get(prefix + name)
                texts += await pipe.execute()
        found = {
            name: item
            for name, text in zip(wanted, texts, strict=True)
            if (item := load(text)) is not None
        }
        if len(found) < len(wanted):
            raise NotFound(
                "ITEM_NOT_FOUND",
                "The input refers to an item that is not stored, or no longer. Send the item"
                " itself; in the Vercel AI SDK, set the option store to false.",
                field="input",
            )
        return found

    async def _prefix_of(self, scope: Scope) -> str:
        owner = await self._scopes.owner(scope)
        return f"{self._prefix}{owner.tenant}:{owner.partition}:"


def _is_our_reference(item: Any) -> bool:
    return (
        isinstance(item, dict)
        and item.get("type") == "item_reference"
        and isinstance(item.get("id"), str)
        and is_our_id(item["id"])
    )
