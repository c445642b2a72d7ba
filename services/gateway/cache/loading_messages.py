"""Reads the messages of LoadEntries into plain data, and writes its receipts."""

from collections.abc import Sequence

from memetwin.gateway.v1 import cache_pb2
from services.gateway.cache.loading import CuratedEntry, LoadReceipt
from services.gateway.cache.messages import check_count


def entries_from_message(message: cache_pb2.LoadEntriesRequest) -> list[CuratedEntry]:
    """Read the entries of a message.

    Raises:
        InvalidArgument: the message has too many values.
    """
    check_count(message.entries, "entries")
    values = sum(len(entry.cites) + len(entry.metadata) for entry in message.entries)
    check_count(range(values), "entries.cites and entries.metadata")
    return [
        CuratedEntry(
            entry.prompt,
            entry.response,
            entry.model,
            entry.ttl,
            list(entry.cites),
            dict(entry.metadata),
        )
        for entry in message.entries
    ]


def receipts_to_message(receipts: Sequence[LoadReceipt]) -> cache_pb2.LoadEntriesResponse:
    """Write receipts."""
    return cache_pb2.LoadEntriesResponse(receipts=map(_receipt_to_message, receipts))


def _receipt_to_message(receipt: LoadReceipt) -> cache_pb2.LoadReceipt:
    return cache_pb2.LoadReceipt(
        status=cache_pb2.LoadStatus.Value(f"LOAD_STATUS_{receipt.status.upper()}"),
        id=receipt.id,
        reason=receipt.failure.reason if receipt.failure else "",
        message=receipt.failure.message if receipt.failure else "",
    )
