from dataclasses import dataclass, replace
from typing import Any

import pytest

from services.errors import InvalidArgument, NotFound
from services.gateway.backends.backends import Backends
from services.gateway.backends.types import TextReading
from services.gateway.tenants import DEFAULT_TENANT
from services.gateway.twins.service import MAX_LIMIT, MAX_TEXT_CHARACTERS, TwinService
from services.gateway.twins.store import TwinStore
from services.gateway.twins.types import Picture
from tests.fakes.backends import FakeEmbedder, FakeSearch, fake_backends
from tests.fakes.redis import FakeRedis
from tests.fakes.tenants import fake_tenants

COLLECTIONS = {"twins-image-digest-cosine", "twins-image-digest-ip", "twins-image-digest-l2"}


@dataclass
class World:
    """A service with fakes. A picture file is the text that it shows."""

    twins: TwinService
    embedder: FakeEmbedder
    search: FakeSearch
    redis: Any

    def found(self) -> dict[str, set[str]]:
        """The ids in each collection of search that is not empty."""
        ids = {name: set(self.search.documents(name)) for name in self.search.collections}
        return {name: one for name, one in ids.items() if one}

    async def add(self, title: str, image: str = "", **more: Any) -> tuple[Any, bool]:
        return await self.twins.add(Picture(title, (image or title).encode(), **more))

    async def titles(self, image: str, limit: int = 0) -> list[str]:
        results = await self.twins.find(image.encode(), "cosine", limit)
        return [twin.title for twin in results.twins]


def twin_service(store: TwinStore, backends: Backends, *, is_shared: bool = False) -> TwinService:
    return TwinService(store, backends, fake_tenants(), is_shared=is_shared)


@pytest.fixture
def world() -> World:
    redis: Any = FakeRedis()
    backends, embedder, search = fake_backends()
    return World(twin_service(TwinStore(redis, "test:"), backends), embedder, search, redis)


async def test_a_picture_is_indexed_for_every_metric_and_by_its_title(world: World) -> None:
    twin, created = await world.add("My Ünique  Toast", tags=["bread"])
    assert (twin.id, created) == ("my-unique-toast", True)
    assert set(world.search.collections) == COLLECTIONS | {"twin-titles-digest"}
    metrics = {name: one.spec.metric for name, one in world.search.collections.items()}
    assert {metrics[name] for name in COLLECTIONS} == {"cosine", "ip", "l2"}
    for collection in world.search.collections:
        assert set(world.search.documents(collection)) == {"my-unique-toast"}
    assert "My Ünique  Toast. bread" in world.embedder.embedded


async def test_the_nearest_twins_come_first(world: World) -> None:
    for title in ("red fox", "red dog", "blue whale"):
        await world.add(title)
    assert await world.titles("red dog") == ["red dog", "red fox", "blue whale"]
    assert await world.titles("red dog", limit=1) == ["red dog"]
    results = await world.twins.find(b"red dog", "l2", 2)
    assert results.twins[0].similarity > results.twins[1].similarity
    assert (results.model, results.model_digest) == ("image-model", "image-digest")


async def test_pictures_that_are_looked_up_are_not_cached(world: World) -> None:
    await world.add("fox")
    await world.titles("a visitor")
    assert world.embedder.cached_images == ["fox"]


async def test_a_text_has_a_limit(world: World) -> None:
    await world.twins.find_by_text("x" * MAX_TEXT_CHARACTERS, "cosine", 1)
    with pytest.raises(InvalidArgument) as caught:
        await world.twins.find_by_text("x" * (MAX_TEXT_CHARACTERS + 1), "cosine", 1)
    assert caught.value.reason == "DESCRIPTION_TOO_LONG"


async def test_a_text_finds_titles_unless_the_image_model_reads_texts(world: World) -> None:
    await world.add("fox", image="a picture of something red")
    await world.add("whale", image="a picture of something blue")
    found = await world.twins.find_by_text("whale", "cosine", 1)
    assert [one.title for one in found.twins] == ["whale"]
    world.embedder.image_model_reads_texts = True
    found = await world.twins.find_by_text("something red", "cosine", 1)
    assert [one.title for one in found.twins] == ["fox"]


async def test_a_text_that_no_model_reads_is_refused(world: World) -> None:
    await world.add("fox")
    world.embedder.readings["лиса"] = TextReading(readable=False)
    for world.embedder.image_model_reads_texts in (False, True):
        with pytest.raises(InvalidArgument) as caught:
            await world.twins.find_by_text("лиса", "cosine", 1)
        assert (caught.value.reason, caught.value.field) == ("UNREADABLE_TEXT", "text")


async def test_the_same_picture_is_not_embedded_again(world: World) -> None:
    await world.add("fox")
    embedded = list(world.embedder.embedded)
    assert (await world.add("fox"))[1] is False
    assert world.embedder.embedded == embedded
    _, created = await world.add("fox", image="another picture")
    assert created is False
    assert "another picture" in world.embedder.embedded


@pytest.mark.parametrize("collection", sorted(COLLECTIONS | {"twin-titles-digest"}))
async def test_a_picture_that_search_has_lost_is_embedded_again(
    world: World, collection: str
) -> None:
    await world.add("fox")
    await world.search.delete(collection, ["fox"])
    await world.add("fox")
    assert world.found() == {name: {"fox"} for name in COLLECTIONS | {"twin-titles-digest"}}


