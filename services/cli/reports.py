"""The outcome of a load, with a line for each file."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from memetwin.gateway.v1 import rag_pb2

_OUTCOMES = {
    rag_pb2.RECEIPT_STATUS_CREATED: "created",
    rag_pb2.RECEIPT_STATUS_UPDATED: "updated",
    rag_pb2.RECEIPT_STATUS_UNCHANGED: "unchanged",
    rag_pb2.RECEIPT_STATUS_FAILED: "failed",
}


@dataclass
class Report:
    """The outcome of a load.

    Attributes:
        kind: what was loaded, for example ``pictures``.
        unchanged: number of items that the stack already had.
        removed: number of items that were deleted because their files are gone.
        problems: one line for each item that failed.
        warnings: one line for each warning about an item that was loaded.
        receipts: one line for each item that did not fail.
        skipped: number of files and folders by why they were passed over.
    """

    kind: str
    loaded: int = 0
    unchanged: int = 0
    removed: int = 0
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    receipts: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    def add(self, receipts: Iterable[rag_pb2.IngestDocumentsResponse]) -> Self:
        """Add the receipts of documents, and return this report."""
        for receipt in receipts:
            if receipt.status == rag_pb2.RECEIPT_STATUS_FAILED:
                reason = f" ({receipt.reason})" if receipt.reason else ""
                self.problems.append(f"{receipt.id}: {receipt.message}{reason}")
            else:
                self.record(receipt.id, _OUTCOMES.get(receipt.status, "created"))
            self.warnings += [f"{receipt.id}: {warning}" for warning in receipt.warnings]
        return self

    def record(self, name: str, outcome: str) -> None:
        """Record that an item is ``created``, ``updated``, ``unchanged`` or ``removed``."""
        self.receipts.append(f"{outcome}: {name}")
        if outcome == "unchanged":
            self.unchanged += 1
        elif outcome == "removed":
            self.removed += 1
        else:
            self.loaded += 1

    def skip(self, name: str, why: str) -> None:
        """Record that a file was passed over, for example because it is a picture."""
        self.receipts.append(f"skipped: {name}: {why}")
        self.skipped[why] += 1

    @property
    def failed(self) -> bool:
        """Whether there were problems and no item is in the stack."""
        return bool(self.problems) and not self.loaded and not self.unchanged

    def summary(self) -> str:
        """Return the report as one line."""
        parts = [
            f"{self.loaded} loaded",
            f"{self.unchanged} unchanged",
            f"{len(self.problems)} failed",
        ]
        if self.removed:
            parts.append(f"{self.removed} removed")
        if total := self.skipped.total():
            each = ", ".join(f"{count} {why}" for why, count in sorted(self.skipped.items()))
            parts.append(f"{total} skipped ({each})")
        return f"{self.kind}: {', '.join(parts)}"
