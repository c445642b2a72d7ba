import asyncio
from pathlib import Path

import pytest

from services import grpc_server, probe
from services.settings import CommonSettings, TlsFiles
from tests.certificates import Authority


async def exit_code(address: str, name: str) -> int:
    return await asyncio.to_thread(probe.main, [address, name])


async def test_the_exit_code_is_the_health(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = Authority(tmp_path).files
    for name in ("CERT", "KEY", "CA"):
        monkeypatch.setenv(f"MEMETWIN_TLS_{name}", getattr(files, name.lower()))
    settings = CommonSettings(tls_cert=files.cert, tls_key=files.key, tls_client_ca=files.client_ca)
    async with grpc_server.Server([], "127.0.0.1:0", settings=settings) as server:
        address = f"localhost:{server.port}"
        assert await exit_code(address, "liveness") == 0
        assert await exit_code(address, "readiness") == 1  # it has no service
        assert await exit_code(address, "unknown") == 1
        for other in (TlsFiles(), TlsFiles(ca=files.ca)):
            assert not await asyncio.to_thread(probe.is_serving, address, "liveness", other)
    assert await exit_code(address, "liveness") == 1
