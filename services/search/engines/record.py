"""The record of a collection in the catalog."""

import json
import time
from dataclasses import asdict, dataclass
from typing import Any

from services.search import metric_transforms
from services.search.metric_transforms import MetricTransform
from services.search.types import Collection
from services.words import ANALYSIS_VERSION


@dataclass(frozen=True)
class Index:
    """One generation of a collection's index; ``max_norm`` is 0 until vectors are known."""

    generation: int = 1
    max_norm: float = 0.0
    scale: float = 0.0

    def transform(self, metric: str) -> MetricTransform:
        """Return the transform of the vectors that the index stores."""
        return metric_transforms.metric_transform(metric, self.max_norm, self.scale)


@dataclass(frozen=True)
class Record:
    """A collection as the catalog stores it.

    Attributes:
        created_ns: nanoseconds since 1970 at which the collection was created.
        version: a number that increases with every update.
        index: the index that answers queries.
        building: the index that a reindex is building, if one is running.
        target: the collection after the running change; None if the collection stays as it is.
        expiring: some documents have a TTL.
        average_length: average number of stems of the first texts; 0 before there are texts.
        analysis: the version of the rules by which all texts have been split into words.
    """

    collection: Collection
    created_ns: int = 0
    version: int = 0
    index: Index = Index()
    building: Index | None = None
    target: Collection | None = None
    expiring: bool = False
    average_length: float = 0.0
    analysis: int = ANALYSIS_VERSION

    @property
    def age_seconds(self) -> float:
        """Seconds since the collection was created."""
        return (time.time_ns() - self.created_ns) / 1e9

    @property
    def newest_index(self) -> Index:
        """The index that is being built, or the one that answers if none is."""
        return self.building or self.index

    @property
    def newest_collection(self) -> Collection:
        """The collection that the newest index belongs to."""
        return self.target or self.collection

    @property
    def transform(self) -> MetricTransform:
        """The transform of the index that answers."""
        return self.index.transform(self.collection.transformed_metric)

    @property
    def newest_transform(self) -> MetricTransform:
        """The transform of the newest index."""
        return self.newest_index.transform(self.newest_collection.transformed_metric)


# Records in Redis have these names of attributes from earlier versions.
_STORED_NAMES = {"created_ns": "born", "reduced_dimensions": "reduced"}
_ATTRIBUTES = {stored: name for name, stored in _STORED_NAMES.items()}


def dump_record(record: Record) -> str:
    """Encode a record as JSON."""
    return json.dumps(_renamed(asdict(record), _STORED_NAMES), separators=(",", ":"))


def load_record(text: bytes, version: int) -> Record:
    """Decode a record from JSON."""
    data = _renamed(json.loads(text), _ATTRIBUTES)
    building, target = data["building"], data.get("target")
    return Record(
        collection=Collection(**data["collection"]),
        created_ns=data["created_ns"],
        version=version,
        index=Index(**data["index"]),
        building=Index(**building) if building else None,
        target=Collection(**target) if target else None,
        expiring=data["expiring"],
        average_length=data.get("average_length", 0.0),
        analysis=data.get("analysis", 1),
    )


def _renamed(data: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    """Rename keys of the record and of the collections in it, but not of their fields."""
    return {
        names.get(key, key): (
            _renamed(value, names)
            if key in ("collection", "target") and isinstance(value, dict)
            else value
        )
        for key, value in data.items()
    }
