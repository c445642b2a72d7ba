import itertools
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from services import tls
from services.settings import SettingError, TlsFiles
from tests.certificates import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def always_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "CHECK_INTERVAL", 0.0)


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> bytes:
    """Return the certificate that a server shows, after a handshake in memory."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(to_client, to_server, server_hostname="localhost"),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    waiting = list(sides)
    while waiting:
        for side in list(waiting):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            waiting.remove(side)
    if client.verify_mode == ssl.CERT_REQUIRED:
        sides[1].write(b"x")  # the client of TLS 1.3 sees a refusal of its certificate here
        sides[0].read(1)
    return sides[0].getpeercert(binary_form=True) or b""


def client_of(authority: Authority, *, with_certificate: bool = True) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.ca))
    if with_certificate:
        context.load_cert_chain(authority.files.cert, authority.files.key)
    return context


@pytest.mark.usefixtures("always_look")
def test_a_replaced_certificate_is_shown_to_new_connections(authority: Authority) -> None:
    server = tls.ServerContext.of(authority.files)
    first = handshake(server, client_of(authority))
    assert handshake(server, client_of(authority)) == first
    authority.replace()
    second = handshake(server, client_of(authority))
    assert second != first


@pytest.mark.usefixtures("always_look")
def test_half_a_replacement_keeps_the_old_certificate(authority: Authority) -> None:
    server = tls.ServerContext.of(authority.server_files)
    client = client_of(authority, with_certificate=False)
    key, cert = (Path(name).read_bytes() for name in (authority.files.key, authority.files.cert))
    first = handshake(server, client)
    authority.replace()
    new = Path(authority.files.cert).read_bytes()
    Path(authority.files.cert).write_bytes(cert)
    assert handshake(server, client) == first
    Path(authority.files.cert).unlink()
    assert handshake(server, client) == first
    Path(authority.files.cert).write_bytes(new)
    assert handshake(server, client) != first
    Path(authority.files.key).write_bytes(key)
    assert handshake(server, client) != first


def test_files_are_not_looked_at_for_every_connection(authority: Authority) -> None:
    numbers = itertools.count()
    watched = tls.Watched(authority.files.names, lambda: next(numbers))
    authority.replace()
    assert watched.get() == watched.get() == 0


def test_a_client_of_another_authority_is_refused(authority: Authority, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    stranger = client_of(authority, with_certificate=False)
    other = Authority(tmp_path / "other").files
    stranger.load_cert_chain(other.cert, other.key)
    server = tls.ServerContext.of(authority.files)
    for client in (stranger, client_of(authority, with_certificate=False)):
        with pytest.raises(ssl.SSLError):
            handshake(server, client)
    server = tls.ServerContext.of(authority.server_files)
    assert handshake(server, client_of(authority, with_certificate=False))


def test_a_client_needs_one_of_the_allowed_names(authority: Authority) -> None:
    client = client_of(authority)
    named = replace(authority.files, client_names=frozenset({"gateway.example", "localhost"}))
    assert handshake(tls.ServerContext.of(named), client)
    others = replace(authority.files, client_names=frozenset({"gateway.example", "local"}))
    with pytest.raises(ssl.SSLCertVerificationError, match="MEMETWIN_TLS_CLIENT_NAMES"):
        handshake(tls.ServerContext.of(others), client)


@pytest.mark.parametrize("name", ["localhost", "gateway.example"])
def test_a_listener_checks_names_before_it_reads(authority: Authority, name: str) -> None:
    files = replace(authority.files, client_names=frozenset({name}))
    with socket.create_server(("127.0.0.1", 0)) as plain, ThreadPoolExecutor() as pool:
        listener = tls.ServerContext.of(files).wrap_listener(plain)

        def serve() -> bytes:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as stream:
                return stream.readline()

        served = pool.submit(serve)
        with (
            socket.create_connection(listener.getsockname()[:2]) as raw,
            client_of(authority).wrap_socket(raw, server_hostname="localhost") as client,
        ):
            client.sendall(b"GET\n")
            if name == "localhost":
                assert served.result() == b"GET\n"
            else:
                with pytest.raises(ssl.SSLCertVerificationError):
                    served.result()
        listener.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": ""}, "Set both"),
        ({"cert": "", "key": ""}, "needs MEMETWIN_TLS_CERT"),
        ({"client_ca": "", "client_names": frozenset({"x"})}, "needs MEMETWIN_TLS_CLIENT_CA"),
        ({"cert": "none.pem"}, "not valid"),
        ({"ca": "none.pem"}, "not valid"),
        ({"ca": __file__}, "not valid"),
        ({"key": __file__}, "not valid"),
    ],
)
def test_settings_that_do_not_fit_are_refused(
    authority: Authority, change: dict[str, Any], message: str
) -> None:
    names = vars(authority.files) | change
    with pytest.raises(SettingError, match=message):
        tls.validate(TlsFiles(**names))


def test_settings_that_fit_are_accepted(authority: Authority) -> None:
    for files in (TlsFiles(), authority.files, authority.server_files, authority.client_files):
        tls.validate(files)
