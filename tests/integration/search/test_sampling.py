"""The recall of sampled queries becomes a metric."""

import uuid

import numpy as np
from prometheus_client import REGISTRY

from services.search.engines.connection import connect
from services.search.service import SearchService
from services.search.types import Collection, Document, Query


async def test_sampled_queries_are_repeated_exactly(redis_url: str, prefix: str) -> None:
    name = f"c-{uuid.uuid4()}"
    redis = connect(redis_url)
    service = SearchService(redis, prefix, recall_sample=1.0)
    try:
        rows = np.random.default_rng(0).normal(size=(3000, 32)).astype("<f4")
        poor = Collection(name, 32, m=4, ef_construction=4, ef_runtime=1, engine="vector_sets")
        collection = (await service.create(poor)).collection
        for first in range(0, 3000, 500):
            documents = [Document(f"d{at}", rows[at]) for at in range(first, first + 500)]
            await service.upsert(collection, documents)
        for row in rows[:30]:
            await service.search([Query(collection, vector=row)])
            assert service._sampler._running
            await service._sampler._running
        await service.drop(name)
    finally:
        await redis.aclose()
    labels = {"collection": name}
    count = REGISTRY.get_sample_value("memetwin_search_recall_count", labels)
    total = REGISTRY.get_sample_value("memetwin_search_recall_sum", labels)
    assert count == 30
    assert total is not None
    # This graph is so sparse that it misses some of the nearest documents.
    assert total / count < 0.99
