"""Opens Redis clients for all topologies, by URL.

- ``redis://``, ``rediss://`` (TLS), ``unix://``: one server, with the syntax of redis-py
- ``redis+sentinel://[user:password@]host:port,host:port/service[/db]``: the current master
- ``redis+cluster://[user:password@]host:port,host:port``: a cluster

``rediss+sentinel://`` and ``rediss+cluster://`` use TLS. Options such as ``?ssl_ca_certs=…`` apply
to every form. Without them, the files of ``MEMETWIN_TLS_*`` apply. The user and password are not
sent to Sentinels.
"""

import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.driver_info import DriverInfo

from services import tls
from services.errors import InvalidArgument
from services.settings import TlsFiles

# redis-py reads its version from its metadata. That takes 50 ms, so it must not happen for each new
# connection.
_DRIVER_INFO = DriverInfo()
_DEFAULT_PORTS = {"sentinel": 26379, "cluster": 6379}


@dataclass(frozen=True)
class Address:
    """The parsed URL of a Sentinel deployment or a cluster.

    Attributes:
        topology: ``sentinel`` or ``cluster``.
        hosts: host and port of each Sentinel or startup node.
        path: the parts of the path: the service and the database of a Sentinel URL.
        options: options for redis-py's connections.
    """

    topology: str
    hosts: list[tuple[str, int]]
    path: list[str]
    options: dict[str, Any]


def connect(
    url: str,
    *,
    max_connections: int,
    timeout: float,
    files: TlsFiles | None = None,
    **options: Any,
) -> Any:
    """Return a client with a bounded pool. It connects on first use and does not retry commands.

    Args:
        url: URL of Redis, in one of the forms above.
        max_connections: maximum size of the connection pool.
        timeout: seconds to wait for a reply.
        files: the CA and the certificate of this process, for a URL with TLS that names none.
        options: more options for redis-py's connections.

    Raises:
        InvalidArgument: the URL is invalid.
    """
    # By default redis-py retries every command ten times, including commands that write.
    settings: dict[str, Any] = {"retry": Retry(NoBackoff(), 0), "health_check_interval": 0}
    settings |= {"driver_info": _DRIVER_INFO}
    settings |= {"socket_timeout": timeout, "socket_connect_timeout": 2, **options}
    address = parse_url(url)
    if url.startswith("rediss") and files:
        settings |= _tls_options(files)
    if address is None:
        return Redis.from_pool(_pool(url, max_connections, settings))
    settings |= {"max_connections": max_connections, **address.options}
    if address.topology == "sentinel":
        return _master(address, settings)
    nodes = [ClusterNode(host, port) for host, port in address.hosts]
    return RedisCluster(startup_nodes=nodes, require_full_coverage=False, **settings)


def _pool(url: str, max_connections: int, settings: dict[str, Any]) -> BlockingConnectionPool:
    try:
        pool = BlockingConnectionPool.from_url(
            url, max_connections=max_connections, timeout=5, **settings
        )
    except ValueError:
        raise _malformed() from None
    if pool.connection_class is SSLConnection:
        pool.connection_class = _reloading_connection(pool.connection_kwargs)
    return pool


def _reloading_connection(options: dict[str, Any]) -> type[SSLConnection]:
    """Return a class of connections that share a TLS context, made again when its files change.

    redis-py makes a context for each connection, which takes milliseconds, and keeps it.

    Raises:
        InvalidArgument: a file cannot be read or is not valid.
    """
    names = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")
    files = [options[name] for name in names if options.get(name)]
    try:
        context = tls.Watched(files, lambda: _tls_context(options))
    except (OSError, ValueError) as error:
        raise _invalid_url(f"The files of the TLS connection are not valid: {error}.") from error

    class Connection(SSLConnection):
        async def connect(self) -> None:
            self.ssl_context.context = context.get()
            await super().connect()  # type: ignore[no-untyped-call]

    return Connection


def _tls_context(options: dict[str, Any]) -> ssl.SSLContext:
    return SSLConnection(**options).ssl_context.get()


def _tls_options(files: TlsFiles) -> dict[str, str]:
    options = {
        "ssl_ca_certs": files.ca,
        "ssl_certfile": files.cert,
        "ssl_keyfile": files.key,
    }
    return {name: file for name, file in options.items() if file}


async def close(client: Any) -> None:
    """Close a client and its connections to Sentinels."""
    manager = getattr(getattr(client, "connection_pool", None), "sentinel_manager", None)
    await client.aclose()
    for sentinel in manager.sentinels if manager else ():
        await sentinel.aclose()


def parse_url(url: str) -> Address | None:
    """Parse the URL of a Sentinel deployment or a cluster; None for URLs that redis-py parses.

    Raises:
        InvalidArgument: the URL is invalid.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _malformed() from None
    scheme, _, topology = parts.scheme.partition("+")
    if not topology:
        return None
    if scheme not in ("redis", "rediss") or topology not in _DEFAULT_PORTS:
        raise _invalid_url(
            f"The scheme {parts.scheme!r} is unknown. Use redis, rediss or unix, or redis or rediss"
            " with +sentinel or +cluster."
        )
    options: dict[str, Any] = dict(parse_qsl(parts.query))
    user, _, hosts = parts.netloc.rpartition("@")
    if user:
        name, _, password = user.partition(":")
        options |= {"username": unquote(name) or None, "password": unquote(password) or None}
    if scheme == "rediss":
        options["ssl"] = True
    addresses = [_host_and_port(host, _DEFAULT_PORTS[topology]) for host in hosts.split(",")]
    return Address(topology, addresses, [part for part in parts.path.split("/") if part], options)


def _master(address: Address, settings: dict[str, Any]) -> Any:
    if not address.path:
        raise _invalid_url(
            "A Sentinel URL must name the service: redis+sentinel://host:port/service."
        )
    service, *database = address.path
    sentinel_options: dict[str, Any] = {"socket_timeout": 2, "socket_connect_timeout": 2}
    sentinel_options |= {name: value for name, value in settings.items() if name.startswith("ssl")}
    sentinel = Sentinel(address.hosts, sentinel_kwargs=sentinel_options)  # type: ignore[no-untyped-call]
    return sentinel.master_for(service, db=int(database[0]) if database else 0, **settings)


def _host_and_port(text: str, default_port: int) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host:
        raise _invalid_url(f"The address {text!r} is invalid. Write host:port,host:port.")
    return host, port or default_port


def _malformed() -> InvalidArgument:
    """Return the failure for a URL that no parser reads. Its error may quote the password."""
    return _invalid_url(
        "The URL of Redis is invalid. Write redis://user:password@host:port/database, and"
        " percent-encode special characters of the password."
    )


def _invalid_url(message: str) -> InvalidArgument:
    return InvalidArgument("BAD_REDIS_URL", message, field="MEMETWIN_REDIS_URL")
