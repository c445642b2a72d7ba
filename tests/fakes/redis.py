"""The commands of Redis that the gateway's stores use, on a dictionary in memory."""

from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, Self

from redis.exceptions import ResponseError


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _id(item: str | tuple[bytes, Any]) -> tuple[int, ...]:
    """The id of a stream's item, or that of ``(id``, as numbers."""
    text = item[1:] if isinstance(item, str) else item[0].decode()
    return tuple(map(int, text.split("-")))


class FakeRedis:
    """Holds values by key. It replies with bytes, like a client that decodes nothing.

    ``eval`` runs no Lua: it records its call in ``evals`` and returns what ``script`` returns.
    """

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.evals: list[tuple[str, list[str], list[Any]]] = []
        self.script: Callable[[list[str], list[Any]], Any] = lambda keys, arguments: 1
        self.failure: Exception | None = None
        self.expiries: dict[str, int] = {}
        self.information: dict[str, Any] = {"maxmemory": 0, "maxmemory_policy": "noeviction"}

    def client(self) -> "FakeRedis":
        """Return a client with its own connection."""
        return self

    async def initialize(self) -> None:
        self.connection = SimpleNamespace(socket_timeout=5.0)

    def pipeline(self, *, transaction: bool) -> "FakePipeline":
        return FakePipeline(self)

    async def get(self, key: str) -> bytes | None:
        self._check()
        value: bytes | None = self.values.get(key)
        return value

    async def strlen(self, key: str) -> int:
        self._check()
        return len(self.values.get(key, b""))

    async def mget(self, keys: list[str]) -> list[bytes | None]:
        return [await self.get(key) for key in keys]

    async def incr(self, key: str) -> int:
        self._check()
        count = int(self.values.get(key, 0)) + 1
        self.values[key] = _bytes(count)
        return count

    async def delete(self, *keys: str) -> None:
        self._check()
        for key in keys:
            self.values.pop(key, None)

    async def renamenx(self, key: str, new: str) -> bool:
        self._check()
        if key not in self.values:
            raise ResponseError("no such key")
        if new in self.values:
            return False
        self.values[new] = self.values.pop(key)
        return True

    async def scan_iter(self, pattern: str, *, count: int) -> AsyncIterator[bytes]:
        """Yield the keys with the prefix that the pattern has before its ``*``."""
        self._check()
        for key in list(self.values):
            if key.startswith(pattern.removesuffix("*")):
                yield key.encode()

    async def unlink(self, *keys: str) -> None:
        await self.delete(*keys)

    async def hscan(self, key: str, cursor: int, *, count: int) -> tuple[int, dict[bytes, bytes]]:
        """Return two fields at a time."""
        fields = list((await self.hgetall(key)).items())
        end = cursor + 2
        return (end if end < len(fields) else 0), dict(fields[cursor:end])

    async def set(
        self, key: str, value: Any, *, nx: bool = False, get: bool = False, ex: int = 0
    ) -> Any:
        self._check()
        old = self.values.get(key)
        if not (nx and old is not None):
            self.values[key] = _bytes(value)
            self.expiries |= {key: ex} if ex else {}
        return old if get else True

    async def info(self, section: str) -> dict[str, Any]:
        self._check()
        return self.information

    async def expire(self, key: str, seconds: int) -> None:
        self._check()
        self.expiries[key] = seconds

    def register_script(self, script: str) -> Callable[..., Any]:
        """Return the script as a function that works like ``eval``."""

        async def run(keys: list[str], args: list[Any]) -> Any:
            return await self.eval(script, len(keys), *keys, *args)

        return run

    async def hgetall(self, key: str) -> dict[bytes, bytes]:
        self._check()
        return {_bytes(name): value for name, value in self.values.get(key, {}).items()}

    async def hdel(self, key: str, *fields: str) -> None:
        self._check()
        for field in fields:
            self.values.get(key, {}).pop(field, None)

    async def hincrbyfloat(self, key: str, field: str, amount: float) -> None:
        self._check()
        fields = self.values.setdefault(key, {})
        fields[field] = _bytes(float(fields.get(field, 0)) + amount)

    async def xadd(
        self, key: str, fields: dict[str, Any], *, maxlen: int, approximate: bool = True
    ) -> bytes:
        self._check()
        stream = self.values.setdefault(key, [])
        number = int(stream[-1][0].split(b"-")[0]) + 1 if stream else 1
        stream.append(
            (b"%d-0" % number, {_bytes(name): _bytes(one) for name, one in fields.items()})
        )
        del stream[:-maxlen]
        return stream[-1][0]  # type: ignore[no-any-return]

    async def xrange(self, key: str, start: str) -> list[Any]:
        """Return the items after ``start``, which is ``-`` or ``(id``."""
        self._check()
        return [one for one in self.values.get(key, []) if start == "-" or _id(one) > _id(start)]

    async def xrevrange(self, key: str, *, max: str, count: int) -> list[Any]:  # noqa: A002
        """Return the items before ``max``, which is ``+`` or ``(id``, newest first."""
        self._check()
        items = [one for one in self.values.get(key, []) if max == "+" or _id(one) < _id(max)]
        return items[::-1][:count]

    async def hget(self, key: str, field: str) -> bytes | None:
        self._check()
        value: bytes | None = self.values.get(key, {}).get(field)
        return value

    async def hincrby(self, key: str, field: str, amount: int) -> None:
        count = int(await self.hget(key, field) or 0) + amount
        await self.hset(key, field, count)

    async def hexists(self, key: str, field: str) -> bool:
        return await self.hget(key, field) is not None

    async def hset(
        self, key: str, field: str = "", value: Any = b"", mapping: dict[str, Any] | None = None
    ) -> None:
        self._check()
        fields = {field: value} if mapping is None else mapping
        self.values.setdefault(key, {}).update({name: _bytes(one) for name, one in fields.items()})

    async def smembers(self, key: str) -> frozenset[bytes]:
        self._check()
        return frozenset(_bytes(one) for one in self.values.get(key, ()))

    async def sismember(self, key: str, member: str) -> bool:
        self._check()
        return member in self.values.get(key, ())

    async def sadd(self, key: str, *members: str) -> None:
        self._check()
        self.values.setdefault(key, set()).update(members)

    async def srem(self, key: str, *members: str) -> None:
        self._check()
        self.values.get(key, set()).difference_update(members)

    async def zadd(self, key: str, mapping: dict[str, float]) -> None:
        self._check()
        self.values.setdefault(key, {}).update(mapping)

    async def zcard(self, key: str) -> int:
        self._check()
        return len(self.values.get(key, {}))

    async def zpopmin(self, key: str, count: int) -> list[tuple[bytes, float]]:
        self._check()
        members = self.values.get(key, {})
        lowest = sorted(members, key=lambda one: (members[one], one))[:count]
        return [(_bytes(one), members.pop(one)) for one in lowest]

    async def zrange(self, key: str, start: int, end: int) -> list[bytes]:
        self._check()
        assert (start, end) == (0, -1)
        return [_bytes(one) for one in sorted(self.values.get(key, {}))]

    async def zrem(self, key: str, *members: str | bytes) -> None:
        self._check()
        for member in members:
            self.values.get(key, {}).pop(member, None)

    async def zremrangebyrank(self, key: str, start: int, end: int) -> None:
        self._check()
        assert start == 0
        members = self.values.get(key, {})
        ordered = sorted(members, key=lambda one: (members[one], one))
        for member in ordered[: max(0, len(ordered) + end + 1)] if end < 0 else ordered[: end + 1]:
            del members[member]

    async def zremrangebyscore(self, key: str, low: float, high: float) -> None:
        self._check()
        members = self.values.get(key, {})
        for member in [one for one, score in members.items() if low <= score <= high]:
            del members[member]

    async def exists(self, key: str) -> int:
        self._check()
        return int(key in self.values)

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

    async def execute(self, *, raise_on_error: bool = True) -> list[Any]:
        replies = []
        for name, words, options in self._commands:
            try:
                replies.append(await getattr(self._redis, name)(*words, **options))
            except ResponseError as error:
                if raise_on_error:
                    raise
                replies.append(error)
        return replies
