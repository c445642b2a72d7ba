"""ChatService over gRPC: translates and calls, nothing else."""

from collections.abc import AsyncIterator
from typing import Any

from memetwin.gateway.v1 import (
    chat_pb2,
    chat_pb2_grpc,
)
from services.gateway.chat import completions, messages
from services.gateway.chat.service import ChatService


class ChatServicer(chat_pb2_grpc.ChatServiceServicer):
    """ChatService over the chat."""

    def __init__(self, chat: ChatService) -> None:
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
