"""The names of a collection's keys in Redis.

All keys of collection ``c`` lie in one hash slot. ``t`` is the time at which the collection was
created, so that a new collection never uses the keys of a deleted one with the same name:

- ``{c}:record``               hash: version, record as JSON
- ``{c}:lease``                lease of the process that reindexes
- ``{c}:<t>:ids``              sorted set: ids of the documents
- ``{c}:<t>:expiries``         sorted set: ids by expiry time in ms
- ``{c}:<t>:vectors:<n>``      vector set of the n-th generation
- ``{c}:<t>:index:<n>``        Query Engine index over the documents, n-th generation
- ``{c}:<t>:document:<id>``    hash: v vector, f fields, t text, p payload, s stems of the text,
                                and the fields of the Query Engine (``query_engine.filter``)
- ``{c}:<t>:term:<stem>``      sorted set: ids by the weight of the stem in their texts
- ``{c}:<t>:pending``          hash: batch of each document that is staged (``batches``)
- ``{c}:<t>:batches``          sorted set: staged batches by the time of their last progress
- ``{c}:<t>:batch:<b>``        sorted set: ids of the documents of a batch that are not yet written
- ``{c}:<t>:staged:<b>:<id>``  hash: v, f, t, p of a staged document and e, its expiry in ms or 0
- ``{c}:<t>:cursor:<id>``      sorted set: ids of a filtered list (``cursors``)
- ``{c}:<t>:scratch``          union of those sets while a text query runs

``{a}:record`` of an alias ``a`` has the field ``alias``, the name of the collection, and no record.
"""

import re
from collections.abc import Iterable

from services.search.engines.record import Index, Record

_ESCAPED = re.compile(r"\\[\\0]")


def record_key(prefix: str, name: str) -> str:
    """Return the key of the record of a collection or an alias."""
    return f"{prefix}search:{{{name}}}:record"


class Keys:
    """The keys of one collection."""

    def __init__(self, prefix: str, record: Record) -> None:
        name = record.collection.name
        self._root = f"{prefix}search:{{{name}}}:{record.created_ns}:"
        self.record = record_key(prefix, name)
        self.lease = f"{prefix}search:{{{name}}}:lease"
        self.ids = self._root + "ids"
        self.expiries = self._root + "expiries"
        self.document_prefix = self._root + "document:"
        self.term_prefix = self._root + "term:"
        self.scratch = self._root + "scratch"
        self.pending = self._root + "pending"
        self.batches = self._root + "batches"
        self.vectors = self.vector_set(record.index)
        self.newest_vectors = self.vector_set(record.newest_index)

    def document(self, document_id: str) -> str:
        """Return the key of a document; NUL is escaped because the Query Engine stops at it."""
        return self.document_prefix + document_id.replace("\\", "\\\\").replace("\0", "\\0")

    def document_id(self, key: bytes) -> str:
        """Return the id of the document at a key."""
        escaped = key.decode()[len(self.document_prefix) :]
        return _ESCAPED.sub(lambda found: "\\" if found[0] == "\\\\" else "\0", escaped)

    def vector_set(self, index: Index) -> str:
        """Return the key of an index's vector set."""
        return f"{self._root}vectors:{index.generation}"

    def search_index(self, index: Index) -> str:
        """Return the name of an index of the Query Engine."""
        return f"{self._root}index:{index.generation}"

    def batch(self, batch: str) -> str:
        """Return the key of the ids of a batch."""
        return f"{self._root}batch:{batch}"

    def staged(self, batch: str, document_id: str) -> str:
        """Return the key of a staged document."""
        return f"{self._root}staged:{batch}:{document_id}"

    def cursor(self, cursor: str) -> str:
        """Return the key of the ids of a filtered list."""
        return f"{self._root}cursor:{cursor}"

    def script_keys(self, ids: Iterable[str]) -> list[str]:
        """Return the keys that ``scripts`` expects, those of documents last."""
        documents = map(self.document, ids)
        return [
            self.record,
            self.ids,
            self.expiries,
            self.vectors,
            self.newest_vectors,
            *documents,
        ]
