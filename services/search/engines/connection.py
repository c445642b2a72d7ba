"""Connects to Redis: one server, a sentinel's master or a cluster."""

import contextlib
from typing import Any

from redis import exceptions
from redis.asyncio import RedisCluster

from services import redis_client
from services.search.engines.redis_errors import REDIS_TIMEOUT
from services.settings import TlsFiles

# redis-py's types join those of its synchronous and asynchronous clients; replies here are bytes.
Client = Any


def connect(url: str, files: TlsFiles | None = None) -> Client:
    """Open a client whose replies are bytes in the shapes of RESP2.

    Raises:
        InvalidArgument: the URL is not valid.
    """
    redis = redis_client.connect(
        url, max_connections=32, timeout=2 * REDIS_TIMEOUT, files=files, protocol=2
    )
    redis.response_callbacks.pop("VSIM", None)  # redis-py's parser drops the scores
    return redis


async def any_node(redis: Client) -> dict[str, Any]:
    """Return the arguments that send a command to any node of a cluster."""
    if not isinstance(redis, RedisCluster):
        return {}
    await redis.initialize()
    return {"target_nodes": [redis.get_random_node()]}


async def ping(redis: Client) -> None:
    """Check that Redis, or at least one node of a cluster, answers.

    Raises:
        redis.exceptions.RedisError: nothing answers.
    """
    if not isinstance(redis, RedisCluster):
        await redis.ping()
        return
    await redis.initialize()
    for node in redis.get_nodes():
        with contextlib.suppress(exceptions.RedisError, OSError):
            await redis.ping(target_nodes=[node])
            return
    raise exceptions.ConnectionError("no node of the cluster answers")
