"""How the gateway's records are kept in Redis: as JSON, in pages, its errors as ours."""

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from redis import exceptions
from redis.asyncio import Redis

from services import redis_client
from services.errors import Failure, InvalidArgument, Overloaded, Unavailable

Record = dict[str, Any]
PAGE_LIMIT = 1000


def connect(url: str) -> Redis:
    """Open a client. Raises InvalidArgument for what is no address."""
    redis: Redis = redis_client.connect(url, connections=64, timeout=5)
    return redis


@contextlib.asynccontextmanager
async def redis_errors() -> AsyncIterator[None]:
    """Turn what Redis says into failures of ours."""
    try:
        yield
    except exceptions.OutOfMemoryError as error:
        raise Overloaded(
            "REDIS_OUT_OF_MEMORY", "Redis has no memory left; nothing was stored.", retry_after=5.0
        ) from error
    except (
        exceptions.ConnectionError,
        exceptions.TimeoutError,
        exceptions.BusyLoadingError,
    ) as error:
        raise Unavailable("REDIS_UNAVAILABLE", "Redis does not answer.", retry_after=1.0) from error
    except exceptions.RedisError as error:
        raise Failure("REDIS_REFUSED", "Redis refused a command; the log says why.") from error


async def is_ready(redis: Redis) -> bool:
    """Say whether Redis answers. Raises Unavailable if it does not."""
    async with redis_errors():
        return bool(await redis.ping())


async def page(redis: Redis, key: str, size: int, token: str) -> tuple[list[str], str]:
    """Return a page of a sorted set's members in their order, and the next page's token.

    Raises:
        InvalidArgument: the size is negative.
    """
    if size < 0:
        raise InvalidArgument("BAD_PAGE_SIZE", "page_size is negative.", field="page_size")
    size = min(size or 100, PAGE_LIMIT)
    start = f"({token}" if token else "-"
    async with redis_errors():
        found = await redis.zrangebylex(key, start, "+", start=0, num=size + 1)
    names = [as_bytes(name).decode() for name in found]
    return names[:size], names[size - 1] if len(names) > size else ""


def dump(record: Record) -> bytes:
    """Return a record as it is kept."""
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()


def load(value: bytes | str | None) -> Record | None:
    """Read a record; None stays None."""
    return json.loads(value) if value else None


def as_bytes(value: object) -> bytes:
    """Return what Redis replied, which is bytes or nothing: the client decodes no replies."""
    return value if isinstance(value, bytes) else b""
