"""The recall of real queries is a metric."""

import asyncio
import uuid

import numpy as np
from prometheus_client import REGISTRY

from services.search.engines import connection
from services.search.service import Collections
from services.search.types import Collection, Document, Query


async def test_a_sampled_query_is_asked_again_exactly(redis_url: str) -> None:
    name = f"c-{uuid.uuid4()}"
    redis = connection.connect(redis_url)
    collections = Collections(redis, f"sampling-{uuid.uuid4()}:", recall_sample=1.0)
    try:
        rows = np.random.default_rng(0).normal(size=(3000, 32)).astype("<f4")
        poor = Collection(name, 32, m=4, ef_construction=4, ef_runtime=1)
        collection = (await collections.create(poor)).collection
        for first in range(0, 3000, 500):
            documents = [Document(f"d{at}", rows[at]) for at in range(first, first + 500)]
            await collections.upsert(collection, documents)
        for row in rows[:50]:
            await collections.search([Query(collection, vector=row)])
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
    finally:
        await redis.aclose()
    labels = {"collection": name}
    count = REGISTRY.get_sample_value("memetwin_search_recall_count", labels) or 0
    total = REGISTRY.get_sample_value("memetwin_search_recall_sum", labels) or 0
    assert count > 20
    assert 0.05 < total / count < 0.99
