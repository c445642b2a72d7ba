"""What the server can do, and its errors as ours."""

import asyncio
import contextlib
import functools
import logging
import random
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

from redis import exceptions
from redis.asyncio import RedisCluster

from services import deadlines, redis_client
from services.errors import DeadlineExceeded, FailedPrecondition, Failure, Overloaded, Unavailable

log = logging.getLogger(__name__)

Given = ParamSpec("Given")
Reply = TypeVar("Reply")

# redis-py's types join those of its synchronous and asynchronous clients; replies here are bytes.
Client = Any

# The longest that Redis is waited for, if the caller has as much time.
PATIENCE = 15.0
# Seconds before what has failed within ``_QUICK`` seconds is tried again.
_PAUSES, _QUICK = (0.05, 0.3), 1.0
# Below these, VREM while a VSIM runs in the background reads freed memory (release notes of August
# 2026). Lines without an entry were not mended.
_MENDED = {(8, 2): 9, (8, 4): 6, (8, 6): 6, (8, 8): 2, (8, 10): 1}
_NEWEST_MENDED = (8, 10)


@dataclass(frozen=True)
class Server:
    """What a Redis server is and can do."""

    version: str
    vector_sets: bool
    query_engine: bool
    hybrid: bool
    warnings: list[str] = field(default_factory=list)

    @property
    def searches_in_background(self) -> bool:
        """Say whether VSIM may run on a thread of its own in this version."""
        return _mended(self.version)

    def require_vectors(self) -> None:
        """Raise FailedPrecondition if it has neither vector sets nor the Query Engine."""
        if not self.vector_sets and not self.query_engine:
            self.require("vector_sets")

    def require(self, engine: str) -> None:
        """Raise FailedPrecondition if it does not have an engine."""
        if engine == "vector_sets" and not self.vector_sets:
            raise FailedPrecondition(
                "NEEDS_VECTOR_SETS",
                f"Redis {self.version} has no vector sets: Redis 8.0 or newer is needed.",
                version=self.version,
            )
        if engine == "query_engine" and not self.query_engine:
            raise FailedPrecondition(
                "NEEDS_QUERY_ENGINE",
                f"This Redis {self.version} has no Query Engine (FT.SEARCH): Redis 8.0 or newer"
                " with its modules is needed.",
                field="collection.engine",
                version=self.version,
            )


def connect(url: str) -> Client:
    """Open a client; replies are bytes in RESP2's shapes.

    Raises:
        InvalidArgument: this is no address.
    """
    redis = redis_client.connect(url, max_connections=32, timeout=2 * PATIENCE, protocol=2)
    redis.response_callbacks.pop("VSIM", None)  # its own reading of the reply loses scores
    return redis


async def anywhere(redis: Client) -> dict[str, Any]:
    """Return what makes the client of a cluster ask any one of its nodes."""
    if not isinstance(redis, RedisCluster):
        return {}
    await redis.initialize()
    return {"target_nodes": [redis.get_random_node()]}


async def ping(redis: Client) -> None:
    """Ask whether Redis is there; of a cluster, whether any node is."""
    if not isinstance(redis, RedisCluster):
        await redis.ping()
        return
    await redis.initialize()
    for node in redis.get_nodes():
        with contextlib.suppress(exceptions.RedisError, OSError):
            await redis.ping(target_nodes=[node])
            return
    raise exceptions.ConnectionError("no node answers")


async def probe(redis: Client) -> Server:
    """Ask the server for its version, its commands and how it keeps what it is told."""
    async with asking():
        where = await anywhere(redis)
        info: dict[str, Any] = await redis.info("server", **where)
        names = ("VSIM", "FT.SEARCH", "FT.HYBRID")
        # One word: the client's own reading of COMMAND fails on what does not exist.
        known = await redis.execute_command("COMMAND INFO", *names, **where)
    has = dict(zip(names, (entry is not None for entry in known), strict=True))
    version = str(info["redis_version"])
    warnings = _faults(version) + _losses(await _settings(redis))
    return Server(version, has["VSIM"], has["FT.SEARCH"], has["FT.HYBRID"], warnings)


async def _settings(redis: Client) -> Mapping[str, str]:
    """Return how the server is set; nothing if it does not tell (many hosted ones do not)."""
    try:
        async with asyncio.timeout(PATIENCE):
            names = ("appendonly", "appendfsync", "maxmemory-policy")
            return dict(await redis.config_get(*names, **await anywhere(redis)))
    except exceptions.ResponseError:
        return {}
    except (exceptions.RedisError, OSError, TimeoutError) as error:
        raise _away() from error


