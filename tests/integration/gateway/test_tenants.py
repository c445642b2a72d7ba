from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bench.tenants import Tenants, compare, fill, keys, model_digest
from tests.stack import Stack, wait_until_ready


@pytest.fixture
def stacks(redis_url: str, prefix: str, tmp_path: Path) -> Iterator[list[Stack]]:
    """A stack for all tenants, and one for only the first."""
    file = keys(tmp_path)
    stacks = [
        Stack(redis_url, f"{prefix}{place}:", api_keys_file=file) for place in ("together", "alone")
    ]
    for one in stacks:
        wait_until_ready(one)
    yield stacks
    for one in stacks:
        one.close()


async def test_nothing_leaks_and_nothing_is_lost(stacks: list[Stack]) -> None:
    addresses = stacks[0].gateway_address, stacks[1].gateway_address
    tenants = Tenants(model_digest(stacks[0].embedder))
    await fill(addresses[0], tenants)
    await fill(addresses[1], tenants, only="acme")
    outcome = await compare(addresses, tenants, 2000)
    assert outcome.lookups == 2000
    assert outcome.leaks == 0
    assert outcome.denied > 0
    assert outcome.hits == outcome.expected_hits > 0
    assert outcome.together == outcome.alone > 0
