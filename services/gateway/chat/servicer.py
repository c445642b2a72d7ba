"""ChatService over gRPC."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from memetwin.gateway.v1 import chat_pb2, chat_pb2_grpc
from services.gateway.chat import completions, messages
from services.gateway.chat.service import ChatService
from services.gateway.chat.types import CacheControls
from services.gateway.llm.types import Json

_THREAD_BYTES = 2**16


class ChatServicer(chat_pb2_grpc.ChatServiceServicer):
    """Converts messages and calls ``ChatService``."""

    def __init__(self, chat: ChatService) -> None:
        self._chat = chat

    async def Complete(
        self, request: chat_pb2.CompleteRequest, context: Any
    ) -> chat_pb2.CompleteResponse:
        """Return a whole completion."""
        body, controls = await _read(request.chat)
        answer = await self._chat.complete({**body, "stream": False}, controls)
        return messages.write_completion(await answer.completion(), answer.decision)

    async def StreamComplete(
        self, request: chat_pb2.StreamCompleteRequest, context: Any
    ) -> AsyncIterator[chat_pb2.StreamCompleteResponse]:
        """Stream a completion as it is generated."""
        body, controls = await _read(request.chat)
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


async def _read(chat: chat_pb2.Chat) -> tuple[Json, CacheControls]:
    """Read a chat. A large one is read in a thread, so that other calls can run."""
    if chat.ByteSize() > _THREAD_BYTES:
        return await asyncio.to_thread(messages.read_chat, chat)
    return messages.read_chat(chat)
