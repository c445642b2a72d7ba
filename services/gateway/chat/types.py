"""The chat's plain data: a request of OpenAI's API, and how its caller wants it cached."""

from dataclasses import dataclass, field

from services.gateway.cache.types import Bound, Request, Scope
from services.gateway.llm.types import Json


@dataclass(frozen=True)
class CacheControls:
    """How a caller wants the cache to be used.

    Attributes:
        scope: the partition of the cache.
        bound: the conditions that a cached answer must meet.
        no_cache: do not serve a cached answer.
        no_store: do not store the answer.
    """

    scope: Scope = field(default_factory=Scope)
    bound: Bound = field(default_factory=Bound)
    no_cache: bool = False
    no_store: bool = False


@dataclass(frozen=True)
class ChatRequest:
    """A request for a chat completion.

    Attributes:
        body: the request in the format of OpenAI's API.
        cache_request: the request to the cache; None if the request bypasses the cache.
        controls: how the caller wants the cache to be used.
        bypass_reason: why the request bypasses the cache; empty if it does not.
    """

    body: Json
    cache_request: Request | None
    controls: CacheControls
    bypass_reason: str = ""

    @property
    def may_call_tools(self) -> bool:
        """Whether the model may answer with the call of a tool."""
        body = self.body
        return bool(
            (body.get("tools") and body.get("tool_choice") != "none")
            or (body.get("functions") and body.get("function_call") != "none")
        )

    @property
    def is_streamed(self) -> bool:
        """Whether the caller wants a stream."""
        return bool(self.body.get("stream"))

    @property
    def includes_usage(self) -> bool:
        """Whether the caller wants the usage at the end of a stream."""
        return bool((self.body.get("stream_options") or {}).get("include_usage"))
