"""RagService over gRPC: translates messages and calls the services."""

from collections.abc import AsyncIterator
from typing import Any

from memetwin.gateway.v1 import rag_pb2, rag_pb2_grpc
from services.errors import InvalidArgument
from services.gateway import large_requests
from services.gateway.rag import messages
from services.gateway.rag.abstention import Abstention
from services.gateway.rag.ingest import messages as ingest_messages
from services.gateway.rag.ingest.service import IngestService
from services.gateway.rag.ingest.types import MAX_DOCUMENT_BYTES, Source
from services.gateway.rag.service import RagService


class RagServicer(rag_pb2_grpc.RagServiceServicer):
    """RagService."""

    def __init__(self, ingest: IngestService, rag: RagService, abstention: Abstention) -> None:
        self._ingest = ingest
        self._rag = rag
        self._abstention = abstention

    async def IngestDocuments(
        self, request_iterator: AsyncIterator[rag_pb2.IngestDocumentsRequest], context: Any
    ) -> AsyncIterator[rag_pb2.IngestDocumentsResponse]:
        """Ingest documents as they arrive."""
        async for receipt in self._ingest.ingest(_sources(request_iterator)):
            yield ingest_messages.write_receipt(receipt)

    async def GetDocument(
        self, request: rag_pb2.GetDocumentRequest, context: Any
    ) -> rag_pb2.GetDocumentResponse:
        """Return a document."""
        document = await self._ingest.get(request.collection, request.id)
        return ingest_messages.write_stored(document)

    async def DeleteDocument(
        self, request: rag_pb2.DeleteDocumentRequest, context: Any
    ) -> rag_pb2.DeleteDocumentResponse:
        """Delete a document."""
        chunks = await self._ingest.delete(request.collection, request.id)
        return rag_pb2.DeleteDocumentResponse(chunks=chunks)

    async def ListDocuments(
        self, request: rag_pb2.ListDocumentsRequest, context: Any
    ) -> rag_pb2.ListDocumentsResponse:
        """List documents."""
        page, token = await self._ingest.page(
            request.collection, request.page_size, request.page_token
        )
        return ingest_messages.write_page(page, token)

    async def Retrieve(
        self, request: rag_pb2.RetrieveRequest, context: Any
    ) -> rag_pb2.RetrieveResponse:
        """Return passages."""
        question = await large_requests.read(messages.read_question, request)
        return messages.write_retrieval(*await self._rag.retrieve(question))

    async def Ask(self, request: rag_pb2.AskRequest, context: Any) -> rag_pb2.AskResponse:
        """Answer a question."""
        question = await large_requests.read(messages.read_question, request)
        return messages.write_answer(await self._rag.ask(question))

    async def StreamAsk(
        self, request: rag_pb2.StreamAskRequest, context: Any
    ) -> AsyncIterator[rag_pb2.StreamAskResponse]:
        """Answer a question, with the text in pieces."""
        question = await large_requests.read(messages.read_question, request)
        async for event in self._rag.stream(question, streamed=True):
            for message in messages.write_events(event):
                yield message

    async def CalibrateRefusals(
        self, request: rag_pb2.CalibrateRefusalsRequest, context: Any
    ) -> rag_pb2.CalibrateRefusalsResponse:
        """Calibrate when to refuse."""
        questions = await large_requests.read(messages.read_labelled_questions, request)
        report = await self._abstention.calibrate(
            request.collection, questions, dry_run=request.dry_run
        )
        return messages.write_calibration_report(report)


async def _sources(
    requests: AsyncIterator[rag_pb2.IngestDocumentsRequest],
) -> AsyncIterator[Source]:
    """Yield the documents of a stream.

    Content beyond the size limit is dropped, so that the document's receipt can still name it.

    Raises:
        InvalidArgument: content comes before any header.
    """
    header: rag_pb2.IngestHeader | None = None
    content = bytearray()
    async for request in requests:
        if request.WhichOneof("part") == "header":
            if header is not None:
                yield ingest_messages.read_source(header, bytes(content))
            header, content = request.header, bytearray()
        elif header is None:
            raise InvalidArgument(
                "NO_HEADER", "Content came before a header. Send the header first.", field="part"
            )
        elif len(content) <= MAX_DOCUMENT_BYTES:
            content += request.content
    if header is not None:
        yield ingest_messages.read_source(header, bytes(content))
