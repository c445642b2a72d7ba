"""Reads the messages of an UpsertStream; what is wrong with one document spoils no other."""

from collections.abc import AsyncIterator, Sequence

from memetwin.search.v1 import search_pb2
from services.errors import Failure, InvalidArgument
from services.search import messages
from services.search.service import Collections
from services.search.types import Collection, Document, check_name
from services.search.upsert_stream import Item
from services.search.validation import check_document, check_new, check_size


class Upload:
    """One stream to one collection."""

    def __init__(
        self, requests: AsyncIterator[search_pb2.UpsertStreamRequest], collections: Collections
    ) -> None:
        self._requests = requests
        self._collections = collections
        self._name = ""

    async def batches(self) -> AsyncIterator[Sequence[Item]]:
        """Return the documents of each message. Raises InvalidArgument for a bad message."""
        async for request in self._requests:
            if not self._name:
                check_name(request.collection, "collection")
                collection = await self._collections.collection(request.collection)
                collection.check_model(request.model_digest)
                self._name = request.collection
            elif request.collection not in ("", self._name):
                raise InvalidArgument(
                    "BAD_SEQUENCE", "A stream writes to one collection.", field="collection"
                )
            check_size(request.documents)
            collection = await self._collections.collection(self._name, fresh=False)
            seen: set[str] = set()
            yield [
                (message.id, _read(message, collection, f"documents[{number}]", seen))
                for number, message in enumerate(request.documents)
            ]

    async def write(self, documents: Sequence[Document]) -> list[bool]:
        """Write documents; return for each whether it is new."""
        collection = await self._collections.collection(self._name, fresh=False)
        return await self._collections.upsert(collection, documents)


def _read(
    message: search_pb2.Document, collection: Collection, place: str, seen: set[str]
) -> Document | Failure:
    try:
        document = messages.read_document(message, collection, place)
        check_document(document, collection, place)
        check_new(document.id, seen, f"{place}.id")
    except Failure as failure:
        return failure
    return document
