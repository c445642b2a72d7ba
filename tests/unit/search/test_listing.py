"""Tests the pages of collections and of documents."""

import pytest

from services.errors import InvalidArgument
from services.search import listing
from services.search.filters import NumberCondition
from services.search.service import SearchService
from tests.fakes.search import collection, document
from tests.fakes.search_redis import VectorRedis

LARGE = NumberCondition("n", "gt", (1.0,))


async def fill(service: SearchService, *sizes: int) -> None:
    """Create documents ``d0``, ``d1``, … with payloads of these sizes."""
    created = await service.create(collection(fields={"n": "number"}))
    rows = [
        document(f"d{at}", 1, at, payload=b"x" * size, fields={"n": float(at)})
        for at, size in enumerate(sizes)
    ]
    await service.upsert(created.collection, rows)


async def pages(
    service: SearchService, condition: NumberCondition | None, size: int
) -> list[list[str]]:
    found, token = [], ""
    while True:
        page, token = await service.list_documents("c", condition, size, token)
        found.append([one.id for one in page])
        if not token:
            return found


async def test_a_page_of_documents_is_bounded_by_bytes(service: SearchService) -> None:
    half = listing.MAX_PAGE_BYTES // 2 - 100
    await fill(service, half, half, 300, 2 * listing.MAX_PAGE_BYTES, 1)
    expected = [["d0", "d1"], ["d2"], ["d3"], ["d4"]]
    assert await pages(service, None, 100) == expected
    assert await pages(service, NumberCondition("n", "ge", (0.0,)), 100) == expected
    assert [[one.id for one in page] async for page in service.export("c")] == expected


async def test_a_response_that_is_too_large_is_refused(
    service: SearchService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.search.service.MAX_RESPONSE_BYTES", 5_000)
    await fill(service, 3_000, 3_000)
    assert len(await service.get("c", ["d1", "none"])) == 2
    with pytest.raises(InvalidArgument, match="Request less") as caught:
        await service.get("c", ["d0", "d1"])
    assert caught.value.reason == "RESPONSE_TOO_LARGE"


async def test_later_pages_of_a_filtered_list_do_not_search_again(
    service: SearchService, redis: VectorRedis
) -> None:
    await fill(service, *[1] * 6)
    page, token = await service.list_documents("c", LARGE, 2, "")
    assert [one.id for one in page] == ["d2", "d3"]
    redis.commands.clear()
    page, token = await service.list_documents("c", LARGE, 2, token)
    assert ([one.id for one in page], token) == (["d4", "d5"], "")
    assert not [command for command in redis.commands if command[0] == "VSIM"]


async def test_documents_that_no_longer_match_are_left_out(service: SearchService) -> None:
    await fill(service, *[1] * 6)
    _, token = await service.list_documents("c", LARGE, 2, "")
    changed = await service.collection("c")
    await service.upsert(changed, [document("d4", 1, 1, fields={"n": 0.0})])
    page, _ = await service.list_documents("c", LARGE, 2, token)
    assert [one.id for one in page] == ["d5"]


async def test_an_expired_cursor_searches_again(service: SearchService, redis: VectorRedis) -> None:
    await fill(service, *[1] * 6)
    _, token = await service.list_documents("c", LARGE, 2, "")
    for key in [key for key in redis.sorted_sets if ":cursor:" in key]:
        del redis.sorted_sets[key]
    page, _ = await service.list_documents("c", LARGE, 2, token)
    assert [one.id for one in page] == ["d4", "d5"]


async def test_a_cursor_holds_only_the_next_ids(
    service: SearchService, redis: VectorRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MAX_CURSOR_IDS", 3)
    await fill(service, *[1] * 14)
    found = await pages(service, LARGE, 2)
    assert [key for page in found for key in page] == sorted(f"d{at}" for at in range(2, 14))
    cursors = [ids for key, ids in redis.sorted_sets.items() if ":cursor:" in key]
    assert cursors
    assert max(map(len, cursors)) == 3


@pytest.mark.parametrize("token", ["d3", "/d3"])
async def test_a_token_without_a_cursor_is_an_id(service: SearchService, token: str) -> None:
    await fill(service, *[1] * 6)
    page, _ = await service.list_documents("c", LARGE, 2, token)
    assert [one.id for one in page] == ["d4", "d5"]


async def test_internal_collections_are_listed_on_request(service: SearchService) -> None:
    names = ["a", "b", "cache-x-1", "documents-d", "twin-titles-x", "twins-x-cosine", "z"]
    for name in names:
        await service.create(collection(name=name))
    found, token = await service.list_collections(2, "")
    assert ([one.collection.name for one in found], token) == (["a", "b"], "b")
    found, token = await service.list_collections(2, token)
    assert ([one.collection.name for one in found], token) == (["z"], "")
    found, token = await service.list_collections(0, "", include_internal=True)
    assert ([one.collection.name for one in found], token) == (names, "")


async def test_the_collections_with_a_prefix_are_listed(service: SearchService) -> None:
    names = ["tenant-a-x", "tenant-b-a", "tenant-b-cache-x", "tenant-b-c", "tenant-c-x", "z"]
    for name in names:
        await service.create(collection(name=name))

    async def listed(size: int, token: str, prefix: str) -> tuple[list[str], str]:
        found, token = await service.list_collections(size, token, prefix=prefix)
        return [one.collection.name for one in found], token

    assert await listed(1, "", "tenant-b-") == (["tenant-b-a"], "tenant-b-a")
    assert await listed(1, "tenant-b-a", "tenant-b-") == (["tenant-b-c"], "")
    assert await listed(9, "a", "tenant-b-") == (["tenant-b-a", "tenant-b-c"], "")
    assert await listed(9, "z", "tenant-b-") == ([], "")
    assert await listed(9, "", "") == (["z"], "")


async def test_the_round_trips_of_a_list_do_not_grow_with_it(
    service: SearchService, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def trips() -> int:
        count = 0

        async def execute(pipe: object, raise_on_error: bool = True) -> list[object]:
            nonlocal count
            count += 1
            return await original(pipe, raise_on_error)  # type: ignore[arg-type]

        from tests.fakes.search_redis import Pipeline

        original = Pipeline.execute
        with monkeypatch.context() as patch:
            patch.setattr(Pipeline, "execute", execute)
            await service.list_collections(0, "")
        return count

    await service.create(collection(name="a"))
    few = await trips()
    for number in range(50):
        await service.create(collection(name=f"b{number}"))
    assert await trips() == few
