"""TLS between the services and Redis."""

import shutil
import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from services import redis_client, tls
from services.errors import InvalidArgument
from services.settings import TlsFiles
from tests import processes
from tests.certificates import Authority
from tests.conftest import leave_out
from tests.ports import reserve_port


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def secure_redis(authority: Authority, tmp_path: Path) -> Iterator[str]:
    """The URL of a Redis that admits only clients with a certificate."""
    command, files = shutil.which("redis-server"), authority.files
    if not command:
        leave_out("no redis-server for TLS")
    port = reserve_port()
    options = {
        "--port": "0",
        "--tls-port": str(port),
        "--tls-cert-file": files.cert,
        "--tls-key-file": files.key,
        "--tls-ca-cert-file": files.ca,
        "--dir": str(tmp_path),
        "--save": "",
    }
    arguments = [part for option in options.items() for part in option]
    process = processes.start([str(command), *arguments], output=-3)
    url = f"rediss://127.0.0.1:{port}"
    ready = {"ssl_ca_certs": files.ca, "ssl_certfile": files.cert, "ssl_keyfile": files.key}
    end = time.monotonic() + 60
    while True:
        try:
            with redis.Redis.from_url(url, **ready) as client:
                client.ping()
            break
        except redis.RedisError:
            assert time.monotonic() < end
            time.sleep(0.02)
    yield url
    processes.kill(process)


async def ping(url: str, files: TlsFiles | None) -> Any:
    client = redis_client.connect(url, max_connections=2, timeout=10, files=files)
    try:
        return await client.ping()
    finally:
        await redis_client.close(client)


async def test_redis_is_dialled_with_the_certificates_of_the_process(
    secure_redis: str, authority: Authority
) -> None:
    assert await ping(secure_redis, authority.files)
    for files in (None, authority.client_files):
        with pytest.raises(redis.ConnectionError):
            await ping(secure_redis, files)


async def test_the_files_of_the_url_replace_those_of_the_process(
    secure_redis: str, authority: Authority, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other, own = Authority(tmp_path / "other").files, authority.files
    options = f"ssl_ca_certs={own.ca}&ssl_certfile={own.cert}&ssl_keyfile={own.key}"
    assert await ping(f"{secure_redis}?{options}", other)
    with pytest.raises(InvalidArgument, match="not valid"):
        await ping(f"{secure_redis}?ssl_ca_certs=none.pem", own)


async def test_a_new_connection_uses_a_new_certificate(
    secure_redis: str, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tls, "CHECK_INTERVAL", 0.0)
    loaded: list[Any] = []
    load = ssl.SSLContext.load_cert_chain

    def record(context: ssl.SSLContext, *args: Any, **options: Any) -> None:
        loaded.append(args)
        load(context, *args, **options)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", record)
    client = redis_client.connect(
        secure_redis, max_connections=2, timeout=10, files=authority.files
    )
    for expected in (1, 1, 2):
        if expected > 1:
            authority.replace()
        assert await client.ping()
        assert len(loaded) == expected
        await client.connection_pool.disconnect()
    await redis_client.close(client)
