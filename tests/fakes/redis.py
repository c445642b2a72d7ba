"""The commands of Redis that the gateway's stores use, on a dictionary in memory."""

from collections.abc import Callable
from typing import Any, Self


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


class FakeRedis:
    """Holds values by key; replies bytes, as a client that decodes nothing does.

    ``eval`` runs no Lua: it records its call in ``evals`` and returns what ``script`` returns.
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.evals: list[tuple[str, list[str], list[Any]]] = []
        self.script: Callable[[list[str], list[Any]], Any] = lambda keys, arguments: 1
        self.failure: Exception | None = None

    def pipeline(self, *, transaction: bool) -> "FakePipeline":
        return FakePipeline(self)

    async def get(self, key: str) -> bytes | None:
        self._check()
        value: bytes | None = self.values.get(key)
        return value

    async def mget(self, keys: list[str]) -> list[bytes | None]:
        return [await self.get(key) for key in keys]

    async def incr(self, key: str) -> int:
        self._check()
        count = int(self.values.get(key, 0)) + 1
        self.values[key] = _bytes(count)
        return count

    async def delete(self, key: str) -> None:
        self._check()
        self.values.pop(key, None)

    async def hget(self, key: str, field: str) -> bytes | None:
        self._check()
        value: bytes | None = self.values.get(key, {}).get(field)
        return value

    async def hexists(self, key: str, field: str) -> bool:
        return await self.hget(key, field) is not None

    async def hset(
        self, key: str, field: str = "", value: Any = b"", mapping: dict[str, Any] | None = None
    ) -> None:
        self._check()
        fields = {field: value} if mapping is None else mapping
        self.values.setdefault(key, {}).update({name: _bytes(one) for name, one in fields.items()})

    async def smembers(self, key: str) -> set[bytes]:
        self._check()
        return {_bytes(one) for one in self.values.get(key, ())}

    async def zadd(self, key: str, mapping: dict[str, float]) -> None:
        self._check()
        self.values.setdefault(key, {}).update(mapping)

    async def zrem(self, key: str, member: str) -> None:
        self._check()
        self.values.get(key, {}).pop(member, None)

    async def zrangebylex(
        self, key: str, low: str, high: str, *, start: int, num: int
    ) -> list[bytes]:
        """Return members after ``low``, which is ``-`` or ``(member``; ``high`` is ``+``."""
        self._check()
        members = sorted(self.values.get(key, {}))
        return [_bytes(one) for one in members if low == "-" or one > low[1:]][start : start + num]

    async def eval(self, script: str, count: int, *words: Any) -> Any:
        self._check()
        keys, arguments = list(words[:count]), list(words[count:])
        self.evals.append((script, keys, arguments))
        return self.script(keys, arguments)

    def _check(self) -> None:
        if self.failure:
            raise self.failure


class FakePipeline:
    """Collects commands; ``execute`` runs them in order."""

    def __init__(self, redis: FakeRedis) -> None:
        self._redis = redis
        self._commands: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        self._commands = []

    def __getattr__(self, name: str) -> Callable[..., None]:
        def add(*words: Any, **options: Any) -> None:
            self._commands.append((name, words, options))

        return add

    async def execute(self) -> list[Any]:
        return [
            await getattr(self._redis, name)(*words, **options)
            for name, words, options in self._commands
        ]
