"""Curated entries: answers of a scope's owner, which have keys different from those of callers.

A curated entry answers a prompt whatever the sampling parameters and the system prompt are, because
its answer depends on neither of them.
"""

import functools

from services.gateway.cache.types import CURATED_ID, Context, Entry, Request

# The key of a curated entry's metadata in its detail.
METADATA = "metadata"


class CuratedContext(Context):
    """The context of curated entries. No context of a caller has its fingerprint."""

    @functools.cached_property
    def parts(self) -> dict[str, str]:
        """The digest of each part, and a mark."""
        return {**Context(model=self.model).parts, "curated": "1"}


@functools.lru_cache(1024)
def curated_context(model: str) -> CuratedContext:
    """Return the context of the entries that answer for a language model; empty for any."""
    return CuratedContext(model=model)


def curated_requests(request: Request) -> list[Request]:
    """Return what a curated entry must answer to answer a request, first for its own model."""
    if request.curated_for is None:
        return []
    models = dict.fromkeys((request.curated_for, ""))
    return [Request(request.scope, curated_context(model), request.prompt) for model in models]


def differing_parts(context: Context, entry: Entry) -> list[str]:
    """Return the parts of a caller's context that keep an entry from answering."""
    parts = context.parts
    if entry.is_curated:
        any_model = entry.parts["model"] == Context().parts["model"]
        ignored = {"parameters", "system_prompt"} | ({"model"} if any_model else set())
        parts = {name: part for name, part in parts.items() if name not in ignored}
    return [name for name, part in parts.items() if entry.parts.get(name) != part]


def is_curated(entry_id: str) -> bool:
    """Return whether an entry is curated."""
    return entry_id.startswith(CURATED_ID)
