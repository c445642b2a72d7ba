"""The gateway's gRPC face: translates and calls, nothing else; ``cache_server`` has the cache's."""

from collections.abc import AsyncIterator
from typing import Any

from memetwin.gateway.v1 import (
    rag_pb2,
    rag_pb2_grpc,
)
from services.errors import FailedPrecondition, InvalidArgument
from services.gateway.rag import messages as rag_messages
from services.gateway.rag.abstention import Abstention
from services.gateway.rag.ingest.service import IngestService
from services.gateway.rag.ingest.types import DOCUMENT_BYTES, Source
from services.gateway.rag.service import RagService


class RagServicer(rag_pb2_grpc.RagServiceServicer):
    """RagService over ingest and answers; ``has_model`` says whether a language model is set."""

    def __init__(
        self, ingest: IngestService, answers: RagService, refusals: Abstention, *, has_model: bool
    ) -> None:
        self._ingest = ingest
        self._answers = answers
        self._refusals = refusals
        self._has_model = has_model

    async def IngestDocuments(
        self, request_iterator: AsyncIterator[rag_pb2.IngestDocumentsRequest], context: Any
    ) -> AsyncIterator[rag_pb2.IngestDocumentsResponse]:
        """Take documents in as they arrive, some at once; what follows waits."""
        async for receipt in self._ingest.take_all(_sources(request_iterator)):
            yield rag_messages.receipt(receipt)

    async def GetDocument(
        self, request: rag_pb2.GetDocumentRequest, context: Any
    ) -> rag_pb2.GetDocumentResponse:
        """Read a document."""
        kept = await self._ingest.get(request.collection, request.id)
        return rag_pb2.GetDocumentResponse(document=rag_messages.document(kept, with_text=True))

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
        return rag_pb2.ListDocumentsResponse(
            documents=[rag_messages.document(kept, with_text=False) for kept in page],
            next_page_token=token,
        )

    async def Retrieve(
        self, request: rag_pb2.RetrieveRequest, context: Any
    ) -> rag_pb2.RetrieveResponse:
        """Find passages."""
        return rag_messages.retrieved(*await self._answers.retrieve(rag_messages.question(request)))

    async def Ask(self, request: rag_pb2.AskRequest, context: Any) -> rag_pb2.AskResponse:
        """Answer a question."""
        self._require_model(request.model)
        return rag_messages.answer(await self._answers.ask(rag_messages.question(request)))

    async def StreamAsk(
        self, request: rag_pb2.StreamAskRequest, context: Any
    ) -> AsyncIterator[rag_pb2.StreamAskResponse]:
        """Answer a question piece by piece."""
        self._require_model(request.model)
        async for event in self._answers.stream(rag_messages.question(request), streamed=True):
            for message in rag_messages.events(event):
                yield message

    async def CalibrateRefusals(
        self, request: rag_pb2.CalibrateRefusalsRequest, context: Any
    ) -> rag_pb2.CalibrateRefusalsResponse:
        """Learn when to refuse."""
        measured = await self._refusals.calibrate(
            request.collection, rag_messages.labelled(request), dry_run=request.dry_run
        )
        return rag_messages.measured(measured)

    def _require_model(self, named: str) -> None:
        if named and not self._has_model:
            raise FailedPrecondition(
                "NO_LANGUAGE_MODEL",
                "No language model is set: leave model empty, or set MEMETWIN_LLM_BASE_URL.",
                field="model",
            )


async def _sources(
    requests: AsyncIterator[rag_pb2.IngestDocumentsRequest],
) -> AsyncIterator[Source]:
    """Gather the stream's pieces into documents; one over the limit keeps just enough to be named.

    Raises:
        InvalidArgument: content comes before any header.
    """
    header: rag_pb2.IngestHeader | None = None
    content = bytearray()
    async for request in requests:
        if request.WhichOneof("part") == "header":
            if header is not None:
                yield rag_messages.source(header, bytes(content))
            header, content = request.header, bytearray()
        elif header is None:
            raise InvalidArgument("NO_HEADER", "A document begins with its header.", field="part")
        elif len(content) <= DOCUMENT_BYTES:
            content += request.content
    if header is not None:
        yield rag_messages.source(header, bytes(content))
