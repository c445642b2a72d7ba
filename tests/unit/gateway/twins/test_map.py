from typing import Any

import numpy as np
import pytest

from services.gateway.twins import map as twin_map
from services.gateway.twins.map import Plane, TwinMap
from services.gateway.twins.service import TwinService
from services.gateway.twins.store import TwinStore
from services.gateway.twins.types import Picture
from tests.fakes.backends import fake_backends
from tests.fakes.redis import FakeRedis
from tests.fakes.tenants import fake_tenants


class World:
    def __init__(self) -> None:
        redis: Any = FakeRedis()
        store, (backends, self.embedder, _) = TwinStore(redis, "test:"), fake_backends()
        self.twins = TwinService(store, backends, fake_tenants(), is_shared=False)
        self.map = TwinMap(store, backends, self.twins)

    async def add(self, *titles: str) -> None:
        for title in titles:
            await self.twins.add(Picture(title, title.encode()))


@pytest.fixture
def world() -> World:
    return World()


def test_the_plane_has_the_directions_in_which_vectors_differ_most() -> None:
    rng = np.random.default_rng(5)
    rows = rng.normal(size=(200, 6)) * [0.01, 5, 0.01, 2, 0.01, 0.01]
    plane = Plane.through(rows.astype(np.float32))
    assert np.abs(plane.axes).argmax(1).tolist() == [1, 3]
    points = plane.project(rows.astype(np.float32))
    assert np.abs(points).max() == pytest.approx(1)
    assert np.ptp(points[:, 0]) > np.ptp(points[:, 1])


def test_an_axis_always_points_the_same_way() -> None:
    rows = np.random.default_rng(6).normal(size=(50, 4)).astype(np.float32)
    one, other = Plane.through(rows), Plane.through(rows[::-1])
    np.testing.assert_allclose(one.axes, other.axes, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 8), (2, 8), (3, 1), (1, 1)])
def test_few_vectors_and_few_dimensions_have_a_plane(shape: tuple[int, int]) -> None:
    rows = np.ones(shape, np.float32)
    assert np.isfinite(Plane.through(rows).project(rows)).all()


async def test_all_twins_and_a_photo_have_places(world: World) -> None:
    assert await world.map.points() == ([], 0.0)
    assert await world.map.place(b"a photo") is None
    await world.add("red fox", "red dog", "blue whale")
    points, typical = await world.map.points()
    assert [place.id for place in points] == ["blue-whale", "red-dog", "red-fox"]
    assert all(abs(place.x) <= 1 and abs(place.y) <= 1 for place in points)
    assert typical == pytest.approx(0)  # the median of 0, 0 and .5
    found = await world.map.place(b"red fox")
    fox = next(place for place in points if place.id == "red-fox")
    assert found == pytest.approx((fox.x, fox.y), abs=1e-5)
    assert "red fox" not in world.embedder.cached_images[3:]


async def test_a_map_is_kept_until_a_twin_is_added(world: World) -> None:
    await world.add("red fox", "red dog")
    before, _ = await world.map.points()
    assert (await world.map.points())[0] is before
    await world.add("blue whale")
    assert len((await world.map.points())[0]) == 3
    await world.twins.delete("red-fox")
    assert [place.id for place in (await world.map.points())[0]] == ["blue-whale", "red-dog"]


async def test_a_map_shows_in_time_what_others_have_added(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.add("red fox")
    before, _ = await world.map.points()
    monkeypatch.setattr(twin_map, "MAX_AGE", -1.0)
    assert (await world.map.points())[0] is not before


async def test_only_so_many_maps_are_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twin_map, "MAX_MAPS", 2)
    for digest in "abc":
        world.embedder.model = type(world.embedder.model)(digest, 256, 64)
        await world.map.points()
    assert [key[0] for key in world.map._maps] == ["image-b", "image-c"]
