"""The real chat service over fakes of the cache, the language model and the leases."""

from typing import Any

from services.gateway.chat.answer import ChatAnswer
from services.gateway.chat.fail_open import FailOpenCache
from services.gateway.chat.service import ChatService
from services.gateway.chat.types import CacheControls
from services.gateway.circuit_breaker import CircuitBreaker
from services.gateway.coalescing.singleflight import Singleflight
from services.gateway.llm.client import LanguageModelClient
from services.gateway.llm.types import Json, completion_text
from tests.fakes.cache import FakeCache
from tests.fakes.language_model import FakeLanguageModel
from tests.fakes.leases import FakeLeases


class Recorder:
    """Records the kinds of the decisions, and the prompts that may be logged."""

    def __init__(self) -> None:
        self.kinds: list[str] = []
        self.logged: list[str | None] = []

    def record(self, scope: Any, decision: Any, seconds: float, request: Any = None) -> None:
        self.logged.append(request.prompt if request else None)
        self.kinds.append(decision.kind)


class Sampler:
    """Records the hits that it is offered."""

    def __init__(self) -> None:
        self.hits: list[str] = []

    def sample(self, request: Any, decision: Any) -> None:
        self.hits.append(decision.entry.id)


class Chat:
    """Sends chat requests, and shows what the service's parts received."""

    def __init__(self, *pieces: str, client: LanguageModelClient | None = None) -> None:
        self.cache, self.model, self.leases = FakeCache(), FakeLanguageModel(*pieces), FakeLeases()
        self.usage, self.sampler = Recorder(), Sampler()
        self._client = client or self.model.client
        self.service = self.replica()

    def replica(self) -> ChatService:
        parts: list[Any] = [self.cache, self.usage, self.sampler]
        cache, usage, sampler = parts
        return ChatService(
            FailOpenCache(cache, CircuitBreaker(), max_stale=60.0),
            usage,
            self._client,
            Singleflight(self.leases),
            sampler,
            max_temperature=1.0,
        )

    async def start(self, text: str = "Hi?", **options: Any) -> ChatAnswer:
        controls = CacheControls(**options.pop("controls", {}))
        service = options.pop("replica", self.service)
        body = {"messages": [{"role": "user", "content": text}], **options}
        answer: ChatAnswer = await service.complete(body, controls)
        return answer

    async def ask(self, text: str = "Hi?", **options: Any) -> tuple[str, str]:
        """Return the cache's decision and the text of the completion."""
        answer = await self.start(text, **options)
        return answer.decision.kind, completion_text(await answer.completion())

    async def stream(self, text: str = "Hi?", **options: Any) -> tuple[str, list[Json]]:
        """Return the cache's decision and the chunks."""
        answer = await self.start(text, stream=True, **options)
        return answer.decision.kind, [chunk async for chunk in answer.chunks()]

    async def has_stored(self) -> None:
        await self.cache.stored.wait()
        await self.leases.wait_for(lambda: not self.leases.leader)
