from typing import Any

import pytest
from redis import exceptions

from services.errors import Aborted, Failure, NotFound
from services.search.engines.catalog import Catalog
from services.search.engines.documents import DocumentStore
from services.search.engines.query_engine.search import QueryEngineSearch
from services.search.engines.record import Record
from services.search.filters import GeoCondition, GeoPoint, TagCondition
from services.search.types import Query
from tests.fakes.search import collection, vector
from tests.fakes.search_redis import VectorRedis

COLLECTION = collection(engine="query_engine", fields={"t": "tag", "g": "geo"})
QUERY = Query(COLLECTION, vector=vector(1, 0), return_fields=frozenset())


class Server:
    """Answers FT.SEARCH with the replies in order."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix.encode()
        self.replies: list[Any] = []
        self.commands: list[tuple[Any, ...]] = []

    def __call__(self, *command: Any) -> Any:
        self.commands.append(command)
        reply = self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply

    def hits(self, *distances: tuple[str, float]) -> None:
        """Reply with ids and distances."""
        reply: list[Any] = [len(distances)]
        for key, distance in distances:
            reply += [self.prefix + key.encode(), [b"distance", b"%r" % distance]]
        self.replies.append(reply)


@pytest.fixture
async def record(catalog: Catalog) -> Record:
    return await catalog.create(COLLECTION)


@pytest.fixture
def server(redis: VectorRedis, catalog: Catalog, record: Record) -> Server:
    redis.query_engine = server = Server(catalog.keys(record).document_prefix)
    return server


@pytest.fixture
def search(redis: VectorRedis, catalog: Catalog, documents: DocumentStore) -> QueryEngineSearch:
    return QueryEngineSearch(redis, catalog, documents)


async def test_queries_are_answered_in_order(search: QueryEngineSearch, server: Server) -> None:
    server.hits(("b", 0.2), ("a", 0.1))
    server.hits(("c", 0.3))
    first, second = await search.search([QUERY, QUERY])
    assert [(hit.id, hit.distance) for hit in first.hits] == [("a", 0.1), ("b", 0.2)]
    assert [hit.similarity for hit in second.hits] == [0.7]


async def test_a_query_by_document_reads_its_vector(
    redis: VectorRedis,
    catalog: Catalog,
    record: Record,
    search: QueryEngineSearch,
    server: Server,
) -> None:
    redis.hashes[catalog.keys(record).document("a")] = {"v": vector(0, 1).tobytes()}
    server.hits(("a", 0.0), ("b", 0.5))
    [result] = await search.search([Query(COLLECTION, document_id="a", limit=1)])
    assert [hit.id for hit in result.hits] == ["b"]
    [command] = server.commands
    assert vector(0, 1).tobytes() in command
    with pytest.raises(NotFound):
        await search.search([Query(COLLECTION, document_id="none")])


async def test_a_circle_is_searched_wider_until_enough_documents_lie_in_it(
    search: QueryEngineSearch, server: Server
) -> None:
    inside, outside = b'{"g":{"lat":0.0,"lon":0.0}}', b'{"g":{"lat":50.0,"lon":0.0}}'

    def reply(count: int, first_inside: int) -> list[Any]:
        rows: list[Any] = [count]
        for number in range(count):
            fields = inside if number >= first_inside else outside
            rows += [server.prefix + b"%04d" % number, [b"distance", b"0.5", b"f", fields]]
        return rows

    server.replies = [reply(101, 101), reply(808, 500)]
    circle = GeoCondition("g", GeoPoint(0, 0), 1000.0)
    query = Query(COLLECTION, vector=vector(1, 0), condition=circle, limit=1)
    [result] = await search.search([query])
    assert [hit.id for hit in result.hits] == ["0500"]
    assert [command[command.index("LIMIT") + 2] for command in server.commands] == [101, 808]


async def test_all_matching_ids_are_returned(search: QueryEngineSearch, server: Server) -> None:
    server.replies = [[2, server.prefix + b"b", server.prefix + b"a"]]
    assert await search.matching_ids("c", TagCondition("t", ("x",))) == ["a", "b"]
    [command] = server.commands
    assert command[command.index("LIMIT") + 2] == 1_000_000


async def test_a_changed_collection_is_searched_again(
    redis: VectorRedis, record: Record, search: QueryEngineSearch, server: Server
) -> None:
    await Catalog(redis, "p:").update(record, expiring=True)
    server.replies = [exceptions.ResponseError("no such index")]
    server.hits(("a", 0.1))
    [result] = await search.search([QUERY])
    assert [hit.id for hit in result.hits] == ["a"]
    assert "@e:" in server.commands[1][2]


async def test_a_collection_that_differs_aborts_the_search(
    redis: VectorRedis, record: Record, search: QueryEngineSearch, server: Server
) -> None:
    changed = collection(engine="query_engine", metric="l2")
    await Catalog(redis, "p:").update(record, collection=changed)
    server.replies = [[0]]
    with pytest.raises(Aborted):
        await search.search([QUERY])


async def test_an_error_of_an_unchanged_collection_is_a_failure(
    search: QueryEngineSearch, server: Server
) -> None:
    server.replies = [exceptions.ResponseError("Syntax error at offset 8")]
    with pytest.raises(Failure) as caught:
        await search.search([QUERY])
    assert caught.value.reason == "REDIS_REFUSED"
