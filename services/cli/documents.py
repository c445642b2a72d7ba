"""Sends documents to be taken in, and goes on where a broken connection has left off."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import grpc
from tqdm import tqdm

from memetwin.gateway.v1 import rag_pb2, rag_pb2_grpc

PIECE = 2**20
# A stream takes as long as its documents do.
DEADLINE = 86400.0
TRIES = 5


@dataclass(frozen=True)
class Outgoing:
    """A document to send; its content is read when its turn comes."""

    header: rag_pb2.IngestHeader
    content: Callable[[], bytes]


def send(
    channel: grpc.Channel, documents: Sequence[Outgoing], what: str
) -> Iterator[rag_pb2.IngestDocumentsResponse]:
    """Yield the receipt of each document, in order, and show how far it is.

    Raises:
        grpc.RpcError: the stack refuses the call, or stays away.
    """
    stub = rag_pb2_grpc.RagServiceStub(channel)
    done = failures = 0
    with tqdm(total=len(documents), desc=what, unit="", disable=None) as bar:
        while done < len(documents):
            try:
                parts = _parts(documents[done:])
                for receipt in stub.IngestDocuments(parts, timeout=DEADLINE, wait_for_ready=True):
                    done, failures = done + 1, 0
                    bar.update()
                    yield receipt
            except grpc.RpcError as error:
                failures += 1
                if not _may_pass(error) or failures > TRIES:
                    raise
                time.sleep(1.0)


def _may_pass(error: grpc.RpcError) -> bool:
    return isinstance(error, grpc.Call) and error.code() == grpc.StatusCode.UNAVAILABLE


def _parts(documents: Sequence[Outgoing]) -> Iterator[rag_pb2.IngestDocumentsRequest]:
    for document in documents:
        content = document.content()
        yield rag_pb2.IngestDocumentsRequest(header=document.header)
        for first in range(0, len(content), PIECE):
            yield rag_pb2.IngestDocumentsRequest(content=content[first : first + PIECE])