async def test_without_twins_of_the_model_nothing_is_found(world: World) -> None:
    assert await world.titles("fox") == []


async def test_a_deleted_twin_is_gone_everywhere(world: World) -> None:
    await world.add("fox")
    await world.twins.delete("fox")
    assert world.found() == {}
    assert world.redis.values == {"test:gateway:twin-ids:{/}": {}}
    for call in (world.twins.picture, world.twins.delete):
        with pytest.raises(NotFound) as caught:
            await call("fox")
        assert caught.value.reason == "TWIN_NOT_FOUND"


class Interrupted(Exception):
    """What ends a call midway."""


@pytest.mark.parametrize("deletions", range(4))
async def test_a_deletion_that_was_cut_off_can_be_repeated(
    world: World, monkeypatch: pytest.MonkeyPatch, deletions: int
) -> None:
    await world.add("fox")
    delete, calls = world.search.delete, iter(range(9))

    async def fail_later(collection: str, ids: Any) -> None:
        if next(calls) == deletions:
            raise Interrupted
        await delete(collection, ids)

    monkeypatch.setattr(world.search, "delete", fail_later)
    with pytest.raises(Interrupted):
        await world.twins.delete("fox")
    monkeypatch.undo()
    await world.twins.delete("fox")
    assert world.found() == {}


async def test_a_deletion_needs_no_embedder(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await world.add("fox")
    for name in ("embed_documents", "embed_image", "text_model", "image_model_digest"):
        monkeypatch.delattr(FakeEmbedder, name)
    await world.twins.delete("fox")
    assert world.found() == {}


async def test_vectors_of_an_earlier_model_are_replaced(world: World) -> None:
    await world.add("fox")
    world.embedder.model = replace(world.embedder.model, digest="other")
    await world.add("fox")
    assert set(world.found()) == {
        *(name.replace("digest", "other") for name in COLLECTIONS),
        "twin-titles-other",
    }
    await world.twins.delete("fox")
    assert world.found() == {}


async def test_vectors_of_an_earlier_model_are_deleted_with_their_twin(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.add("fox")
    world.embedder.model = replace(world.embedder.model, digest="other")
    monkeypatch.delattr(FakeSearch, "delete")
    with pytest.raises(AttributeError):
        await world.add("fox")
    monkeypatch.undo()
    assert len(world.found()) == 8
    await world.twins.delete("fox")
    assert world.found() == {}


async def test_a_twin_of_an_earlier_version_is_deleted_with_its_vectors(world: World) -> None:
    await world.add("fox")
    del world.redis.values["test:gateway:twin-vectors:{/fox}"]
    await world.twins.delete("fox")
    assert world.found() == {}


async def test_a_hit_without_a_record_is_left_out(world: World) -> None:
    await world.add("fox")
    await world.add("dog")
    documents = world.search.documents("twins-image-digest-cosine")
    documents["ghost"] = replace(documents["fox"], id="ghost")
    assert sorted(await world.titles("fox")) == ["dog", "fox"]


@pytest.mark.parametrize(
    ("image", "media_type"),
    [
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"\x89PNG\r\n\x1a\n", "image/png"),
        (b"GIF89a", "image/gif"),
        (b"BM", "image/bmp"),
        (b"RIFF1234WEBP", "image/webp"),
        (b"RIFF1234WAVE", "application/octet-stream"),
    ],
)
async def test_the_media_type_follows_the_signature(image: bytes, media_type: str) -> None:
    redis: Any = FakeRedis()
    store = TwinStore(redis, "test:")
    await store.put(DEFAULT_TENANT, {"id": "a"}, image, ["c"])
    twins = twin_service(store, fake_backends()[0])
    assert await twins.picture("a") == (image, media_type)


async def test_twins_are_listed(world: World) -> None:
    await world.add("fox")
    await world.add("dog")
    page, token = await world.twins.page(1, "")
    rest, _ = await world.twins.page(1, token)
    assert [one.id for one in (*page, *rest)] == ["dog", "fox"]


@pytest.mark.parametrize("limit", [-1, MAX_LIMIT + 1])
async def test_limits_are_checked(world: World, limit: int) -> None:
    for call in (world.twins.find(b"x", "ip", limit), world.twins.find_by_text("x", "ip", limit)):
        with pytest.raises(InvalidArgument) as caught:
            await call
        assert caught.value.reason == "BAD_LIMIT"


async def test_empty_queries_are_refused(world: World) -> None:
    with pytest.raises(InvalidArgument):
        await world.twins.find(b"", "ip", 1)
    with pytest.raises(InvalidArgument):
        await world.twins.find_by_text(" \n", "ip", 1)


async def test_an_unchanged_picture_keeps_its_source(world: World) -> None:
    await world.add("fox", source="folder:1")
    twin, created = await world.add("fox")
    assert (twin.source, created) == ("folder:1", False)
    replaced, _ = await world.add("fox", "another fox")
    assert replaced.source == ""
    with pytest.raises(InvalidArgument) as caught:
        await world.add("fox", source="x" * 257)
    assert caught.value.reason == "BAD_SOURCE"
