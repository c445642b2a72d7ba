"""The gRPC servicer of search: translates messages and calls the service."""

from collections.abc import AsyncIterator
from typing import Any

from memetwin.search.v1 import search_pb2, search_pb2_grpc
from services.errors import Aborted, FailedPrecondition, InvalidArgument
from services.search import (
    collection_messages,
    messages,
    query_messages,
    tuning_messages,
    upsert_stream,
)
from services.search.recall_measurement import measure_recall
from services.search.service import SearchService
from services.search.tuning import tune
from services.search.types import Query
from services.search.upsert_messages import UpsertStreamReader
from services.search.validation import (
    MAX_QUERIES,
    check_collection_name,
    check_count,
    check_documents,
    check_model_digest,
)


class SearchServicer(search_pb2_grpc.SearchServiceServicer):
    """Implements memetwin.search.v1.SearchService."""

    def __init__(self, service: SearchService) -> None:
        self._service = service

    async def CreateCollection(
        self, request: search_pb2.CreateCollectionRequest, context: Any
    ) -> search_pb2.CreateCollectionResponse:
        """Create a collection."""
        described = await self._service.create(
            collection_messages.read_collection(request.collection)
        )
        return search_pb2.CreateCollectionResponse(
            collection=collection_messages.write_collection(described)
        )

    async def GetCollection(
        self, request: search_pb2.GetCollectionRequest, context: Any
    ) -> search_pb2.GetCollectionResponse:
        """Describe a collection and its server."""
        check_collection_name(request.name, "name")
        return search_pb2.GetCollectionResponse(
            collection=collection_messages.write_collection(
                await self._service.describe(request.name)
            ),
            server=collection_messages.write_server(await self._service.server()),
        )

    async def ListCollections(
        self, request: search_pb2.ListCollectionsRequest, context: Any
    ) -> search_pb2.ListCollectionsResponse:
        """List collections."""
        size, token = request.page_size, request.page_token
        page, token = await self._service.list_collections(
            size, token, include_internal=request.include_internal, prefix=request.name_prefix
        )
        return search_pb2.ListCollectionsResponse(
            collections=map(collection_messages.write_collection, page), next_page_token=token
        )

    async def DeleteCollection(
        self, request: search_pb2.DeleteCollectionRequest, context: Any
    ) -> search_pb2.DeleteCollectionResponse:
        """Delete a collection."""
        check_collection_name(request.name, "name")
        count = await self._service.drop(request.name)
        return search_pb2.DeleteCollectionResponse(document_count=count)

    async def UpdateCollection(
        self, request: search_pb2.UpdateCollectionRequest, context: Any
    ) -> search_pb2.UpdateCollectionResponse:
        """Declare more fields and change settings."""
        check_collection_name(request.name, "name")
        added = collection_messages.read_declared_fields(request.add_fields, "add_fields")
        settings = {
            name: getattr(request, name)
            for name in ("ef_runtime", "model_digest")
            if request.HasField(name)
        }
        await self._service.updates.update_collection(request.name, added, settings)
        described = await self._service.describe(request.name)
        return search_pb2.UpdateCollectionResponse(
            collection=collection_messages.write_collection(described)
        )

    async def AssignAlias(
        self, request: search_pb2.AssignAliasRequest, context: Any
    ) -> search_pb2.AssignAliasResponse:
        """Point an alias to a collection."""
        check_collection_name(request.alias, "alias")
        check_collection_name(request.collection, "collection")
        previous = await self._service.assign_alias(request.alias, request.collection)
        return search_pb2.AssignAliasResponse(previous=previous)

    async def DeleteAlias(
        self, request: search_pb2.DeleteAliasRequest, context: Any
    ) -> search_pb2.DeleteAliasResponse:
        """Delete an alias."""
        check_collection_name(request.alias, "alias")
        name = await self._service.delete_alias(request.alias)
        return search_pb2.DeleteAliasResponse(collection=name)

    async def Reindex(
        self, request: search_pb2.ReindexRequest, context: Any
    ) -> AsyncIterator[search_pb2.ReindexResponse]:
        """Build another index and swap it in."""
        check_collection_name(request.collection, "collection")
        changes = collection_messages.read_reindex(request)
        async for one in self._service.updates.reindex(request.collection, changes):
            yield search_pb2.ReindexResponse(indexed=one.indexed, total=one.total)
        described = await self._service.describe(request.collection)
        yield search_pb2.ReindexResponse(
            indexed=described.count,
            total=described.count,
            collection=collection_messages.write_collection(described),
        )

    async def UpsertDocuments(
        self, request: search_pb2.UpsertDocumentsRequest, context: Any
    ) -> search_pb2.UpsertDocumentsResponse:
        """Write documents."""
        check_collection_name(request.collection, "collection")
        collection = await self._service.collection(request.collection)
        check_model_digest(request.model_digest, collection)
        documents = messages.read_documents(request.documents, collection)
        check_documents(documents, collection)
        created = await self._service.upsert(collection, documents)
        return search_pb2.UpsertDocumentsResponse(
            created=sum(created), updated=len(created) - sum(created)
        )

    async def UpsertStream(
        self, request_iterator: AsyncIterator[search_pb2.UpsertStreamRequest], context: Any
    ) -> AsyncIterator[search_pb2.UpsertStreamResponse]:
        """Write documents as they arrive."""
        reader = UpsertStreamReader(request_iterator, self._service)
        async for receipts in upsert_stream.write_batches(reader.batches(), reader.write):
            yield search_pb2.UpsertStreamResponse(receipts=map(messages.write_receipt, receipts))

    async def UpdateFields(
        self, request: search_pb2.UpdateFieldsRequest, context: Any
    ) -> search_pb2.UpdateFieldsResponse:
        """Update fields of documents."""
        check_collection_name(request.collection, "collection")
        updates = messages.read_updates(request.updates)
        updated = await self._service.updates.update_fields(request.collection, updates)
        return search_pb2.UpdateFieldsResponse(updated=updated)

    async def GetDocuments(
        self, request: search_pb2.GetDocumentsRequest, context: Any
    ) -> search_pb2.GetDocumentsResponse:
        """Read documents."""
        check_collection_name(request.collection, "collection")
        found = await self._service.get(request.collection, request.ids)
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
        check_collection_name(request.collection, "collection")
        page, token = await self._service.list_documents(
            request.collection,
            query_messages.read_filter(request.filter, "filter"),
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
        check_collection_name(request.collection, "collection")
        if request.WhichOneof("selection") == "ids":
            deleted = await self._service.delete(request.collection, request.ids.values)
            return search_pb2.DeleteDocumentsResponse(deleted=deleted)
        condition = query_messages.read_filter(request.filter, "filter")
        if condition is None:
            raise InvalidArgument(
                "EMPTY_SELECTION",
                "The request selects no documents; set ids or a filter that is not empty.",
                field="filter",
            )
        deleted, sample = await self._service.delete_matching(
            request.collection, condition, force=request.force
        )
        return search_pb2.DeleteDocumentsResponse(deleted=deleted, sample=sample)

    async def Search(
        self, request: search_pb2.SearchRequest, context: Any
    ) -> search_pb2.SearchResponse:
        """Answer queries."""
        check_count(request.queries, MAX_QUERIES, "queries")
        try:
            queries = await self._read_queries(request, cached=True)
            results = await self._service.search(queries)
        except (Aborted, FailedPrecondition, InvalidArgument):
            # The cached collection may be out of date.
            queries = await self._read_queries(request, cached=False)
            results = await self._service.search(queries)
        return query_messages.write_results(queries, results)

    async def MeasureRecall(
        self, request: search_pb2.MeasureRecallRequest, context: Any
    ) -> AsyncIterator[search_pb2.MeasureRecallResponse]:
        """Compare approximate results with exact ones."""
        check_collection_name(request.collection, "collection")
        experiment = tuning_messages.read_recall_experiment(request)
        async for progress in measure_recall(self._service, request.collection, experiment):
            yield tuning_messages.write_recall_progress(progress)

    async def TuneIndex(
        self, request: search_pb2.TuneIndexRequest, context: Any
    ) -> AsyncIterator[search_pb2.TuneIndexResponse]:
        """Measure index settings and recommend one."""
        check_collection_name(request.collection, "collection")
        experiment = tuning_messages.read_tuning_experiment(request)
        settings = tuning_messages.read_settings(request)
        async for progress in tune(self._service, request.collection, settings, experiment):
            yield tuning_messages.write_tuning_progress(progress)

    async def ExportCollection(
        self, request: search_pb2.ExportCollectionRequest, context: Any
    ) -> AsyncIterator[search_pb2.ExportCollectionResponse]:
        """Send a collection, then its documents."""
        check_collection_name(request.collection, "collection")
        described = await self._service.describe(request.collection)
        yield search_pb2.ExportCollectionResponse(
            collection=collection_messages.write_collection(described)
        )
        async for page in self._service.export(described.collection.name):
            documents = [messages.write_document(one, with_vector=True) for one in page]
            yield search_pb2.ExportCollectionResponse(
                documents=search_pb2.Documents(documents=documents)
            )

    async def ImportCollection(
        self, request_iterator: AsyncIterator[search_pb2.ImportCollectionRequest], context: Any
    ) -> search_pb2.ImportCollectionResponse:
        """Create a collection and write the documents that follow."""
        created = updated = 0
        collection = None
        async for request in request_iterator:
            if request.WhichOneof("piece") == "collection" and collection is None:
                requested = collection_messages.read_collection(request.collection)
                collection = await self._service.ensure(requested)
            elif request.WhichOneof("piece") == "documents" and collection is not None:
                documents = messages.read_documents(request.documents.documents, collection)
                check_documents(documents, collection)
                is_new = await self._service.upsert(collection, documents)
                created += sum(is_new)
                updated += len(is_new) - sum(is_new)
            else:
                raise InvalidArgument(
                    "BAD_SEQUENCE",
                    "The messages are out of order; send the collection once, then documents.",
                    field="piece",
                )
        return search_pb2.ImportCollectionResponse(created=created, updated=updated)

    async def _read_queries(
        self, request: search_pb2.SearchRequest, *, cached: bool
    ) -> list[Query]:
        paths = [f"queries[{number}]" for number in range(len(request.queries))]
        names = [
            query_messages.read_collection_name(query, request.collection, path)
            for query, path in zip(request.queries, paths, strict=True)
        ]
        collections = {
            name: await self._service.collection(name, cached=cached)
            for name in dict.fromkeys(names)
        }
        for collection in collections.values():
            check_model_digest(request.model_digest, collection)
        return await query_messages.read_queries(
            request.queries, [collections[name] for name in names]
        )
