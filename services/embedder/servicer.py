"""EmbedderService over gRPC: translates messages and calls the service."""

from collections.abc import AsyncIterator
from typing import Any

from memetwin.embedder.v1 import embedder_pb2, embedder_pb2_grpc
from services.embedder import messages
from services.embedder.embed_stream import embed_in_order
from services.embedder.registry import ModelRegistry
from services.embedder.service import EmbeddingService
from services.errors import InvalidArgument

DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE = 100, 1000


class EmbedderServicer(embedder_pb2_grpc.EmbedderServiceServicer):
    """EmbedderService."""

    def __init__(self, registry: ModelRegistry, service: EmbeddingService) -> None:
        self._registry, self._service = registry, service

    async def Embed(
        self, request: embedder_pb2.EmbedRequest, context: Any
    ) -> embedder_pb2.EmbedResponse:
        """Embed a batch."""
        return messages.embed_response(await self._service.embed(messages.embed_request(request)))

    async def EmbedStream(
        self, request_iterator: AsyncIterator[embedder_pb2.EmbedStreamRequest], context: Any
    ) -> AsyncIterator[embedder_pb2.EmbedStreamResponse]:
        """Embed the batches of a stream. A batch that fails yields its error in its place."""
        requests = (messages.embed_request(item.request) async for item in request_iterator)
        async for outcome in embed_in_order(requests, self._service):
            yield messages.embed_stream_response(outcome)

    async def Tokenize(
        self, request: embedder_pb2.TokenizeRequest, context: Any
    ) -> embedder_pb2.TokenizeResponse:
        """Return the tokens of texts."""
        info, tokens = await self._service.tokenize(request.model, list(request.texts))
        return messages.tokenize_response(info, tokens)

    async def Detokenize(
        self, request: embedder_pb2.DetokenizeRequest, context: Any
    ) -> embedder_pb2.DetokenizeResponse:
        """Return the texts of token ids."""
        token_ids = [one.ids for one in request.token_ids]
        info, texts = await self._service.detokenize(request.model, token_ids)
        return embedder_pb2.DetokenizeResponse(model=info.name, texts=texts)

    async def Rerank(
        self, request: embedder_pb2.RerankRequest, context: Any
    ) -> embedder_pb2.RerankResponse:
        """Score texts against a query."""
        result = await self._service.rerank(messages.rerank_request(request))
        return messages.rerank_response(result)

    async def GetFeatureMaps(
        self, request: embedder_pb2.GetFeatureMapsRequest, context: Any
    ) -> embedder_pb2.GetFeatureMapsResponse:
        """Return what each layer of a network computes from an image."""
        result = await self._service.feature_maps(
            request.model, request.image, request.max_channels
        )
        return messages.feature_maps_response(result)

    async def ListModels(
        self, request: embedder_pb2.ListModelsRequest, context: Any
    ) -> embedder_pb2.ListModelsResponse:
        """List models, sorted by name."""
        if request.page_size < 0:
            raise InvalidArgument(
                "BAD_PAGE_SIZE",
                f"page_size is {request.page_size}. It must not be negative.",
                field="page_size",
            )
        size = min(request.page_size or DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
        rest = [one for one in self._registry.models() if one.spec.name > request.page_token]
        return embedder_pb2.ListModelsResponse(
            models=map(messages.model, rest[:size]),
            next_page_token=rest[size - 1].spec.name if len(rest) > size else "",
        )

    async def GetModel(
        self, request: embedder_pb2.GetModelRequest, context: Any
    ) -> embedder_pb2.GetModelResponse:
        """Describe a model."""
        registered = self._registry.find(request.name)
        return embedder_pb2.GetModelResponse(model=messages.model(registered))
