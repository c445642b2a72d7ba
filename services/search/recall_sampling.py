"""Measures the recall of real queries: a sample of them is repeated exactly in the background."""

import asyncio
import contextvars
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from prometheus_client import Histogram

from services.errors import Failure
from services.search import metric_transforms
from services.search.types import Query, Result

log = logging.getLogger(__name__)

RECALL = Histogram(
    "memetwin_search_recall",
    "Recall of sampled queries: the share of the exact hits that the approximate search found.",
    ["collection"],
    buckets=[0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 1.0],
)


def recall(found: Result, exact: Result) -> float:
    """Return the share of the exact hits that were found; hits as near as the last one count."""
    if not exact.hits:
        return 1.0
    limit = metric_transforms.with_tolerance(exact.hits[-1].distance)
    near = sum(hit.distance <= limit for hit in found.hits)
    return min(1.0, near / len(exact.hits))


class RecallSampler:
    """Repeats a share of the queries, one at a time.

    Args:
        share: share of calls that are sampled, 0 to 1.
        search: answers queries.
        generator: source of randomness.
    """

    def __init__(
        self,
        share: float,
        search: Callable[[Sequence[Query]], Awaitable[list[Result]]],
        generator: random.Random | None = None,
    ) -> None:
        self._share = share
        self._search = search
        self._random = generator or random.Random()  # noqa: S311
        self._running: asyncio.Task[None] | None = None

    def sample(self, queries: Sequence[Query], results: Sequence[Result]) -> None:
        """Choose at random among queries that were just answered, and measure in the background."""
        if not self._share or self._random.random() >= self._share:
            return
        if self._running and not self._running.done():
            return
        query, result = self._random.choice(list(zip(queries, results, strict=True)))
        is_approximate = not (query.exact or query.text or query.group_by)
        if is_approximate and (query.vector is not None or query.document_id):
            # In an empty context, because the caller's deadline does not apply.
            self._running = asyncio.create_task(
                self._measure(query, result), context=contextvars.Context()
            )

    async def _measure(self, query: Query, result: Result) -> None:
        try:
            [exact] = await self._search(
                [replace(query, exact=True, return_fields=frozenset(), explain=False)]
            )
        except Failure as failure:
            log.debug("recall sample skipped", extra={"reason": failure.reason})
        else:
            RECALL.labels(query.collection.name).observe(recall(result, exact))
