"""ChatService over gRPC."""

from collections.abc import AsyncIterator
from typing import Any

from memetwin.gateway.v1 import chat_pb2, chat_pb2_grpc
from services.gateway import large_requests
from services.gateway.chat import completions, messages
from services.gateway.chat.service import ChatService


class ChatServicer(chat_pb2_grpc.ChatServiceServicer):
    """Converts messages and calls ``ChatService``."""

    def __init__(self, chat: ChatService) -> None:
        self._chat = chat

    async def Complete(
        self, request: chat_pb2.CompleteRequest, context: Any
    ) -> chat_pb2.CompleteResponse:
        """Return a whole completion."""
        body, controls = await large_requests.read(messages.read_chat, request.chat)
        answer = await self._chat.complete({**body, "stream": False}, controls)
        return messages.write_completion(await answer.completion(), answer.decision)

    async def StreamComplete(
        self, request: chat_pb2.StreamCompleteRequest, context: Any
    ) -> AsyncIterator[chat_pb2.StreamCompleteResponse]:
        """Stream a completion as it is generated."""
        body, controls = await large_requests.read(messages.read_chat, request.chat)
        body |= {"stream": True, "stream_options": {"include_usage": True}}
        answer = await self._chat.complete(body, controls)
        chunks: list[Any] = []
        async for chunk in answer.chunks():
            chunks.append(chunk)
            if chunk.get("choices"):
                yield messages.write_chunk(chunk)
        completion = completions.join(chunks) or {}
        final = messages.write_completion(completion, answer.decision)
        yield chat_pb2.StreamCompleteResponse(final=final)
