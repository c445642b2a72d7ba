"""Counts the tokens of a request to the language model against the limits of the caller."""

import contextlib
from collections.abc import AsyncIterator

from services.errors import Failure
from services.gateway.auth.caller import charge
from services.gateway.llm.types import Json, completion_text, delta_text, token_usage

# An estimate for English, see https://platform.openai.com/tokenizer.
_CHARACTERS_PER_TOKEN = 4


class Meter:
    """The tokens of a request: as the server reports them, or an estimate from the texts.

    A server reports no usage of a stream that is cut off, and some servers report none at all.
    """

    def __init__(self, body: Json) -> None:
        self._body = body
        self._reported: dict[str, int] = {}
        self._characters = 0

    @property
    def has_begun(self) -> bool:
        """Whether the server has answered."""
        return bool(self._characters or self._reported)

    def add(self, reply: Json) -> None:
        """Count a completion or a chunk of one."""
        with contextlib.suppress(AttributeError, TypeError, ValueError):
            self._reported = token_usage(reply) or self._reported
        self._characters += len(completion_text(reply) or delta_text(reply))

    def usage(self) -> dict[str, int]:
        """Return the tokens of the prompt and of the completion."""
        if self._reported:
            return self._reported
        contents = (
            message.get("content")
            for message in self._body.get("messages") or []
            if isinstance(message, dict)
        )
        prompt = sum(len(content) for content in contents if isinstance(content, str))
        return {
            "prompt_tokens": prompt // _CHARACTERS_PER_TOKEN,
            "completion_tokens": self._characters // _CHARACTERS_PER_TOKEN,
        }


@contextlib.asynccontextmanager
async def metered(body: Json) -> AsyncIterator[Meter]:
    """Charge the current caller for a request when the block ends, unless it was refused."""
    meter = Meter(body)
    is_refused = False
    try:
        yield meter
    except Failure:
        is_refused = not meter.has_begun
        raise
    finally:
        if not is_refused:
            charge(meter.usage())
