"""Reads the environment into frozen dataclasses, once, when a service starts.

A service declares its settings like this::

    @dataclass(frozen=True)
    class Settings(CommonSettings):
        redis_url: str = setting("MEMETWIN_REDIS_URL", "redis://127.0.0.1:6379", "URL of Redis.")

and reads them with ``from_env(Settings, os.environ)``. An empty variable counts as unset.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, get_args, get_type_hints
from urllib.parse import unquote

T = TypeVar("T")


class SettingError(ValueError):
    """An environment variable has an invalid value."""


def setting(name: str, default: Any, doc: str, *, secret: bool = False) -> Any:
    """Declare a setting: its environment variable, its default and its help text in the docs.

    ``secret`` keeps the value out of ``repr`` and of logs. Of a URL, only its password is secret.
    """
    metadata = {"env": name, "doc": doc, "secret": secret}
    return dataclasses.field(default=default, metadata=metadata, repr=not secret)


def secret_values(settings: Any) -> list[str]:
    """Return the texts of a settings dataclass that must never be shown, the longest first."""
    values = [
        getattr(settings, field.name)
        for field in dataclasses.fields(settings)
        if field.metadata.get("secret")
    ]
    found = {text for value in values for text in _secret_texts(value)}
    return sorted(found, key=len, reverse=True)


def _secret_texts(value: str) -> list[str]:
    _, separator, rest = value.partition("://")
    if not separator:
        return [value] if value else []
    user_info = rest.partition("/")[0].rpartition("@")[0]
    password = user_info.partition(":")[2]
    return [password, unquote(password)] if password else []


def from_env(kind: type[T], environ: Mapping[str, str]) -> T:
    """Build the settings dataclass ``kind`` from a mapping such as ``os.environ``.

    Raises:
        SettingError: a value cannot be parsed as the setting's type: str, int, float, bool, or
            one of them with ``| None``.
    """
    hints = get_type_hints(kind)
    values = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        text = environ.get(field.metadata["env"], "")
        if text:
            kinds = get_args(hints[field.name]) or [hints[field.name]]  # "float | None" has two
            values[field.name] = _parse(field.metadata["env"], text, kinds[0])
    return kind(**values)


def _parse(name: str, text: str, kind: type) -> Any:
    parse: Callable[[str], Any] = _boolean if kind is bool else kind
    try:
        return parse(text)
    except ValueError as error:
        raise SettingError(f"{name} is {text!r}, which is not a valid {kind.__name__}.") from error


def _boolean(text: str) -> bool:
    try:
        return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[
            text.lower()
        ]
    except KeyError as error:
        raise ValueError(text) from error


@dataclass(frozen=True)
class TlsFiles:
    """Names of PEM files; an empty name means none.

    Attributes:
        cert: the certificate of this process, followed by intermediate certificates.
        key: its private key.
        ca: certificates that verify the servers that this process dials.
        client_ca: certificates that verify the clients of this process' ports.
        client_names: a client's certificate must have one of these names; empty for any.
    """

    cert: str = ""
    key: str = ""
    ca: str = ""
    client_ca: str = ""
    client_names: frozenset[str] = frozenset()

    @property
    def names(self) -> list[str]:
        """The names of all files."""
        return [name for name in (self.cert, self.key, self.ca, self.client_ca) if name]


@dataclass(frozen=True)
class CommonSettings:
    """The settings that all services share."""

    # A client that has more calls on one connection waits with the rest. So a hostile client cannot
    # put more of them before the calls of others.
    max_calls_of_connection: ClassVar[int] = 1000

    log_level: str = setting("MEMETWIN_LOG_LEVEL", "INFO", "Minimum level of log records.")
    metrics_listen: str = setting(
        "MEMETWIN_METRICS_LISTEN",
        "",
        "Listen address of the Prometheus metrics. Empty serves none.",
    )
    reflection: bool = setting(
        "MEMETWIN_REFLECTION",
        True,
        "Whether to serve gRPC server reflection. With API keys, it needs a key.",
    )
    tls_cert: str = setting(
        "MEMETWIN_TLS_CERT",
        "",
        "File with the certificate of this process in PEM, and intermediate ones. If set, all its "
        "ports use TLS.",
    )
    tls_key: str = setting(
        "MEMETWIN_TLS_KEY",
        "",
        "File with the private key of `MEMETWIN_TLS_CERT` in PEM.",
    )
    tls_ca: str = setting(
        "MEMETWIN_TLS_CA",
        "",
        "File with the certificates that verify the services and the Redis that this process "
        "dials. If set, it dials the services with TLS, and shows its own certificate if they ask.",
    )
    tls_client_ca: str = setting(
        "MEMETWIN_TLS_CLIENT_CA",
        "",
        "File with the certificates that verify clients. If set, all ports of this process refuse "
        "clients without such a certificate.",
    )
    tls_client_names: str = setting(
        "MEMETWIN_TLS_CLIENT_NAMES",
        "",
        "Names of clients, with commas: DNS names, URIs or addresses. If set, the certificate of a "
        "client must also have one of them as a subject alternative name. Health checks over gRPC "
        "need none.",
    )
    service_token: str = setting(
        "MEMETWIN_SERVICE_TOKEN",
        "",
        "Token that the gateway sends to the embedder and to search. If they have it, too, they "
        "refuse calls without it, except those of health.",
        secret=True,
    )
    service_token_file: str = setting(
        "MEMETWIN_SERVICE_TOKEN_FILE",
        "",
        "File that contains the service token, instead of `MEMETWIN_SERVICE_TOKEN`.",
    )
    shutdown_delay: float = setting(
        "MEMETWIN_SHUTDOWN_DELAY",
        0.0,
        "Seconds between reporting NOT_SERVING and refusing calls, for load balancers to react.",
    )

    @property
    def tls(self) -> TlsFiles:
        """The files that the settings of TLS name."""
        names = frozenset(filter(None, map(str.strip, self.tls_client_names.split(","))))
        return TlsFiles(self.tls_cert, self.tls_key, self.tls_ca, self.tls_client_ca, names)


def host_port(listen: str) -> tuple[str, int]:
    """Split ``host:port`` (or a bare port, on loopback) into its parts.

    Raises:
        SettingError: the port is not a number from 0 to 65535.
    """
    host, _, port = listen.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:  # noqa: PLR2004 - the largest TCP port
        raise SettingError(f"{listen!r} is not an address of the form host:port, port up to 65535.")
    return host or "127.0.0.1", int(port)
