"""The service token between a real client and a real server."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from memetwin.search.v1 import search_pb2, search_pb2_grpc
from services import grpc_channel, service_token
from services.grpc_server import Server, ServiceSpec
from services.service_token import with_token
from services.settings import CommonSettings, SettingError
from tests.refusals import read_refusal

SERVICE = "memetwin.search.v1.SearchService"
UNKNOWN = (grpc.StatusCode.UNAUTHENTICATED, "UNKNOWN_SERVICE_TOKEN")


class Guarded(search_pb2_grpc.SearchServiceServicer):
    """Serves one method of each kind."""

    async def GetCollection(self, request: Any, context: Any) -> Any:  # noqa: N802
        return search_pb2.GetCollectionResponse()

    async def ExportCollection(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        yield search_pb2.ExportCollectionResponse()

    async def UpsertStream(self, requests: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        async for _ in requests:
            yield search_pb2.UpsertStreamResponse()

    async def ImportCollection(self, requests: Any, context: Any) -> Any:  # noqa: N802
        return search_pb2.ImportCollectionResponse(created=len([one async for one in requests]))


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async def ready() -> bool:
        return True

    def register(server: Any) -> None:
        search_pb2_grpc.add_SearchServiceServicer_to_server(Guarded(), server)  # type: ignore[abstract]

    authenticate = service_token.authenticator(CommonSettings(service_token="right"), "50052")
    specs = [ServiceSpec(SERVICE, register, ready, authenticate)]
    async with Server(specs, "127.0.0.1:0") as server:
        yield server


@pytest.mark.parametrize("token", ["", "wrong", "right "])
async def test_calls_without_the_token_are_refused(server: Server, token: str) -> None:
    async with with_token(grpc_channel.dial(f"127.0.0.1:{server.port}"), token) as channel:
        stub: Any = search_pb2_grpc.SearchServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.GetCollection(search_pb2.GetCollectionRequest(name="x"))
        assert read_refusal(caught.value)[:2] == UNKNOWN
        health: Any = health_pb2_grpc.HealthStub(channel)
        reply = await health.Check(health_pb2.HealthCheckRequest(service=SERVICE))
        assert reply.status == health_pb2.HealthCheckResponse.SERVING


async def test_calls_of_each_kind_carry_the_token(server: Server) -> None:
    async with with_token(grpc_channel.dial(f"127.0.0.1:{server.port}"), "right") as channel:
        await channel.channel_ready()
        assert channel.get_state() is grpc.ChannelConnectivity.READY
        stub: Any = search_pb2_grpc.SearchServiceStub(channel)
        get = search_pb2.GetCollectionRequest(name="x")
        assert await stub.GetCollection(get, metadata=(("x-other", "1"),))
        parts = stub.ExportCollection(search_pb2.ExportCollectionRequest(collection="x"))
        assert len([one async for one in parts]) == 1
        upserts = stub.UpsertStream(iter([search_pb2.UpsertStreamRequest()] * 3))
        assert len([one async for one in upserts]) == 3
        imported = await stub.ImportCollection(iter([search_pb2.ImportCollectionRequest()] * 3))
        assert imported.created == 3


def test_a_token_comes_from_a_setting_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret\n")
    for settings, expected in (
        (CommonSettings(), ""),
        (CommonSettings(service_token="secret"), "secret"),
        (CommonSettings(service_token_file=str(file)), "secret"),
    ):
        assert service_token.read_token(settings) == expected
        assert "secret" not in repr(settings)
    file.write_text("\n")
    for settings in (
        CommonSettings(service_token="secret", service_token_file=str(file)),
        CommonSettings(service_token_file=str(file)),
        CommonSettings(service_token_file=str(tmp_path / "absent")),
    ):
        with pytest.raises(SettingError, match="MEMETWIN_SERVICE_TOKEN"):
            service_token.read_token(settings)


@pytest.mark.parametrize(
    ("settings", "listen", "warns"),
    [
        (CommonSettings(), "127.0.0.1:50052", False),
        (CommonSettings(), "0.0.0.0:50052", True),
        (CommonSettings(tls_client_ca="ca.pem"), "0.0.0.0:50052", False),
        (CommonSettings(service_token="x"), "0.0.0.0:50052", False),
    ],
)
def test_a_service_that_is_open_to_all_warns(
    settings: CommonSettings, listen: str, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        authenticate = service_token.authenticator(settings, listen)
    assert (authenticate is None) == (not settings.service_token)
    assert ("MEMETWIN_SERVICE_TOKEN" in caplog.text) == warns
