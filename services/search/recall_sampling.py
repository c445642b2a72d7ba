"""Measures the recall of real queries: a share of them is asked again exactly, off the path."""

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
    "Share of the true hits that sampled queries have found.",
    ["collection"],
    buckets=[0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 1.0],
)


def recall(found: Result, truth: Result) -> float:
    """Return the share of the true hits that were found; what is as near as the last counts."""
    if not truth.hits:
        return 1.0
    last = truth.hits[-1].distance
    near = sum(
        hit.distance <= last + metric_transforms.TIE * max(1.0, abs(last)) for hit in found.hits
    )
    return min(1.0, near / len(truth.hits))


class Sampling:
    """Asks some queries again, one at a time; ``share`` is in [0, 1]."""

    def __init__(self, share: float, ask: Callable[[Sequence[Query]], Awaitable[list[Result]]]):
        self._share = share
        self._ask = ask
        self._running: asyncio.Task[None] | None = None

    def take(self, queries: Sequence[Query], results: Sequence[Result]) -> None:
        """Choose by chance among queries that were just answered; never wait."""
        if not self._share or random.random() >= self._share:  # noqa: S311
            return
        if self._running and not self._running.done():
            return
        query, result = random.choice(list(zip(queries, results, strict=True)))  # noqa: S311
        approximate = not (query.exact or query.text or query.group_by)
        if approximate and (query.vector is not None or query.document_id):
            # An empty context: the caller's deadline is not ours.
            self._running = asyncio.create_task(
                self._measure(query, result), context=contextvars.Context()
            )

    async def _measure(self, query: Query, result: Result) -> None:
        try:
            exact = replace(query, exact=True, return_fields=frozenset(), explain=False)
            [truth] = await self._ask([exact])
        except Failure as failure:
            log.debug("a sample was not measured", extra={"reason": failure.reason})
        else:
            RECALL.labels(query.collection.name).observe(recall(result, truth))
