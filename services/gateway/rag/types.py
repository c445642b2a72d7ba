"""Questions as callers ask them, and what is refused of them."""

from dataclasses import dataclass, field
from typing import Any

from services.errors import InvalidArgument
from services.gateway.cache.types import Bound, Scope
from services.gateway.rag.ingest.types import check_collection

DEFAULT_PASSAGES = 8
PASSAGE_LIMIT = 1000
COLLECTION_LIMIT = 8


@dataclass(frozen=True)
class Question:
    """A question to collections of documents.

    ``filter`` is a Filter message as the caller sent it, and ``filter_key`` its bytes.
    """

    text: str
    collections: list[str]
    limit: int = DEFAULT_PASSAGES
    filter: Any = None
    filter_key: bytes = b""
    scope: Scope = field(default_factory=Scope)
    history: list[tuple[str, str]] = field(default_factory=list)
    model: str = ""
    no_cache: bool = False
    no_store: bool = False
    bound: Bound = field(default_factory=Bound)
    diversity: float = 0.0
    by_words: bool = True
    rerank: bool = False
    prompt_tokens: int = 0

    def check(self) -> None:
        """Raise InvalidArgument for what can never be answered."""
        if not self.text.strip():
            raise InvalidArgument("EMPTY_QUESTION", "The question is empty.", field="question")
        if not 0 < self.limit <= PASSAGE_LIMIT:
            raise InvalidArgument("BAD_LIMIT", f"limit is 1 to {PASSAGE_LIMIT}.", field="limit")
        if not 0 <= self.diversity <= 1:
            raise InvalidArgument("BAD_DIVERSITY", "diversity is 0 to 1.", field="diversity")
        if len(self.collections) > COLLECTION_LIMIT:
            raise InvalidArgument(
                "TOO_MANY_COLLECTIONS",
                f"At most {COLLECTION_LIMIT} collections at once.",
                field="additional_collections",
            )
        if self.prompt_tokens < 0:
            raise InvalidArgument(
                "BAD_BUDGET", "max_prompt_tokens is 0 or more.", field="max_prompt_tokens"
            )
        if any(role not in ("user", "assistant") for role, _ in self.history):
            raise InvalidArgument(
                "BAD_ROLE", "A role of the history is user or assistant.", field="history"
            )
        for name in self.collections:
            check_collection(name)
