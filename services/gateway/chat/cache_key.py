"""What a chat completion request asks, and whether its answer may be kept: pure reading."""

from dataclasses import dataclass, field
from typing import Any

from services.errors import InvalidArgument
from services.gateway.cache.types import PROMPT_LIMIT, Bound, Context, Request, Scope
from services.gateway.digests import canonical
from services.gateway.llm.types import Json

# Fields that change how an answer is delivered or counted, not what it says.
_NOT_IN_KEY = frozenset(
    """messages model stream stream_options user metadata store service_tier safety_identifier
    prompt_cache_key n tools functions response_format""".split()
)
# Fields whose answers are more than one text: they pass through.
_PASS = ("tools", "functions", "tool_choice", "function_call", "logprobs", "top_logprobs", "audio")
_SYSTEM = ("system", "developer")


@dataclass(frozen=True)
class Controls:
    """What the caller wants of the cache."""

    scope: Scope = field(default_factory=Scope)
    bound: Bound = field(default_factory=Bound)
    no_cache: bool = False
    no_store: bool = False


@dataclass(frozen=True)
class Conversation:
    """A request to the language model, and its key in the cache; no key means: passes through."""

    body: Json
    request: Request | None
    controls: Controls

    @property
    def streams(self) -> bool:
        """Whether the caller wants a stream."""
        return bool(self.body.get("stream"))

    @property
    def with_usage(self) -> bool:
        """Whether the caller wants the usage at the stream's end."""
        return bool((self.body.get("stream_options") or {}).get("include_usage"))


def read(body: Json, controls: Controls, *, hottest: float) -> Conversation:
    """Read a request as OpenAI's API has it; above the temperature ``hottest`` it has no key.

    Raises:
        InvalidArgument: it has no messages.
    """
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages or not all(map(_is_object, messages)):
        raise InvalidArgument("NO_MESSAGES", "messages is a list of messages.", field="messages")
    bypasses = controls.no_cache and controls.no_store
    if bypasses or _passes(body, hottest) or not _is_keepable(messages):
        return Conversation(body, None, controls)
    asked = messages[-1]
    context = Context(
        model=f"chat:{body.get('model')}",
        parameters={
            name: canonical(value).decode()
            for name, value in body.items()
            if name not in _NOT_IN_KEY and value is not None
        },
        system_prompt=canonical(
            [(_who(one), _text(one["content"])) for one in messages if _is_system(one)]
        ).decode(),
        response_format=canonical(body.get("response_format")).decode(),
        history=[
            (_who(one), _text(one["content"])) for one in messages[:-1] if not _is_system(one)
        ],
    )
    request = Request(controls.scope, context, _text(asked["content"]))
    keyed = request.prompt.strip() and len(request.prompt.encode()) <= PROMPT_LIMIT
    return Conversation(body, request if keyed else None, controls)


def _passes(body: Json, hottest: float) -> bool:
    if any(body.get(name) for name in _PASS) or body.get("n") not in (None, 1):
        return True
    temperature = body.get("temperature")
    if temperature is None:
        temperature = 1.0  # what OpenAI's API takes for a temperature that is not given
    return not isinstance(temperature, int | float) or temperature > hottest


def _is_keepable(messages: list[Json]) -> bool:
    """Say whether messages are text alone, and the last is a question of the user."""
    return messages[-1].get("role") == "user" and all(
        isinstance(one.get("role"), str)
        and _text(one.get("content"))
        and not one.get("tool_calls")
        and one["role"] not in ("tool", "function")
        for one in messages
    )


def _text(content: Any) -> str:
    """Return content that is text, or parts of text alone; else an empty string."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not all(map(_is_object, content)):
        return ""
    if any(part.get("type") != "text" for part in content):
        return ""
    return "\n".join(str(part.get("text", "")) for part in content)


def _who(message: Json) -> str:
    """Return who said a message: a role, and a name if it has one."""
    role, name = message["role"], message.get("name")
    return f"{role}:{name}" if name else str(role)


def _is_system(message: Json) -> bool:
    return message["role"] in _SYSTEM


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)
