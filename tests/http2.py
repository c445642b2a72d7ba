"""A client that sends frames of HTTP/2 that no gRPC client sends."""

import asyncio
from typing import Any

import h2.config
import h2.connection


class RawClient:
    """A client that sends any frames of HTTP/2."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.ended: dict[int, dict[str, str]] = {}

    async def __aenter__(self) -> "RawClient":
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._h2.initiate_connection()
        self.flush()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._writer.close()

    def flush(self) -> None:
        self._writer.write(self._h2.data_to_send())

    def begin(self, method: str) -> int:
        """Send the headers of a call, and return the number of its stream."""
        stream: int = self._h2.get_next_available_stream_id()
        headers = {
            ":method": "POST",
            ":scheme": "http",
            ":path": method,
            ":authority": "localhost",
            "te": "trailers",
            "content-type": "application/grpc",
        }
        self._h2.send_headers(stream, list(headers.items()))
        return stream

    def send(self, stream: int, data: bytes) -> None:
        self._h2.send_data(stream, data)

    def reset(self, stream: int) -> None:
        self._h2.reset_stream(stream)

    async def drain(self) -> None:
        """Send what is buffered, and answer what the server has sent."""
        self.flush()
        await self._writer.drain()
        while True:
            try:
                async with asyncio.timeout(0.001):
                    data = await self._reader.read(2**16)
            except TimeoutError:
                break
            if not data:
                raise ConnectionResetError
            self._h2.receive_data(data)
        self.flush()

    async def trailers(self, stream: int) -> dict[str, str]:
        """Wait until a call ends, and return its trailers."""
        while stream not in self.ended:
            data = await self._reader.read(2**16)
            assert data, "the server has closed the connection"
            event: Any
            for event in self._h2.receive_data(data):
                headers = dict(getattr(event, "headers", None) or {})
                if "grpc-status" in headers:
                    self.ended[event.stream_id] = headers
            self.flush()
        return self.ended[stream]
