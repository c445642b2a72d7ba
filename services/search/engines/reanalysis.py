"""Analyses the texts of a collection anew if an earlier version of memetwin has analysed them.

Queries are analysed by the current rules. Until a text is analysed by them too, a query misses
those of its words that the rules split in another way. All rules agree on ASCII.
"""

from collections.abc import Awaitable, Callable, Sequence

from services.search.engines.catalog import Catalog
from services.search.engines.documents import DocumentStore
from services.search.engines.engine import FieldsWrite
from services.search.engines.record import Record
from services.search.text_analysis import stems
from services.search.types import Document
from services.words import ANALYSIS_VERSION

# Batches are small, because Redis answers no other client while a script runs.
_BATCH = 32
WriteFields = Callable[[Record, Sequence[FieldsWrite]], Awaitable[str]]


def analysis_warnings(record: Record) -> list[str]:
    """Return a warning if the texts of a collection are still to be analysed anew."""
    if record.analysis == ANALYSIS_VERSION:
        return []
    return [
        "An earlier version has split the texts into words, and they are being analysed anew."
        " Until this warning ends, text queries and filters may miss words beyond ASCII."
    ]


class Reanalyser:
    """Analyses texts and text fields; ``write_fields`` is the method of their engine."""

    def __init__(
        self, catalog: Catalog, documents: DocumentStore, write_fields: WriteFields
    ) -> None:
        self._catalog = catalog
        self._documents = documents
        self._write_fields = write_fields

    async def run(self, record: Record) -> None:
        """Analyse a collection's texts by the current rules; do nothing if they are.

        It can be interrupted and run again, and several processes can run it at once.
        """
        name = record.collection.name
        after = ""
        is_first = True
        while record.analysis != ANALYSIS_VERSION:
            ids = await self._documents.list_ids(record, after, _BATCH)
            if not ids:
                await self._catalog.update(record, analysis=ANALYSIS_VERSION)
                record = await self._catalog.read(name)
                continue
            documents = [one for one in await self._documents.get(record, ids) if one]
            if is_first and not await self._measure(record, documents):
                record = await self._catalog.read(name)
                continue
            is_first = False
            changed = [one for one in documents if not _is_ascii(one)]
            if await self._analyse(record, changed):
                after = ids[-1]
            else:
                record = await self._catalog.read(name)

    async def _measure(self, record: Record, documents: Sequence[Document]) -> bool:
        """Record the average length of the first texts; return False if the record has changed."""
        lengths = [len(stems(one.text)) for one in documents if one.text]
        if not record.average_length or not lengths or all(map(_is_ascii, documents)):
            return True
        average = sum(lengths) / len(lengths)
        if average == record.average_length:
            return True
        await self._catalog.update(record, average_length=average)
        return False

    async def _analyse(self, record: Record, documents: Sequence[Document]) -> bool:
        """Rewrite the words of documents; return False if the caller must read them again."""
        if not documents:
            return True
        collection = record.collection
        if "text" in record.newest_collection.fields.values():
            writes = [FieldsWrite(one, one.fields) for one in documents]
            if await self._write_fields(record, writes) != "updated":
                return False
        if not collection.index_text:
            return True
        stemmed = [stems(one.text) for one in documents]
        return await self._documents.write_stems(record, documents, stemmed)


def _is_ascii(document: Document) -> bool:
    values = (value for value in document.fields.values() if isinstance(value, str))
    return document.text.isascii() and all(map(str.isascii, values))
