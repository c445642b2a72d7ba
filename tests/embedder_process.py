"""An embedder in its own process, as users run it."""

import os
import sys
import tempfile
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
    """Runs until stopped. Its models are loaded once it is constructed.

    Args:
        environment: variables of the process.
        unready: models that the constructor does not wait for.

    Attributes:
        address: address of the gRPC server.
        metrics_address: address of the Prometheus metrics.
        start: seconds from the start of the process until its models were loaded.
    """

    def __init__(self, environment: Mapping[str, str], unready: Collection[str] = ()) -> None:
        self._unready = unready
        self.address = f"127.0.0.1:{reserve_port()}"
        self.metrics_address = f"127.0.0.1:{reserve_port()}"
        addresses = {
            "MEMETWIN_EMBEDDER_LISTEN": self.address,
            "MEMETWIN_METRICS_LISTEN": self.metrics_address,
        }
        self._log = tempfile.NamedTemporaryFile()  # noqa: SIM115 - closed by stop
        started_at = time.perf_counter()
        self.process = processes.start(
            [sys.executable, "-m", "services.embedder"],
            environment={**environment, **addresses},
            errors=self._log,
        )
        self.channel = channel(self.address)
        self.stub = embedder_pb2_grpc.EmbedderServiceStub(self.channel)
        try:
            wait_until(self._is_ready, 300)
        except BaseException:
            self.stop()
            raise
        self.start = time.perf_counter() - started_at

    def embed(self, batch: Sequence[str]) -> bool:
        return bool(self.stub.Embed(request(batch), timeout=120).vectors)

    def cpu(self) -> float:
        """Return the seconds of processor time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    def memory(self) -> float:
        """Return the resident memory in MiB."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

    def log(self) -> str:
        """Return what the process has logged so far."""
        return Path(self._log.name).read_text()

    def stop(self) -> None:
        self.channel.close()
        processes.stop(self.process)
        self._log.close()

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, f"the embedder has ended:\n{self.log()}"
        models = self.stub.ListModels(embedder_pb2.ListModelsRequest()).models
        return all(model.ready for model in models if model.name not in self._unready)


def request(batch: Sequence[str], **options: Any) -> embedder_pb2.EmbedRequest:
    inputs = [embedder_pb2.Input(text=text) for text in batch]
    return embedder_pb2.EmbedRequest(inputs=inputs, **options)
