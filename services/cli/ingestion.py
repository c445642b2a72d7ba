"""Streams documents to the gateway, and resumes after a broken connection."""

import time
from collections.abc import Callable, Iterator, Sequence
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

    Raises:
        grpc.RpcError: the gateway refuses the call or stays unreachable.
    """
    stub = rag_pb2_grpc.RagServiceStub(channel)
    done = failures = 0
    with tqdm(total=len(uploads), desc=label, unit="", disable=None) as bar:
        while done < len(uploads):
            try:
                requests = _requests(uploads[done:])
                for receipt in stub.IngestDocuments(requests, timeout=TIMEOUT, wait_for_ready=True):
                    done, failures = done + 1, 0
                    bar.update()
                    yield receipt
            except grpc.RpcError as error:
                failures += 1
                if not _is_unavailable(error) or failures > MAX_RETRIES:
                    raise
                time.sleep(RETRY_DELAY)


def _is_unavailable(error: grpc.RpcError) -> bool:
    return isinstance(error, grpc.Call) and error.code() == grpc.StatusCode.UNAVAILABLE


def _requests(uploads: Sequence[Upload]) -> Iterator[rag_pb2.IngestDocumentsRequest]:
    for upload in uploads:
        content = upload.read()
        yield rag_pb2.IngestDocumentsRequest(header=upload.header)
        for start in range(0, len(content), CHUNK_BYTES):
            yield rag_pb2.IngestDocumentsRequest(content=content[start : start + CHUNK_BYTES])
