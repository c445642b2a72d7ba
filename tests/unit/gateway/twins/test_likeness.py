from typing import Any

import pytest

from services.errors import InvalidArgument, NotFound
from services.gateway.twins.likeness import MAX_PICTURES, Likeness
from services.gateway.twins.service import TwinService
from services.gateway.twins.store import TwinStore
from services.gateway.twins.types import Picture
from tests.fakes.backends import FakeEmbedder, fake_backends
from tests.fakes.redis import FakeRedis
from tests.fakes.tenants import fake_tenants


class World:
    def __init__(self) -> None:
        redis: Any = FakeRedis()
        backends, self.embedder, _ = fake_backends()
        self.twins = TwinService(
            TwinStore(redis, "test:"), backends, fake_tenants(), is_shared=False
        )
        self.likeness = Likeness(backends, self.twins)


@pytest.fixture
async def world() -> World:
    one = World()
    await one.twins.add(Picture("red fox", b"red fox"))
    return one


async def test_similarities_are_cosines_in_the_order_of_the_pictures(world: World) -> None:
    found = await world.likeness.similarities("red-fox", [b"red fox", b"red dog", b"blue whale"])
    assert found == pytest.approx([1, 0.5, 0])
    assert world.embedder.cached_images == ["red fox"]  # the twin alone


@pytest.mark.parametrize("count", [0, MAX_PICTURES + 1])
async def test_the_number_of_pictures_has_bounds(world: World, count: int) -> None:
    with pytest.raises(InvalidArgument) as caught:
        await world.likeness.similarities("red-fox", [b"red"] * count)
    assert caught.value.reason == "BAD_PICTURE_COUNT"


async def test_an_unknown_twin_is_not_found(world: World) -> None:
    with pytest.raises(NotFound):
        await world.likeness.similarities("none", [b"red"])


async def test_a_twin_of_another_model_is_not_found(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def other(embedder: FakeEmbedder) -> str:
        return "another"

    monkeypatch.setattr(FakeEmbedder, "image_model_digest", other)
    with pytest.raises(NotFound):
        await world.likeness.similarities("red-fox", [b"red"])
