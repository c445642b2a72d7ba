"""One client to Redis: what the server can do, and its errors as ours."""

import contextlib
import logging
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from redis import exceptions
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from services.errors import FailedPrecondition, Failure, Overloaded, Unavailable

log = logging.getLogger(__name__)

# redis-py's types join those of its synchronous and asynchronous clients; replies here are bytes.
Client = Any

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


def connect(url: str) -> Client:
    """Open a client on a bounded pool; replies are bytes in RESP2's shapes, nothing is retried."""
    pool = BlockingConnectionPool.from_url(
        url,
        protocol=2,
        max_connections=32,
        timeout=5,
        socket_timeout=60,
        socket_connect_timeout=2,
        health_check_interval=0,
        retry=Retry(NoBackoff(), 0),
    )
    redis: Redis = Redis(connection_pool=pool)
    # Its own readings of these replies lose scores, and fail on a command that does not exist.
    for name in ("VSIM", "COMMAND"):
        redis.response_callbacks.pop(name, None)
    return redis


async def probe(redis: Client) -> Server:
    """Ask the server for its version and its commands."""
    async with asking():
        info: dict[str, Any] = await redis.info("server")
        names = ("VSIM", "FT.SEARCH", "FT.HYBRID")
        known = await redis.execute_command("COMMAND", "INFO", *names)
    has = dict(zip(names, (entry is not None for entry in known), strict=True))
    version = str(info["redis_version"])
    return Server(version, has["VSIM"], has["FT.SEARCH"], has["FT.HYBRID"], _warnings(version))


def _warnings(version: str) -> list[str]:
    if _mended(version):
        return []
    return [
        f"Redis {version} can read freed memory when VREM meets a VSIM on a background thread"
        " (mended in 8.2.9, 8.4.6, 8.6.6, 8.8.2 and 8.10.1); searches run with NOTHREAD."
    ]


def _mended(version: str) -> bool:
    numbers = [int(number) for number in re.findall(r"\d+", version)[:3]]
    line, patch = (numbers[0], numbers[1]), numbers[2]
    return line > _NEWEST_MENDED or patch >= _MENDED.get(line, 10**6)


def require_vector_sets(server: Server) -> None:
    """Raise FailedPrecondition for a server without vector sets."""
    if not server.vector_sets:
        raise FailedPrecondition(
            "NO_VECTOR_SETS",
            f"Redis {server.version} has no vector sets: Redis 8.0 or newer is needed.",
            version=server.version,
        )


@contextlib.asynccontextmanager
async def asking() -> AsyncIterator[None]:
    """Turn what Redis says into failures of ours; its own words go to the log alone."""
    try:
        yield
    except exceptions.OutOfMemoryError as error:
        raise _out_of_memory() from error
    except (
        exceptions.ConnectionError,
        exceptions.TimeoutError,
        exceptions.BusyLoadingError,
        OSError,
    ) as error:
        raise Unavailable("REDIS_UNAVAILABLE", "Redis does not answer.", retry_after=1.0) from error
    except exceptions.ResponseError as error:
        if "OOM " in str(error):
            raise _out_of_memory() from error
        log.exception("Redis refused a command")
        raise Failure("REDIS_REFUSED", "Redis refused a command; the log says why.") from error


def _out_of_memory() -> Overloaded:
    return Overloaded(
        "REDIS_OUT_OF_MEMORY", "Redis has no memory left; nothing was stored.", retry_after=5.0
    )
