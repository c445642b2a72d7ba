"""The search collections that hold the prompts of cache entries, and the queries to them."""

import hashlib

from services.gateway.backends.types import Query, Vectors

# A filtered search that matches few of many documents must read all of them. So scopes are spread
# over several collections.
COLLECTIONS_PER_MODEL = 32
# The nearest entry may contradict the question, so the next nearest are candidates too.
SIMILARITY_CANDIDATES = 4
# Under an error budget, the answers near the nearest one count for or against it.
BUDGET_CANDIDATES = 8
# Many generated entries may be nearer than a curated one, which comes before them. A separate query
# would have to read all prompts of a collection to find that a scope has no curated entry.
CURATED_CANDIDATES = 32
# A small `ef` suffices to find the near prompts, as `tests/bench/latency.py` shows.
EF = 64
FIELDS = {"partition": "tag", "fingerprint": "tag"}


# The digests of the embedder's models have this length. A name with a longer one would be too long.
_MAX_DIGEST = 64


def collection_name(digest: str, partition: str) -> str:
    """Return the search collection for the prompts of a model and a partition."""
    return _name(digest, int(partition[:8], 16) % COLLECTIONS_PER_MODEL)


def collection_names(digest: str) -> list[str]:
    """Return all search collections for the prompts of a model."""
    return [_name(digest, number) for number in range(COLLECTIONS_PER_MODEL)]


def old_names(digest: str) -> dict[str, str]:
    """Return the names that an earlier version gave a model's collections, by the present names."""
    names = enumerate(collection_names(digest))
    return {name: f"cache-{digest[:16]}-{number}" for number, name in names}


def is_named(name: str, digest: str) -> bool:
    """Return whether a collection holds the prompts of a model, by its present or old name."""
    names = old_names(digest)
    return name in names or name in names.values()


def query(vectors: Vectors, partition: str, limit: int, *fingerprints: str) -> Query:
    """Return the query for the prompts of a partition nearest to the first row of ``vectors``.

    With ``fingerprints``, the query finds only prompts of these contexts.
    """
    tags: dict[str, str | list[str]] = {"partition": partition}
    if fingerprints:
        tags["fingerprint"] = list(fingerprints)
    name = collection_name(vectors.digest, partition)
    return Query(name, vectors.rows[0], limit=limit, tags=tags, ef=EF)


def _name(digest: str, number: int) -> str:
    if len(digest) > _MAX_DIGEST:
        digest = hashlib.sha256(digest.encode()).hexdigest()
    return f"cache-{digest}-{number}"
