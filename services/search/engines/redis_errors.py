"""Turns errors of Redis into failures that callers understand, and retries reads."""

import asyncio
import contextlib
import functools
import logging
import random
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from redis import exceptions

from services import deadlines
from services.errors import Failure, Overloaded, Unavailable

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")

# Longest time in seconds to wait for Redis if the caller's deadline allows it.
REDIS_TIMEOUT = 15.0
# A read that failed within _MAX_RETRIED_SECONDS is retried after each of these delays in seconds.
_RETRY_DELAYS, _MAX_RETRIED_SECONDS = (0.05, 0.3), 1.0
_MAX_LOGGED_LENGTH = 500


@contextlib.asynccontextmanager
async def redis_errors() -> AsyncIterator[None]:
    """Turn errors of Redis into failures; the text of an error is only logged.

    The body has until the caller's deadline, but at most REDIS_TIMEOUT.

    Raises:
        Unavailable: Redis is unreachable or does not answer in time.
        Overloaded: Redis has no memory left.
        DeadlineExceeded: the caller's deadline has passed.
        Failure: Redis refused the command, which is a bug in this service.
    """
    left = deadlines.time_left()
    ends_by_deadline = left is not None and left < REDIS_TIMEOUT
    try:
        async with asyncio.timeout(left if ends_by_deadline else REDIS_TIMEOUT):
            yield
    except exceptions.OutOfMemoryError as error:
        raise _out_of_memory() from error
    except TimeoutError as error:
        if ends_by_deadline:
            raise deadlines.exceeded() from error
        raise unavailable() from error
    except (
        exceptions.ConnectionError,
        exceptions.TimeoutError,
        exceptions.ReadOnlyError,
        exceptions.ClusterError,
        exceptions.RedisClusterException,
        OSError,
    ) as error:
        raise unavailable() from error
    except exceptions.ResponseError as error:
        raise _from_reply(error) from error


def retry_reads(
    read: Callable[P, Coroutine[Any, Any, T]],
) -> Callable[P, Coroutine[Any, Any, T]]:
    """Decorate a read, so that it is retried when Redis is unavailable.

    A pooled connection was broken, or the master has just changed: the next attempt gets another
    connection. A call that has waited for long is not retried.
    """

    @functools.wraps(read)
    async def retried(*args: P.args, **kwargs: P.kwargs) -> T:
        for delay in _RETRY_DELAYS:
            started = time.monotonic()
            try:
                return await read(*args, **kwargs)
            except Unavailable:
                seconds = random.uniform(delay / 2, delay * 1.5)  # noqa: S311
                left = deadlines.time_left()
                waited = time.monotonic() - started
                if waited > _MAX_RETRIED_SECONDS or (left is not None and left < seconds):
                    raise
                await asyncio.sleep(seconds)
        return await read(*args, **kwargs)

    return retried


def unavailable() -> Unavailable:
    """Return the failure for a Redis that does not answer."""
    return Unavailable(
        "REDIS_UNAVAILABLE", "Redis is unreachable; try again later.", retry_after=1.0
    )


def _from_reply(error: exceptions.ResponseError) -> Failure:
    if "OOM " in str(error):
        return _out_of_memory()
    log.error("Redis refused a command", extra={"reply": str(error)[:_MAX_LOGGED_LENGTH]})
    if str(error).startswith(("BUSY", "MISCONF", "LOADING", "MASTERDOWN", "TRYAGAIN")):
        return unavailable()
    return Failure("REDIS_REFUSED", "Redis refused a command; see the log of the search service.")


def _out_of_memory() -> Overloaded:
    return Overloaded(
        "REDIS_OUT_OF_MEMORY",
        "Redis has no memory left and stored nothing; free memory or raise maxmemory.",
        retry_after=5.0,
    )
