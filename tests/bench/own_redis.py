"""The Redis that a benchmark uses."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.redis_server import RedisServer


@contextlib.contextmanager
def redis_url(option: str | None) -> Iterator[str]:
    """Yield the URL of `option`, or of a server that runs until the end of the benchmark."""
    if option:
        yield option
        return
    with tempfile.TemporaryDirectory() as folder:
        server = RedisServer(Path(folder))
        try:
            yield server.url
        finally:
            server.stop()
