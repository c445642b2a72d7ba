"""The parts of search on a Redis in memory."""

import pytest

from services.search.engines.catalog import Catalog
from services.search.engines.documents import DocumentStore
from services.search.service import SearchService
from tests.fakes.search_redis import VectorRedis


@pytest.fixture
def redis() -> VectorRedis:
    return VectorRedis()


@pytest.fixture
def catalog(redis: VectorRedis) -> Catalog:
    return Catalog(redis, "p:")


@pytest.fixture
def documents(redis: VectorRedis, catalog: Catalog) -> DocumentStore:
    return DocumentStore(redis, catalog)


@pytest.fixture
def service(redis: VectorRedis) -> SearchService:
    return SearchService(redis, "p:")
