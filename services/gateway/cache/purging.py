"""Selects what a purge deletes, and records the purge."""

from dataclasses import dataclass
from typing import Any

from services.errors import InvalidArgument
from services.gateway.cache.types import Entry

# A record of a purge keeps this many of the cited sources, and this much of each text.
_RECORDED_CITES = 32
_RECORDED_LENGTH = 256


@dataclass(frozen=True)
class PurgeRequest:
    """Selects the entries that meet every condition that is set.

    Attributes:
        cites: the entry cites at least one of these.
        older_than: the entry is older than this many seconds.
        fingerprint: the entry has this context fingerprint.
        prompt_contains: the entry's prompt contains this text, in any letter case.
        curated: whether the entry is curated; None for both kinds.
        force: delete the entries; without it a purge only counts them.
        everything: allow ``force`` without a condition.
    """

    cites: frozenset[str] = frozenset()
    older_than: float | None = None
    fingerprint: str = ""
    prompt_contains: str = ""
    curated: bool | None = None
    force: bool = False
    everything: bool = False

    def validate(self) -> None:
        """Check that the purge does not delete everything by mistake.

        Raises:
            InvalidArgument: the purge would delete everything and ``everything`` is not set.
        """
        has_condition = bool(self.cites or self.fingerprint or self.prompt_contains)
        has_condition |= self.older_than is not None or self.curated is not None
        if self.force and not (self.everything or has_condition):
            raise InvalidArgument(
                "EMPTY_FILTER",
                "The filter is empty and would delete everything. Set a condition, or set all.",
                field="filter",
            )

    def matches(self, entry: Entry) -> bool:
        """Return whether an entry meets every condition that is set."""
        return (
            (not self.cites or not self.cites.isdisjoint(entry.cites))
            and (self.older_than is None or entry.age > self.older_than)
            and self.fingerprint in ("", entry.fingerprint)
            and self.prompt_contains.lower() in entry.prompt.lower()
            and self.curated in (None, entry.is_curated)
        )

    def filter_record(self) -> dict[str, Any]:
        """Return the conditions as plain data, by the field names of the API's PurgeFilter.

        Of long conditions, it returns only the beginning.
        """
        record = {
            "cites": [one[:_RECORDED_LENGTH] for one in sorted(self.cites)[:_RECORDED_CITES]],
            "older_than": self.older_than,
            "context_fingerprint": self.fingerprint[:_RECORDED_LENGTH],
            "prompt_contains": self.prompt_contains[:_RECORDED_LENGTH],
        }
        # Gateways of earlier versions cannot read this field.
        return record if self.curated is None else record | {"curated": self.curated}


@dataclass(frozen=True)
class PurgeRecord:
    """A purge that took place, as Redis stores it (so the field names must not change).

    Attributes:
        time: seconds since 1970.
        key: name of the API key that purged; empty if the gateway requires no keys.
        filter: the conditions, see ``PurgeRequest.filter_record``.
        count: how many entries were deleted.
    """

    time: float
    key: str
    filter: dict[str, Any]
    count: int
