"""The gateway's gRPC face: translates and calls, nothing else; ``cache_server`` has the cache's."""

import time
from collections.abc import AsyncIterator
from typing import Any

from memetwin.gateway.v1 import (
    chat_pb2,
    chat_pb2_grpc,
    rag_pb2,
    rag_pb2_grpc,
    twin_pb2,
    twin_pb2_grpc,
)
from services.errors import FailedPrecondition, InvalidArgument
from services.gateway.cache import messages
from services.gateway.chat import completions
from services.gateway.chat.service import Chat
from services.gateway.rag import messages as rag_messages
from services.gateway.rag.abstention import Refusals
from services.gateway.rag.ingest.service import Ingest
from services.gateway.rag.ingest.types import DOCUMENT_BYTES, Source
from services.gateway.rag.service import Answers
from services.gateway.twins.service import Picture, Twins


class ChatServicer(chat_pb2_grpc.ChatServiceServicer):
    """ChatService over the chat."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat

    async def Complete(
        self, request: chat_pb2.CompleteRequest, context: Any
    ) -> chat_pb2.CompleteResponse:
        """Answer at once."""
        body, controls = messages.chat(request.chat)
        answering = await self._chat.open({**body, "stream": False}, controls)
        return messages.completion(await answering.whole(), answering.decision)

    async def StreamComplete(
        self, request: chat_pb2.StreamCompleteRequest, context: Any
    ) -> AsyncIterator[chat_pb2.StreamCompleteResponse]:
        """Answer as it is written."""
        body, controls = messages.chat(request.chat)
        counted = {"stream": True, "stream_options": {"include_usage": True}}
        answering = await self._chat.open({**body, **counted}, controls)
        chunks = []
        async for chunk in answering.chunks():
            chunks.append(chunk)
            if chunk.get("choices"):
                yield messages.part(chunk)
        reply = completions.join(chunks) or {}
        yield chat_pb2.StreamCompleteResponse(final=messages.completion(reply, answering.decision))


class RagServicer(rag_pb2_grpc.RagServiceServicer):
    """RagService over ingest and answers; ``has_model`` says whether a language model is set."""

    def __init__(
        self, ingest: Ingest, answers: Answers, refusals: Refusals, *, has_model: bool
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


class TwinServicer(twin_pb2_grpc.TwinServiceServicer):
    """TwinService over twins."""

    def __init__(self, twins: Twins) -> None:
        self._twins = twins

    async def FindTwin(
        self, request: twin_pb2.FindTwinRequest, context: Any
    ) -> twin_pb2.FindTwinResponse:
        """Find twins of a picture or a text."""
        started = time.perf_counter()
        metric = messages.metric(request.metric)
        if request.WhichOneof("query") is None:
            raise InvalidArgument("EMPTY_QUERY", "Send a picture or a text.", field="query")
        if request.WhichOneof("query") == "text":
            found = await self._twins.find_by_text(request.text, metric, request.limit)
        else:
            found = await self._twins.find(request.image, metric, request.limit)
        return twin_pb2.FindTwinResponse(
            twins=map(messages.twin, found.twins),
            model=found.model,
            model_digest=found.model_digest,
            timings=twin_pb2.TwinTimings(
                embed=found.embed, search=found.search, total=time.perf_counter() - started
            ),
        )

    async def AddTwin(
        self, request: twin_pb2.AddTwinRequest, context: Any
    ) -> twin_pb2.AddTwinResponse:
        """Keep a picture."""
        picture = Picture(request.title, request.image, request.id, list(request.tags))
        twin, created = await self._twins.add(picture)
        return twin_pb2.AddTwinResponse(twin=messages.twin(twin), created=created)

    async def ListTwins(
        self, request: twin_pb2.ListTwinsRequest, context: Any
    ) -> twin_pb2.ListTwinsResponse:
        """List twins."""
        page, token = await self._twins.page(request.page_size, request.page_token)
        return twin_pb2.ListTwinsResponse(twins=map(messages.twin, page), next_page_token=token)

    async def GetPicture(
        self, request: twin_pb2.GetPictureRequest, context: Any
    ) -> twin_pb2.GetPictureResponse:
        """Return a picture."""
        image, media_type = await self._twins.picture(request.id)
        return twin_pb2.GetPictureResponse(image=image, media_type=media_type)

    async def DeleteTwin(
        self, request: twin_pb2.DeleteTwinRequest, context: Any
    ) -> twin_pb2.DeleteTwinResponse:
        """Delete a twin."""
        await self._twins.delete(request.id)
        return twin_pb2.DeleteTwinResponse()


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
