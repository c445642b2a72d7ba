"""TLS of ports and dials: certificates in files, which are read again when they change.

``MEMETWIN_TLS_CERT`` and ``MEMETWIN_TLS_KEY`` are the identity of a process. Its ports show it to
clients, and its dials show it to servers that ask. ``MEMETWIN_TLS_CA`` verifies the servers that
the process dials, and ``MEMETWIN_TLS_CLIENT_CA`` the clients of its ports. Their certificates must
have one of the names in ``MEMETWIN_TLS_CLIENT_NAMES``, if it is set.
"""

import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any, Generic, TypeVar

import grpc

from services.settings import SettingError, TlsFiles

log = logging.getLogger(__name__)
T = TypeVar("T")

# Seconds between two looks at the files. The look costs microseconds, on a new connection or call.
CHECK_INTERVAL = 1.0


def validate(files: TlsFiles) -> None:
    """Check that the settings fit together, and that the files can be used.

    Raises:
        SettingError: a setting is missing, or a file cannot be read or is not valid.
    """
    if bool(files.cert) != bool(files.key):
        raise SettingError("Set both MEMETWIN_TLS_CERT and MEMETWIN_TLS_KEY, or none of them.")
    if files.client_ca and not files.cert:
        raise SettingError("MEMETWIN_TLS_CLIENT_CA needs MEMETWIN_TLS_CERT and MEMETWIN_TLS_KEY.")
    if files.client_names and not files.client_ca:
        raise SettingError("MEMETWIN_TLS_CLIENT_NAMES needs MEMETWIN_TLS_CLIENT_CA.")
    try:
        check(files)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise SettingError(
            f"The files of MEMETWIN_TLS_* are not valid: {error}. They must be certificates and a"
            " private key without a password, in PEM."
        ) from error


def check(files: TlsFiles) -> None:
    """Raise OSError or ValueError if a file cannot be read, or the key is not the certificate's."""
    if files.cert:
        _server_context(files)
    if files.ca:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(files.ca)


class Watched(Generic[T]):
    """A value made from files. It is made again after they have changed, by the next ``get``.

    If that fails, for example because only one of two files has been replaced, the value stays and
    the next ``get`` tries again.
    """

    def __init__(self, names: Sequence[str], make: Callable[[], T]) -> None:
        self._names, self._make = names, make
        self._lock = threading.Lock()  # gRPC asks for certificates in its threads
        self._seen, self._checked = self._look(), time.monotonic()
        self._value = make()

    def get(self) -> T:
        """Return the value for the present files."""
        if time.monotonic() - self._checked < CHECK_INTERVAL:
            return self._value
        with self._lock:
            self._checked = time.monotonic()
            seen = self._look()
            if seen != self._seen:
                try:
                    self._value = self._make()
                except (OSError, ValueError):
                    log.warning("changed TLS files are not valid", extra={"files": self._names})
                else:
                    self._seen = seen
                    log.info("TLS files were read again", extra={"files": self._names})
        return self._value

    def _look(self) -> list[tuple[int, int, int] | None]:
        return [_identity(name) for name in self._names]


def server_credentials(files: TlsFiles) -> grpc.ServerCredentials:
    """Return credentials for gRPC ports. Each new connection uses the present files."""
    watched = Watched(files.names, lambda: _certificate_configuration(files))
    latest = watched.get()

    def fetch() -> Any:
        nonlocal latest
        current = watched.get()
        if current is latest:
            return None  # gRPC keeps what it has
        latest = current
        return current

    dynamic: Any = grpc.dynamic_ssl_server_credentials
    credentials: grpc.ServerCredentials = dynamic(latest, fetch, bool(files.client_ca))
    return credentials


def has_name(auth_context: Mapping[str, Iterable[bytes]], names: Set[str]) -> bool:
    """Return whether the certificate of a gRPC client has one of some names."""
    found = auth_context.get("x509_subject_alternative_name", ())
    return not names.isdisjoint(name.decode(errors="replace") for name in found)


def channel_credentials(files: TlsFiles) -> grpc.ChannelCredentials:
    """Return credentials for dialling with the present files."""
    check(files)
    own: list[bytes | None] = [None, None]
    if files.cert:
        own = [Path(files.key).read_bytes(), Path(files.cert).read_bytes()]
    return grpc.ssl_channel_credentials(Path(files.ca).read_bytes(), *own)


class ServerContext(ssl.SSLContext):
    """The SSL context of a port. Each new connection uses the present files."""

    _watched: Watched[ssl.SSLContext]

    @classmethod
    def of(cls, files: TlsFiles) -> "ServerContext":
        """Return a context for the files."""
        context = cls(ssl.PROTOCOL_TLS_SERVER)
        context._watched = Watched(files.names, lambda: _server_context(files))
        return context

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        """Begin TLS on buffers, as asyncio does."""
        return self._watched.get().wrap_bio(*args, **options)

    def wrap_socket(self, *args: Any, **options: Any) -> ssl.SSLSocket:
        """Begin TLS on a socket."""
        return self._watched.get().wrap_socket(*args, **options)

    def wrap_listener(self, listener: socket.socket) -> ssl.SSLSocket:
        """Let a listening socket accept connections whose first read does the handshake."""
        return super().wrap_socket(listener, server_side=True, do_handshake_on_connect=False)


def _certificate_configuration(files: TlsFiles) -> Any:
    check(files)  # gRPC itself would only log an error
    pair = (Path(files.key).read_bytes(), Path(files.cert).read_bytes())
    roots = Path(files.client_ca).read_bytes() if files.client_ca else None
    return grpc.ssl_server_certificate_configuration([pair], roots)


def _server_context(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # Without a function, OpenSSL would ask for a password on the terminal.
    context.load_cert_chain(files.cert, files.key, password=lambda: "")
    if files.client_ca:
        context.load_verify_locations(files.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    if files.client_names:
        context.sslobject_class = _checked(ssl.SSLObject, files.client_names)
        context.sslsocket_class = _checked(ssl.SSLSocket, files.client_names)
    return context


def _checked(base: Any, names: Set[str]) -> Any:
    """Return a class of connections that checks the client's names at the end of the handshake."""

    class Checked(base):  # type: ignore[misc]
        _is_checked = False

        def do_handshake(self, *args: Any, **options: Any) -> None:
            super().do_handshake(*args, **options)
            certificate = self.getpeercert() or {}
            if names.isdisjoint(name for _, name in certificate.get("subjectAltName", ())):
                raise ssl.SSLCertVerificationError("MEMETWIN_TLS_CLIENT_NAMES lists no such client")
            self._is_checked = True

        def recv_into(self, *args: Any, **options: Any) -> Any:
            if not self._is_checked:  # see ``wrap_listener``
                self.do_handshake()
            return super().recv_into(*args, **options)

    return Checked


def _identity(name: str) -> tuple[int, int, int] | None:
    """Return what changes when a file is replaced or written, also behind a symbolic link."""
    try:
        status = os.stat(name)  # noqa: PTH116 - without a Path for every look
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
