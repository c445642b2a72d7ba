"""Opens a client to Redis for each way that one can be named.

- ``redis://``, ``rediss://`` (TLS), ``unix://``: as redis-py reads them, users and options included
- ``redis+sentinel://[user:password@]host:port,host:port/service[/db]``: whoever is the master
- ``redis+cluster://[user:password@]host:port,host:port``: a cluster

``rediss+sentinel://`` and ``rediss+cluster://`` speak TLS; ``?ssl_ca_certs=…`` and the like hold
for all. Sentinels are asked without the user and password.
"""

from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from services.errors import InvalidArgument

_PORTS = {"sentinel": 26379, "cluster": 6379}


@dataclass(frozen=True)
class Address:
    """A set of servers that are named together."""

    kind: str
    hosts: list[tuple[str, int]]
    path: list[str]
    options: dict[str, Any]


def connect(url: str, *, connections: int, timeout: float, **options: Any) -> Any:
    """Open a client on a bounded pool; it connects when first used and retries nothing.

    Args:
        url: where Redis is.
        connections: the most at once.
        timeout: seconds that a reply is waited for.
        options: of redis-py's connections.

    Raises:
        InvalidArgument: this is no address.
    """
    # redis-py by itself would try each command ten times, those that change something too.
    settings: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "health_check_interval": 0}
    settings |= {"socket_timeout": timeout, "socket_connect_timeout": 2, **options}
    address = read(url)
    if address is None:
        pool = BlockingConnectionPool.from_url(
            url, max_connections=connections, timeout=5, **settings
        )
        return Redis.from_pool(pool)
    settings |= {"max_connections": connections, **address.options}
    if address.kind == "sentinel":
        return _master(address, settings)
    nodes = [ClusterNode(host, port) for host, port in address.hosts]
    return RedisCluster(startup_nodes=nodes, require_full_coverage=False, **settings)


async def close(client: Any) -> None:
    """Close a client, and what it asked for the master."""
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    await client.aclose()
    for sentinel in manager.sentinels if manager else ():
        await sentinel.aclose()


def _master(address: Address, settings: dict[str, Any]) -> Any:
    if not address.path:
        raise _bad("Name the service too: redis+sentinel://host:port/service.")
    service, *rest = address.path
    asking: dict[str, Any] = {"socket_timeout": 2, "socket_connect_timeout": 2}
    asking |= {name: one for name, one in settings.items() if name.startswith("ssl")}
    sentinel = Sentinel(address.hosts, sentinel_kwargs=asking)  # type: ignore[no-untyped-call]
    return sentinel.master_for(service, db=int(rest[0]) if rest else 0, **settings)


def read(url: str) -> Address | None:
    """Read an address of several servers; None for what redis-py reads itself."""
    parts = urlsplit(url)
    scheme, _, kind = parts.scheme.partition("+")
    if not kind:
        return None
    if scheme not in ("redis", "rediss") or kind not in _PORTS:
        raise _bad(f"{parts.scheme} is no way to name a Redis.")
    options: dict[str, Any] = dict(parse_qsl(parts.query))
    user, _, hosts = parts.netloc.rpartition("@")
    if user:
        name, _, password = user.partition(":")
        options |= {"username": unquote(name) or None, "password": unquote(password) or None}
    if scheme == "rediss":
        options["ssl"] = True
    found = [_host(one, _PORTS[kind]) for one in hosts.split(",")]
    return Address(kind, found, [one for one in parts.path.split("/") if one], options)


def _host(text: str, default: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host:
        raise _bad("An address names hosts: host:port,host:port.")
    return host, port or default


def _bad(message: str) -> InvalidArgument:
    return InvalidArgument("BAD_REDIS_URL", message, field="MEMETWIN_REDIS_URL")
