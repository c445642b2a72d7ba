"""The search service's gRPC face: translates and calls, nothing else."""

from collections.abc import AsyncIterator
from typing import Any

from memetwin.search.v1 import search_pb2, search_pb2_grpc
from services.errors import Aborted, FailedPrecondition, InvalidArgument
from services.search import messages, query_messages, upsert_stream
from services.search.service import Collections
from services.search.tuning import Trial, Tuning
from services.search.types import Query, check_name
from services.search.upsert_messages import Upload
from services.search.validation import check_count, check_documents


class SearchServicer(search_pb2_grpc.SearchServiceServicer):
    """SearchService over collections."""

    def __init__(self, collections: Collections) -> None:
        self._collections = collections
        self._tuning = Tuning(collections)

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

    async def UpdateCollection(
        self, request: search_pb2.UpdateCollectionRequest, context: Any
    ) -> search_pb2.UpdateCollectionResponse:
        """Declare fields and change settings."""
        check_name(request.name, "name")
        added = messages.read_declared(request.add_fields, "add_fields")
        settings = {
            name: getattr(request, name)
            for name in ("ef_runtime", "model_digest")
            if request.HasField(name)
        }
        await self._collections.changes.update(request.name, added, settings)
        described = await self._collections.describe(request.name)
        return search_pb2.UpdateCollectionResponse(collection=messages.write_collection(described))

    async def AssignAlias(
        self, request: search_pb2.AssignAliasRequest, context: Any
    ) -> search_pb2.AssignAliasResponse:
        """Let a collection be called by another name."""
        check_name(request.alias, "alias")
        check_name(request.collection, "collection")
        previous = await self._collections.assign_alias(request.alias, request.collection)
        return search_pb2.AssignAliasResponse(previous=previous)

    async def DeleteAlias(
        self, request: search_pb2.DeleteAliasRequest, context: Any
    ) -> search_pb2.DeleteAliasResponse:
        """Take another name away."""
        check_name(request.alias, "alias")
        called = await self._collections.delete_alias(request.alias)
        return search_pb2.DeleteAliasResponse(collection=called)

    async def Reindex(
        self, request: search_pb2.ReindexRequest, context: Any
    ) -> AsyncIterator[search_pb2.ReindexResponse]:
        """Build another index, then let it answer."""
        check_name(request.collection, "collection")
        changes = messages.read_reindex(request)
        async for one in self._collections.changes.reindex(request.collection, changes):
            yield search_pb2.ReindexResponse(indexed=one.indexed, total=one.total)
        described = await self._collections.describe(request.collection)
        yield search_pb2.ReindexResponse(
            indexed=described.count,
            total=described.count,
            collection=messages.write_collection(described),
        )

    async def UpsertDocuments(
        self, request: search_pb2.UpsertDocumentsRequest, context: Any
    ) -> search_pb2.UpsertDocumentsResponse:
        """Write documents."""
        check_name(request.collection, "collection")
        collection = await self._collections.collection(request.collection)
        collection.check_model(request.model_digest)
        documents = messages.read_documents(request.documents, collection)
        check_documents(documents, collection)
        created = await self._collections.upsert(collection, documents)
        return search_pb2.UpsertDocumentsResponse(
            created=sum(created), updated=len(created) - sum(created)
        )

    async def UpsertStream(
        self, request_iterator: AsyncIterator[search_pb2.UpsertStreamRequest], context: Any
    ) -> AsyncIterator[search_pb2.UpsertStreamResponse]:
        """Write documents as they arrive."""
        upload = Upload(request_iterator, self._collections)
        async for receipts in upsert_stream.receive(upload.batches(), upload.write):
            yield search_pb2.UpsertStreamResponse(receipts=map(messages.write_receipt, receipts))

    async def UpdateFields(
        self, request: search_pb2.UpdateFieldsRequest, context: Any
    ) -> search_pb2.UpdateFieldsResponse:
        """Change fields of documents."""
        check_name(request.collection, "collection")
        updates = messages.read_updates(request.updates)
        updated = await self._collections.changes.update_fields(request.collection, updates)
        return search_pb2.UpdateFieldsResponse(updated=updated)

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
        check_name(request.collection, "collection")
        if request.WhichOneof("selection") == "ids":
            deleted = await self._collections.delete(request.collection, request.ids.values)
            return search_pb2.DeleteDocumentsResponse(deleted=deleted)
        condition = query_messages.read_filter(request.filter, "filter")
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
            return query_messages.write_results(queries, await self._collections.search(queries))
        except (Aborted, FailedPrecondition, InvalidArgument):
            # What is remembered of a collection may be out of date.
            queries = await self._read(request, fresh=True)
            return query_messages.write_results(queries, await self._collections.search(queries))

    async def MeasureRecall(
        self, request: search_pb2.MeasureRecallRequest, context: Any
    ) -> AsyncIterator[search_pb2.MeasureRecallResponse]:
        """Compare approximate answers with exact ones."""
        check_name(request.collection, "collection")
        trial = Trial(
            k=request.k or 10,
            queries=request.sample or 100,
            efs=request.ef_runtime,
            seed=request.seed,
        )
        async for one in self._tuning.measure(request.collection, trial):
            yield search_pb2.MeasureRecallResponse(
                done=one.done,
                total=one.total,
                measurements=map(messages.write_measurement, one.measurements),
                exact_p50=one.exact_p50,
            )

    async def TuneIndex(
        self, request: search_pb2.TuneIndexRequest, context: Any
    ) -> AsyncIterator[search_pb2.TuneIndexResponse]:
        """Try indexes and recommend one."""
        check_name(request.collection, "collection")
        default = Trial()
        trial = Trial(
            target=request.target_recall or default.target,
            k=request.k or default.k,
            documents=request.documents or default.documents,
            queries=request.queries or default.queries,
            efs=request.ef_runtime or default.efs,
            seed=request.seed,
        )
        grid = messages.read_grid(request)
        async for one in self._tuning.tune(request.collection, grid, trial):
            best = one.recommended
            yield search_pb2.TuneIndexResponse(
                done=one.done,
                total=one.total,
                measurements=map(messages.write_measurement, one.measurements),
                recommended=messages.write_measurement(best) if best else None,
                documents=one.documents,
            )

    async def ExportCollection(
        self, request: search_pb2.ExportCollectionRequest, context: Any
    ) -> AsyncIterator[search_pb2.ExportCollectionResponse]:
        """Send a collection, then its documents."""
        check_name(request.collection, "collection")
        described = await self._collections.describe(request.collection)
        yield search_pb2.ExportCollectionResponse(collection=messages.write_collection(described))
        async for page in self._collections.export(described.collection.name):
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
                wanted = messages.read_collection(request.collection)
                collection = await self._collections.ensure(wanted)
            elif request.WhichOneof("piece") == "documents" and collection is not None:
                documents = messages.read_documents(request.documents.documents, collection)
                check_documents(documents, collection)
                news = await self._collections.upsert(collection, documents)
                created, updated = created + sum(news), updated + len(news) - sum(news)
            else:
                raise InvalidArgument(
                    "BAD_SEQUENCE",
                    "Send the collection first, once, then documents.",
                    field="piece",
                )
        return search_pb2.ImportCollectionResponse(created=created, updated=updated)

    async def _read(self, request: search_pb2.SearchRequest, *, fresh: bool) -> list[Query]:
        names = [
            query_messages.collection_of(query, request.collection, f"queries[{number}]")
            for number, query in enumerate(request.queries)
        ]
        known = {
            name: await self._collections.collection(name, fresh=fresh)
            for name in dict.fromkeys(names)
        }
        for collection in known.values():
            collection.check_model(request.model_digest)
        return [
            query_messages.read_query(query, known[name], f"queries[{number}]")
            for number, (query, name) in enumerate(zip(request.queries, names, strict=True))
        ]
