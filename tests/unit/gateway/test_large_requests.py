import asyncio
import threading

from memetwin.gateway.v1 import cache_pb2
from services.gateway.large_requests import THREAD_BYTES, read


def thread_of(_: cache_pb2.Message) -> int:
    return threading.get_ident()


def test_only_a_large_message_is_read_in_a_thread() -> None:
    small, large = (cache_pb2.Message(content="x" * n) for n in (1, THREAD_BYTES + 1))
    assert asyncio.run(read(thread_of, small)) == threading.get_ident()
    assert asyncio.run(read(thread_of, large)) != threading.get_ident()
