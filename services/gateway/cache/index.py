"""The collections of search that hold the prompts of cache entries."""

COLLECTIONS = 32


def collection(digest: str, partition: str) -> str:
    """Return the name of the collection of search that holds the prompts of a model and partition.

    A search for what few of very many documents meet has to look at all of them. So scopes
    are spread over collections, and small ones are not lost in the crowd.
    """
    return f"cache-{digest[:16]}-{int(partition[:8], 16) % COLLECTIONS}"


# How many entries are judged: the nearest may be an opposite, the next one may answer.
CANDIDATES = 4
# Under a budget the answers around the nearest speak for or against it.
NEIGHBOURHOOD = 8
# What is near enough to answer is found with few candidates: `tests/bench/latency.py` shows it.
EFFORT = 64
FIELDS = {"partition": "tag", "fingerprint": "tag"}
