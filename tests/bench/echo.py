"""A bare gRPC server that returns each request: ``python -m tests.bench.echo HOST:PORT``."""

import sys
from typing import Any

import grpc
import uvloop

METHOD = "/bench.Echo/Say"


async def say(request: bytes, context: Any) -> bytes:
    return request


async def main() -> None:
    server = grpc.aio.server()
    handler = grpc.method_handlers_generic_handler(
        "bench.Echo", {"Say": grpc.unary_unary_rpc_method_handler(say)}
    )
    server.add_generic_rpc_handlers((handler,))
    server.add_insecure_port(sys.argv[1])
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(main())
