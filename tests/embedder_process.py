"""An embedder in a process of its own, as users run it."""

import os
import subprocess
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from memetwin.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from tests import processes
from tests.ports import reserve_port
from tests.stack import channel, wait_until

_TICKS = os.sysconf("SC_CLK_TCK")


class EmbedderProcess:
    """Runs until stopped; ready once it is made, after ``start`` seconds.

    It does not wait for the models in ``unready``.
    """

    def __init__(self, environment: Mapping[str, str], unready: Collection[str] = ()) -> None:
        self._unready = unready
        self.address = f"127.0.0.1:{reserve_port()}"
        started = time.perf_counter()
        self.process = processes.start(
            [sys.executable, "-m", "services.embedder"],
            environment={**environment, "MEMETWIN_EMBEDDER_LISTEN": self.address},
            errors=subprocess.DEVNULL,
        )
        self.channel = channel(self.address)
        self.stub = embedder_pb2_grpc.EmbedderServiceStub(self.channel)
        try:
            wait_until(self._ready, 300)
        except BaseException:
            self.stop()
            raise
        self.start = time.perf_counter() - started

    def embed(self, batch: Sequence[str]) -> bool:
        return bool(self.stub.Embed(request(batch), timeout=120).vectors)

    def cpu(self) -> float:
        """Seconds of processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory(self) -> float:
        """Resident MiB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def stop(self) -> None:
        self.channel.close()
        processes.stop(self.process)

    def _ready(self) -> bool:
        assert self.process.poll() is None, "the embedder has ended"
        models = self.stub.ListModels(embedder_pb2.ListModelsRequest()).models
        return all(model.ready for model in models if model.name not in self._unready)


def request(batch: Sequence[str], **options: Any) -> embedder_pb2.EmbedRequest:
    inputs = [embedder_pb2.Input(text=text) for text in batch]
    return embedder_pb2.EmbedRequest(inputs=inputs, **options)
