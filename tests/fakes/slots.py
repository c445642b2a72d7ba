"""A Redis that records which keys change together."""

from typing import Any

from redis.crc import key_slot

from services.gateway.tenants import DEFAULT_TENANT, Tenant
from tests.fakes.redis import FakePipeline, FakeRedis

TENANTS = [DEFAULT_TENANT, Tenant("0af9" * 8)]


class SlotRedis(FakeRedis):
    """Records the keys of each script and each transaction."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: list[list[str]] = []
        self.script = lambda keys, arguments: [[], 1] if len(keys) == 6 else 1

    async def eval(self, script: str, count: int, *words: Any) -> Any:
        self.groups.append(list(words[:count]))
        return await super().eval(script, count, *words)

    def pipeline(self, *, transaction: bool) -> FakePipeline:
        return SlotPipeline(self) if transaction else FakePipeline(self)

    def check(self) -> None:
        """Check that each script and each transaction touches one slot of a cluster."""
        assert self.groups
        for keys in self.groups:
            assert len({key_slot(key.encode()) for key in keys}) == 1, keys


class SlotPipeline(FakePipeline):
    async def execute(self, *, raise_on_error: bool = True) -> list[Any]:
        self._redis.groups.append([words[0] for _, words, _ in self._commands])  # type: ignore[attr-defined]
        return await super().execute(raise_on_error=raise_on_error)