def _faults(version: str) -> list[str]:
    if _mended(version):
        return []
    return [
        f"Redis {version} can read freed memory when VREM meets a VSIM on a background thread"
        " (mended in 8.2.9, 8.4.6, 8.6.6, 8.8.2 and 8.10.1); searches run with NOTHREAD."
    ]


def _losses(settings: Mapping[str, Any]) -> list[str]:
    """Return warnings of what the server may forget."""
    told = {_text(name): _text(value) for name, value in settings.items()}
    warnings = []
    if told.get("appendonly") == "no":
        warnings.append("Redis keeps no append-only file: a crash loses writes (appendonly yes).")
    elif told.get("appendfsync", "always") != "always":
        warnings.append(
            "Redis answers before writes are on disk: a crash of the machine loses the last"
            " (appendfsync always)."
        )
    if told.get("maxmemory-policy", "noeviction") != "noeviction":
        warnings.append("Redis evicts keys when memory is short (maxmemory-policy noeviction).")
    return warnings


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _mended(version: str) -> bool:
    numbers = [int(number) for number in re.findall(r"\d+", version)[:3]]
    line, patch = (numbers[0], numbers[1]), numbers[2]
    return line > _NEWEST_MENDED or patch >= _MENDED.get(line, 10**6)


def retried(
    call: Callable[Given, Coroutine[Any, Any, Reply]],
) -> Callable[Given, Coroutine[Any, Any, Reply]]:
    """Let a call that changes nothing be made again, a little later, when Redis was away.

    A connection that broke in the pool, a master that has just changed: the next attempt gets
    another. What has waited long already is not tried again.
    """

    @functools.wraps(call)
    async def again(*args: Given.args, **kwargs: Given.kwargs) -> Reply:
        for pause in _PAUSES:
            started = time.monotonic()
            try:
                return await call(*args, **kwargs)
            except Unavailable:
                seconds = random.uniform(pause / 2, pause * 1.5)  # noqa: S311
                left = deadlines.time_left()
                waited = time.monotonic() - started
                if waited > _QUICK or (left is not None and left < seconds):
                    raise
                await asyncio.sleep(seconds)
        return await call(*args, **kwargs)

    return again


@contextlib.asynccontextmanager
async def asking() -> AsyncIterator[None]:
    """Turn what Redis says into failures of ours; its own words go to the log alone.

    What runs inside may take until the caller's deadline, PATIENCE at most.

    Raises:
        Unavailable: Redis is away, or does not answer in time.
        Overloaded: it has no memory left.
        DeadlineExceeded: the caller's deadline has passed.
        Failure: it refused what we sent, which is our fault.
    """
    left = deadlines.time_left()
    hurried = left is not None and left < PATIENCE
    try:
        async with asyncio.timeout(left if hurried else PATIENCE):
            yield
    except exceptions.OutOfMemoryError as error:
        raise _out_of_memory() from error
    except TimeoutError as error:
        if hurried:
            raise DeadlineExceeded(
                "DEADLINE_EXCEEDED", "The call's deadline has passed."
            ) from error
        raise _away() from error
    except (
        exceptions.ConnectionError,
        exceptions.TimeoutError,
        exceptions.ReadOnlyError,
        exceptions.ClusterError,
        exceptions.RedisClusterException,
        OSError,
    ) as error:
        raise _away() from error
    except exceptions.ResponseError as error:
        raise _refused(error) from error


def _refused(error: exceptions.ResponseError) -> Failure:
    if "OOM " in str(error):
        return _out_of_memory()
    log.error("Redis refused a command", extra={"reply": str(error)[:500]})
    if str(error).startswith(("BUSY", "MISCONF", "LOADING", "MASTERDOWN", "TRYAGAIN")):
        return _away()
    return Failure("REDIS_REFUSED", "Redis refused a command; the log says why.")


def _away() -> Unavailable:
    return Unavailable("REDIS_UNAVAILABLE", "Redis does not answer.", retry_after=1.0)


def _out_of_memory() -> Overloaded:
    return Overloaded(
        "REDIS_OUT_OF_MEMORY", "Redis has no memory left; nothing was stored.", retry_after=5.0
    )
