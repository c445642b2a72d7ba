"""The stack of the attacks."""

import uuid
from collections.abc import Iterator

import pytest

from tests.attacks.world import World
from tests.language_model import running


@pytest.fixture(scope="package")
def world(redis_url: str, prefix: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("keys")
    with running() as model:
        one = World(redis_url, f"{prefix}attacks-{uuid.uuid4()}:", folder, model.url)
        try:
            yield one
        finally:
            one.close()
