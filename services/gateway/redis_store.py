"""The common parts of the gateway's stores: JSON records, pages and Redis errors as failures."""

import asyncio
import contextlib
import dataclasses
import itertools
import json
import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Any, TypeVar

import orjson
from redis import exceptions
from redis.asyncio import Redis, RedisCluster

from services import redis_client
from services.errors import Failure, InvalidArgument, Overloaded, Unavailable
from services.settings import TlsFiles

Record = dict[str, Any]
DEFAULT_PAGE_SIZE = 100
MAX_PAGE_SIZE = 1000
# A page fits into a message of 4 MiB, the default limit of a gRPC client.
MAX_PAGE_BYTES = 3 * 2**20
# Reading this much JSON takes about a millisecond.
_STEP_BYTES = 2**17
# A thread parses and writes larger JSON.
_CONVERTED_AT_ONCE = 2**18
CACHE_TAG = "{cache}"
_HASH_TAG = re.compile(r"\{[^}]+\}")
T = TypeVar("T")
R = TypeVar("R")


def connect(url: str, files: TlsFiles | None = None) -> Redis:
    """Return a client; it connects when it is first used. Raises InvalidArgument for a bad URL."""
    redis: Redis = redis_client.connect(url, max_connections=64, timeout=5, files=files)
    return redis


def one_slot(redis: Any, prefix: str) -> str:
    """Return the prefix of keys that scripts change together, whatever the keys are.

    On a cluster it has a hash tag, so that one node has all these keys.
    """
    is_split = isinstance(redis, RedisCluster) and not _HASH_TAG.search(prefix)
    return f"{prefix}{CACHE_TAG}:" if is_split else prefix


@contextlib.asynccontextmanager
async def redis_errors() -> AsyncIterator[None]:
    """Raise the errors of Redis as failures.

    Raises:
        Overloaded: Redis is out of memory.
        Unavailable: Redis is unreachable, too slow or still loading its data.
        Failure: Redis refuses a command for another reason.
    """
    try:
        yield
    except exceptions.OutOfMemoryError as error:
        raise Overloaded(
            "REDIS_OUT_OF_MEMORY",
            "Redis is out of memory, so nothing was stored; try again later.",
            retry_after=5.0,
        ) from error
    except (
        exceptions.ConnectionError,
        exceptions.TimeoutError,
        exceptions.BusyLoadingError,
    ) as error:
        raise Unavailable(
            "REDIS_UNAVAILABLE", "Redis does not answer; try again.", retry_after=1.0
        ) from error
    except exceptions.RedisError as error:
        raise Failure(
            "REDIS_REFUSED", "Redis refused a command; see the gateway's log for its error."
        ) from error


async def is_ready(redis: Redis) -> bool:
    """Return whether Redis answers. Raises Unavailable if it is unreachable."""
    async with redis_errors():
        return bool(await redis.ping())


def page_size(requested: int) -> int:
    """Return the number of items of a page. Raises InvalidArgument if it is negative."""
    if requested < 0:
        raise InvalidArgument("BAD_PAGE_SIZE", "page_size must not be negative.", field="page_size")
    return min(requested or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)


async def page(
    redis: Redis, key: str, size: int, token: str, value_key: Callable[[str], str] | None = None
) -> tuple[list[str], str]:
    """Return one page of a sorted set's members in lexicographical order, and the next token.

    Args:
        redis: the client.
        key: a sorted set whose members all have the same score.
        size: how many members; 0 for ``DEFAULT_PAGE_SIZE``, at most ``MAX_PAGE_SIZE``.
        token: the token of this page; empty for the first one.
        value_key: returns the key of a member's value. The values of a page take at most
            ``MAX_PAGE_BYTES``, unless a single value takes more.

    Raises:
        InvalidArgument: the size is negative.
    """
    size = page_size(size)
    start = f"({token}" if token else "-"
    async with redis_errors():
        found = await redis.zrangebylex(key, start, "+", start=0, num=size + 1)
    names = [as_bytes(name).decode() for name in found]
    if value_key and names:
        size = min(size, await _count_within(redis, [value_key(name) for name in names]))
    return names[:size], names[size - 1] if len(names) > size else ""


async def _count_within(redis: Redis, keys: Sequence[str]) -> int:
    """Return how many of the first values take at most ``MAX_PAGE_BYTES``; at least 1."""
    async with redis_errors(), redis.pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.strlen(key)
        sizes = await pipe.execute()
    totals: Iterable[int] = itertools.accumulate(sizes)
    return max(1, sum(total <= MAX_PAGE_BYTES for total in totals))


def dump(record: Record | Sequence[str]) -> bytes:
    """Return a record or a list as JSON. For a long text, orjson takes an eighth of json's time."""
    try:
        return orjson.dumps(record)
    except TypeError:  # an integer of more than 64 bits
        return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode()


def load(value: bytes | str | None) -> Record | None:
    """Return the record of a JSON value; None for a missing or an empty value."""
    return json.loads(value) if value else None


async def load_all(values: Iterable[bytes | str | None]) -> list[Record | None]:
    """Return the record of each value, as ``load`` does. Other tasks can run meanwhile."""
    records: list[Record | None] = []
    size = 0
    for value in values:
        records.append(load(value))
        size += len(value or b"")
        if size > _STEP_BYTES:
            await asyncio.sleep(0)
            size = 0
    return records


def from_record(kind: type[T], record: Record) -> T:
    """Return a dataclass from its record. Ignore fields that another version has written."""
    names = {one.name for one in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: value for name, value in record.items() if name in names})


def as_bytes(value: object) -> bytes:
    """Return a reply of Redis as bytes, empty if there is none.

    The client decodes no replies, but redis-py's types do not say so.
    """
    return value if isinstance(value, bytes) else b""


async def in_thread(convert: Callable[[T], R], value: T, size: int) -> R:
    """Return ``convert(value)``. A thread computes it if ``size``, in bytes, is large."""
    if size <= _CONVERTED_AT_ONCE:
        return convert(value)
    return await asyncio.to_thread(convert, value)
