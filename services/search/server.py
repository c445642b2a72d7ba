"""The search service's gRPC face: translates and calls, nothing else."""

from typing import Any

from memetwin.search.v1 import search_pb2, search_pb2_grpc
from services.errors import Aborted, FailedPrecondition, InvalidArgument
from services.search import messages
from services.search.collections import Collections, check_count, check_documents
from services.search.schema import Query, check_name


class SearchServicer(search_pb2_grpc.SearchServiceServicer):
    """SearchService over collections."""

    def __init__(self, collections: Collections) -> None:
        self._collections = collections

    async def CreateCollection(
        self, request: search_pb2.CreateCollectionRequest, context: Any
    ) -> search_pb2.CreateCollectionResponse:
        """Create a collection."""
        described = await self._collections.create(messages.read_collection(request.collection))
        return search_pb2.CreateCollectionResponse(collection=messages.write_collection(described))

    async def GetCollection(
        self, request: search_pb2.GetCollectionRequest, context: Any
    ) -> search_pb2.GetCollectionResponse:
        """Describe a collection and the server behind it."""
        check_name(request.name, "name")
        return search_pb2.GetCollectionResponse(
            collection=messages.write_collection(await self._collections.describe(request.name)),
            server=messages.write_server(await self._collections.server()),
        )

    async def ListCollections(
        self, request: search_pb2.ListCollectionsRequest, context: Any
    ) -> search_pb2.ListCollectionsResponse:
        """List collections."""
        page, token = await self._collections.page(request.page_size, request.page_token)
        return search_pb2.ListCollectionsResponse(
            collections=map(messages.write_collection, page), next_page_token=token
        )

    async def DeleteCollection(
        self, request: search_pb2.DeleteCollectionRequest, context: Any
    ) -> search_pb2.DeleteCollectionResponse:
        """Delete a collection."""
        check_name(request.name, "name")
        count = await self._collections.drop(request.name)
        return search_pb2.DeleteCollectionResponse(document_count=count)

    async def UpsertDocuments(
        self, request: search_pb2.UpsertDocumentsRequest, context: Any
    ) -> search_pb2.UpsertDocumentsResponse:
        """Write documents."""
        check_name(request.collection, "collection")
        collection = await self._collections.collection(request.collection)
        collection.check_model(request.model_digest)
        documents = messages.read_documents(request.documents, collection)
        check_documents(documents, collection)
        created, updated = await self._collections.upsert(collection, documents)
        return search_pb2.UpsertDocumentsResponse(created=created, updated=updated)

    async def GetDocuments(
        self, request: search_pb2.GetDocumentsRequest, context: Any
    ) -> search_pb2.GetDocumentsResponse:
        """Read documents."""
        check_name(request.collection, "collection")
        found = await self._collections.get(request.collection, request.ids)
        return search_pb2.GetDocumentsResponse(
            documents=[
                messages.write_document(document, with_vector=request.return_vector)
                for document in found
                if document
            ],
            missing=[key for key, document in zip(request.ids, found, strict=True) if not document],
        )

    async def ListDocuments(
        self, request: search_pb2.ListDocumentsRequest, context: Any
    ) -> search_pb2.ListDocumentsResponse:
        """List documents."""
        check_name(request.collection, "collection")
        page, token = await self._collections.documents(
            request.collection,
            messages.read_filter(request.filter, "filter"),
            request.page_size,
            request.page_token,
        )
        return search_pb2.ListDocumentsResponse(
            documents=[
                messages.write_document(document, with_vector=request.return_vector)
                for document in page
            ],
            next_page_token=token,
        )

    async def DeleteDocuments(
        self, request: search_pb2.DeleteDocumentsRequest, context: Any
    ) -> search_pb2.DeleteDocumentsResponse:
        """Delete documents by id, or by filter."""
        check_name(request.collection, "collection")
        if request.WhichOneof("selection") == "ids":
            deleted = await self._collections.delete(request.collection, request.ids.values)
            return search_pb2.DeleteDocumentsResponse(deleted=deleted)
        condition = messages.read_filter(request.filter, "filter")
        if condition is None:
            raise InvalidArgument(
                "EMPTY_SELECTION", "Name ids or a filter; an empty one is refused.", field="filter"
            )
        deleted, sample = await self._collections.delete_matching(
            request.collection, condition, force=request.force
        )
        return search_pb2.DeleteDocumentsResponse(deleted=deleted, sample=sample)

    async def Search(
        self, request: search_pb2.SearchRequest, context: Any
    ) -> search_pb2.SearchResponse:
        """Answer queries."""
        check_count(request.queries)
        try:
            queries = await self._read(request, fresh=False)
            return messages.write_results(queries, await self._collections.search(queries))
        except (Aborted, FailedPrecondition, InvalidArgument):
            # What is remembered of a collection may be out of date.
            queries = await self._read(request, fresh=True)
            return messages.write_results(queries, await self._collections.search(queries))

    async def _read(self, request: search_pb2.SearchRequest, *, fresh: bool) -> list[Query]:
        names = [
            messages.collection_of(query, request.collection, f"queries[{number}]")
            for number, query in enumerate(request.queries)
        ]
        known = {
            name: await self._collections.collection(name, fresh=fresh)
            for name in dict.fromkeys(names)
        }
        for collection in known.values():
            collection.check_model(request.model_digest)
        return [
            messages.read_query(query, known[name], f"queries[{number}]")
            for number, (query, name) in enumerate(zip(request.queries, names, strict=True))
        ]
