"""``memetwin cache load``: loads a file of questions and answers into the cache."""

import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click
import grpc
from tqdm import tqdm

from memetwin.gateway.v1 import cache_pb2, cache_pb2_grpc
from services.cli.channels import gateway_channel
from services.cli.faq_file import Row, read

# The server embeds batches of this size.
BATCH_SIZE = 64
TIMEOUT = 86_400.0
MAX_RETRIES = 5
RETRY_DELAY = 1.0
SHOWN_PROBLEMS = 10
STATUSES = ("created", "replaced", "unchanged", "refused")
MESSAGE_BYTES = 2**18


@click.command(name="load")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--namespace", default="", help="Namespace of the entries.")
@click.option("--user", default="", help="User of the entries. By default, all users share them.")
@click.option("--tenant", default="", help="Tenant of the entries, if the gateway has no keys.")
@click.option("--model", default="", help="Language model of entries that name none.")
@click.option("--ttl", default=0.0, help="Seconds to live of entries that name none; 0: no limit.")
@click.pass_obj
def load_file(gateway: str, /, file: Path, model: str, ttl: float, **scope: str) -> None:
    """Load the questions and answers in a FILE as curated entries of the cache.

    The FILE has JSON lines, or CSV with a header. Its fields are prompt (or question), response
    (or answer), model, ttl, cites and metadata. All other fields are stored as metadata. A repeated
    load replaces what has changed.
    """
    summary = Summary()
    try:
        with gateway_channel(gateway) as channel, tqdm(unit=" entries", disable=None) as bar:
            rows = _with_defaults(read(file), model, ttl)
            for row, receipt in send(channel, cache_pb2.Scope(**scope), rows):
                bar.update()
                summary.add(row, receipt)
    finally:
        summary.show()
    if summary.counts["refused"]:
        raise click.exceptions.Exit(1)


@dataclass
class Summary:
    """The number of entries by status, and the first problems."""

    started: float = field(default_factory=time.monotonic)
    counts: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def add(self, row: Row, receipt: cache_pb2.LoadReceipt) -> None:
        """Add the receipt of a row."""
        status = cache_pb2.LoadStatus.Name(receipt.status).rpartition("_")[2].lower()
        self.counts[status] += 1
        if status == "refused" and len(self.problems) < SHOWN_PROBLEMS:
            reason = f" ({receipt.reason})" if receipt.reason else ""
            self.problems.append(f"line {row.line}: {receipt.message}{reason}")

    def show(self) -> None:
        """Print the summary."""
        seconds = time.monotonic() - self.started
        figures = ", ".join(f"{self.counts[status]} {status}" for status in STATUSES)
        rate = self.counts.total() / max(seconds, 1e-9)
        click.echo(f"entries: {figures} in {seconds:.1f} s ({rate:.0f} per second)")
        for problem in self.problems:
            click.echo(f"  refused: {problem}", err=True)
        if self.counts["refused"] > len(self.problems):
            click.echo(f"  and {self.counts['refused'] - len(self.problems)} more", err=True)


def send(
    channel: grpc.Channel, scope: cache_pb2.Scope, rows: Iterator[Row]
) -> Iterator[tuple[Row, cache_pb2.LoadReceipt]]:
    """Yield the receipt of each row. It resumes after a broken connection.

    Raises:
        grpc.RpcError: the gateway refuses the call or stays unreachable.
    """
    stub = cache_pb2_grpc.CacheServiceStub(channel)
    outbox, failures = _Outbox(rows), 0
    while True:
        try:
            requests = outbox.start(scope)
            for reply in stub.LoadEntries(requests, timeout=TIMEOUT, wait_for_ready=True):
                failures = 0
                for receipt in reply.receipts:
                    yield from outbox.confirm(receipt)
        except grpc.RpcError as error:
            failures += 1
            if not _is_unavailable(error) or failures > MAX_RETRIES:
                raise
            time.sleep(RETRY_DELAY)
        else:
            yield from outbox.confirm(None)
            outbox.check()
            return


class _Outbox:
    """The rows that are not confirmed yet. A new stream sends them again.

    gRPC reads the requests of a stream in another thread, possibly also after the stream has
    broken.
    """

    def __init__(self, rows: Iterator[Row]) -> None:
        self._rows = rows
        self._pending: deque[Row] = deque()
        self._unsent: Iterator[Row] = iter(())
        self._stream = 0
        self._lock = threading.Lock()
        self._failure: Exception | None = None

    def start(self, scope: cache_pb2.Scope) -> Iterator[cache_pb2.LoadEntriesRequest]:
        """Return the requests of a new stream, which begin with the rows that are not confirmed."""
        with self._lock:
            self._stream += 1
            self._unsent = iter(list(self._pending))
            return self._requests(self._stream, scope)

    def confirm(
        self, receipt: cache_pb2.LoadReceipt | None
    ) -> Iterator[tuple[Row, cache_pb2.LoadReceipt]]:
        """Yield the next entry's receipt, after those of the bad lines before it.

        At the end, without a receipt, it yields those of the last bad lines.
        """
        with self._lock:
            confirmed = []
            while self._pending:
                row = self._pending[0]
                if row.entry and receipt is None:
                    break
                self._pending.popleft()
                if row.entry and receipt is not None:
                    confirmed.append((row, receipt))
                    break
                refused = cache_pb2.LoadReceipt(
                    status=cache_pb2.LOAD_STATUS_REFUSED, message=row.problem
                )
                confirmed.append((row, refused))
        yield from confirmed

    def check(self) -> None:
        """Raise the error that ended the reading of the rows."""
        if self._failure:
            raise self._failure

    def _requests(
        self, stream: int, scope: cache_pb2.Scope
    ) -> Iterator[cache_pb2.LoadEntriesRequest]:
        while rows := self._next(stream):
            entries = [row.entry for row in rows if row.entry]
            yield cache_pb2.LoadEntriesRequest(scope=scope, entries=entries)

    def _next(self, stream: int) -> list[Row]:
        with self._lock:
            if stream != self._stream:
                return []
            rows: list[Row] = []
            _take(self._unsent, rows)
            if not rows:
                try:
                    _take(self._rows, rows)
                except Exception as error:  # the main thread raises it
                    self._failure = error
                self._pending += rows
            return rows


def _take(rows: Iterator[Row], taken: list[Row]) -> None:
    """Append the rows of the next message to a list."""
    size = 0
    for row in rows:
        taken.append(row)
        size += row.entry.ByteSize() if row.entry else 0
        if len(taken) == BATCH_SIZE or size >= MESSAGE_BYTES:
            break


def _with_defaults(rows: Iterator[Row], model: str, ttl: float) -> Iterator[Row]:
    for row in rows:
        if row.entry:
            row.entry.model = row.entry.model or model
            row.entry.ttl = row.entry.ttl or ttl
        yield row


def _is_unavailable(error: grpc.RpcError) -> bool:
    return isinstance(error, grpc.Call) and error.code() == grpc.StatusCode.UNAVAILABLE
