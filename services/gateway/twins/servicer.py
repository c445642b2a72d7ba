"""TwinService over gRPC: translates messages and calls the service."""

import asyncio
import time
from typing import Any

from memetwin.gateway.v1 import twin_pb2, twin_pb2_grpc
from services.errors import InvalidArgument
from services.gateway.twins import messages
from services.gateway.twins.service import TwinService
from services.gateway.twins.types import Picture


class TwinServicer(twin_pb2_grpc.TwinServiceServicer):
    """TwinService."""

    def __init__(self, twins: TwinService) -> None:
        self._twins = twins

    async def FindTwin(
        self, request: twin_pb2.FindTwinRequest, context: Any
    ) -> twin_pb2.FindTwinResponse:
        """Find the twins of a picture or a text."""
        started = time.perf_counter()
        metric = messages.read_metric(request.metric)
        if request.WhichOneof("query") is None:
            raise InvalidArgument(
                "EMPTY_QUERY", "The query is empty. Send an image or a text.", field="query"
            )
        if request.WhichOneof("query") == "text":
            results = await self._twins.find_by_text(request.text, metric, request.limit)
        else:
            await asyncio.sleep(0)  # gRPC has just received the picture
            results = await self._twins.find(request.image, metric, request.limit)
        return messages.write_results(results, total=time.perf_counter() - started)

    async def AddTwin(
        self, request: twin_pb2.AddTwinRequest, context: Any
    ) -> twin_pb2.AddTwinResponse:
        """Add a picture."""
        await asyncio.sleep(0)  # gRPC has just received the picture
        picture = Picture(
            request.title, request.image, request.id, list(request.tags), request.source
        )
        twin, created = await self._twins.add(picture)
        return twin_pb2.AddTwinResponse(twin=messages.write_twin(twin), created=created)

    async def ListTwins(
        self, request: twin_pb2.ListTwinsRequest, context: Any
    ) -> twin_pb2.ListTwinsResponse:
        """List twins."""
        page, token = await self._twins.page(request.page_size, request.page_token)
        return twin_pb2.ListTwinsResponse(
            twins=map(messages.write_twin, page), next_page_token=token
        )

    async def GetPicture(
        self, request: twin_pb2.GetPictureRequest, context: Any
    ) -> twin_pb2.GetPictureResponse:
        """Return the picture of a twin."""
        image, media_type = await self._twins.picture(request.id)
        response = twin_pb2.GetPictureResponse(image=image, media_type=media_type)
        await asyncio.sleep(0)  # gRPC copies the picture again
        return response

    async def DeleteTwin(
        self, request: twin_pb2.DeleteTwinRequest, context: Any
    ) -> twin_pb2.DeleteTwinResponse:
        """Delete a twin."""
        await self._twins.delete(request.id)
        return twin_pb2.DeleteTwinResponse()
