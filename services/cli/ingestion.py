"""Streams documents to the gateway, and resumes after a broken connection."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import grpc
from tqdm import tqdm

from memetwin.gateway.v1 import rag_pb2, rag_pb2_grpc

CHUNK_BYTES = 2**20
TIMEOUT = 86_400.0
MAX_RETRIES = 5
RETRY_DELAY = 1.0


@dataclass(frozen=True)
class Upload:
    """A document to send. Its content is read when it is sent."""

    header: rag_pb2.IngestHeader
    read: Callable[[], bytes]


def send(
    channel: grpc.Channel, uploads: Sequence[Upload], label: str
) -> Iterator[rag_pb2.IngestDocumentsResponse]:
    """Yield the receipt of each document in order, and show the progress as a bar with a label.

    A file that cannot be read gets a receipt that has no reason, because no service has refused it.

    Raises:
        grpc.RpcError: the gateway refuses the call or stays unreachable.
    """
    stub = rag_pb2_grpc.RagServiceStub(channel)
    done = failures = 0
    unreadable: dict[int, OSError] = {}
    with tqdm(total=len(uploads), desc=label, unit="", disable=None) as bar:
        while done < len(uploads):
            sent: list[int] = []
            try:
                requests = _requests(uploads, done, sent, unreadable)
                replies = stub.IngestDocuments(requests, timeout=TIMEOUT, wait_for_ready=True)
                for number, receipt in enumerate(replies):
                    yield from _unread(uploads[done : sent[number]], done, unreadable)
                    failures, progress = 0, sent[number] + 1 - done
                    done += progress
                    bar.update(progress)
                    yield receipt
                if all(place in unreadable for place in range(done, len(uploads))):
                    yield from _unread(uploads[done:], done, unreadable)
                    bar.update(len(uploads) - done)
                    done = len(uploads)
            except grpc.RpcError as error:
                failures += 1
                if not _is_unavailable(error) or failures > MAX_RETRIES:
                    raise
                time.sleep(RETRY_DELAY)


def _unread(
    uploads: Sequence[Upload], first: int, unreadable: Mapping[int, OSError]
) -> Iterator[rag_pb2.IngestDocumentsResponse]:
    """Yield the receipts of files that cannot be read; ``first`` is the place of the first."""
    for place, upload in enumerate(uploads, first):
        yield rag_pb2.IngestDocumentsResponse(
            id=upload.header.id,
            status=rag_pb2.RECEIPT_STATUS_FAILED,
            message=f"The file cannot be read: {unreadable[place].strerror}.",
        )


def _is_unavailable(error: grpc.RpcError) -> bool:
    return isinstance(error, grpc.Call) and error.code() == grpc.StatusCode.UNAVAILABLE


def _requests(
    uploads: Sequence[Upload], first: int, sent: list[int], unreadable: dict[int, OSError]
) -> Iterator[rag_pb2.IngestDocumentsRequest]:
    """Yield the messages of the documents from ``first`` on.

    It appends the place of each document that it sends to ``sent``.
    """
    for place in range(first, len(uploads)):
        try:
            content = uploads[place].read()
        except OSError as error:
            unreadable[place] = error
            continue
        sent.append(place)
        yield rag_pb2.IngestDocumentsRequest(header=uploads[place].header)
        for start in range(0, len(content), CHUNK_BYTES):
            yield rag_pb2.IngestDocumentsRequest(content=content[start : start + CHUNK_BYTES])
