"""A Redis in memory with vector sets: the commands and scripts that the search service uses.

Vector sets compare every element. ``unreachable`` holds ids that an approximate search misses.
``commands`` records what ``execute_command`` received; ``query_engine`` answers FT.* commands.
"""

import json
import re
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Self

import numpy as np

from services.search.engines import scripts

Hash = dict[str, bytes]


def encoded(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


class VectorRedis:
    """One server; ``failure`` is raised by every command while it is set."""

    def __init__(self) -> None:
        self.hashes: dict[str, Hash] = defaultdict(dict)
        self.sorted_sets: dict[str, dict[bytes, float]] = defaultdict(dict)
        self.strings: dict[str, bytes] = {}
        self.vector_sets: dict[str, dict[bytes, tuple[Any, str]]] = defaultdict(dict)
        self.expiry_ms: dict[str, int] = {}
        self.unreachable: set[bytes] = set()
        self.commands: list[tuple[Any, ...]] = []
        self.query_engine: Callable[..., Any] | None = None
        self.settings = {"appendonly": "yes", "appendfsync": "always"}
        self.version = "8.10.1"
        self.failure: Exception | None = None

    def check(self) -> None:
        if self.failure:
            raise self.failure

    def register_script(self, script: str) -> Callable[..., Any]:
        async def run(*, keys: Sequence[str], args: Sequence[Any]) -> Any:
            self.check()
            return _SCRIPTS[script](self, list(keys), [encoded(one) for one in args])

        return run

    def pipeline(self, *, transaction: bool) -> "Pipeline":
        return Pipeline(self)

    async def aclose(self) -> None:
        pass

    async def ping(self) -> bool:
        self.check()
        return True

    async def info(self, section: str) -> dict[str, str]:
        self.check()
        return {"redis_version": self.version}

    async def config_get(self, *names: str) -> dict[str, str]:
        self.check()
        return {name: value for name, value in self.settings.items() if name in names}

    async def get(self, key: str) -> bytes | None:
        return self.strings.get(key)

    async def set(self, key: str, value: bytes, *, nx: bool, ex: int) -> bool | None:
        if nx and key in self.strings:
            return None
        self.strings[key] = value
        return True

    async def delete(self, *keys: str) -> None:
        await self.unlink(*keys)

    async def unlink(self, *keys: str) -> None:
        for key in keys:
            for store in (self.hashes, self.sorted_sets, self.strings, self.vector_sets):
                store.pop(key, None)

    async def expire(self, key: str, seconds: int) -> None:
        pass

    async def pttl(self, key: str) -> int:
        return self.expiry_ms[key] - int(time.time() * 1000) if key in self.expiry_ms else -1

    async def memory_usage(self, key: str) -> int | None:
        size = len(self.vector_sets.get(key, ())) + len(self.hashes.get(key, ()))
        return 100 * size or None

    async def hget(self, key: str, name: str) -> bytes | None:
        self.check()
        return self.hashes.get(key, {}).get(name)

    async def hmget(self, key: str, names: Sequence[str]) -> list[bytes | None]:
        self.check()
        return [self.hashes.get(key, {}).get(name) for name in names]

    async def hgetall(self, key: str) -> dict[bytes, bytes]:
        self.check()
        return {encoded(name): value for name, value in self.hashes.get(key, {}).items()}

    async def hset(
        self, key: str, name: str = "", value: Any = b"", mapping: dict[str, Any] | None = None
    ) -> None:
        self.check()
        for one, what in (mapping or {name: value}).items():
            self.hashes[key][one] = encoded(what)

    async def hdel(self, key: str, name: str | bytes) -> None:
        self.check()
        self.hashes.get(key, {}).pop(name.decode() if isinstance(name, bytes) else name, None)

    async def zadd(self, key: str, mapping: dict[str, float]) -> None:
        self.check()
        self.sorted_sets[key].update({encoded(one): score for one, score in mapping.items()})

    async def zrem(self, key: str, *members: Any) -> None:
        self.check()
        for member in members:
            self.sorted_sets[key].pop(encoded(member), None)

    async def zcard(self, key: str) -> int:
        self.check()
        return len(self.sorted_sets.get(key, ()))

    async def zcount(self, key: str, low: str, high: int) -> int:
        return len(await self.zrangebyscore(key, low, high))

    async def zrange(self, key: str, first: int, last: int) -> list[bytes]:
        self.check()
        members = self.sorted_sets.get(key, {})
        ordered = sorted(members, key=lambda one: (members[one], one))
        return ordered[first : last + 1 if last >= 0 else None]

    async def zrangebyscore(
        self, key: str, low: str, high: float, start: int = 0, num: int | None = None
    ) -> list[bytes]:
        self.check()
        found = [one for one, score in self.sorted_sets.get(key, {}).items() if score <= high]
        return found[start:][:num]

    async def zrangebylex(
        self, key: str, low: str, high: str, *, start: int, num: int
    ) -> list[bytes]:
        self.check()
        members = sorted(self.sorted_sets.get(key, {}))
        after = [one for one in members if low == "-" or one > low[1:].encode()]
        return after[start : start + num]

    async def execute_command(self, name: str, *words: Any) -> Any:
        self.check()
        self.commands.append((name, *words))
        if name.startswith("FT."):
            if self.query_engine is None:
                raise AssertionError(f"unexpected {name}")
            return self.query_engine(name, *words)
        if name == "COMMAND INFO":
            return [None if one.startswith("FT.") and not self.query_engine else 1 for one in words]
        commands: dict[str, Callable[..., Any]] = {
            "VSIM": self._vsim,
            "VCARD": lambda key: len(self.vector_sets.get(key, ())),
            "HMGET": lambda key, *names: [self.hashes.get(key, {}).get(one) for one in names],
            "ZRANGE": lambda *_: [],
            "ZRANGEBYLEX": lambda key, *rest: sorted(self.sorted_sets.get(key, ()))[: rest[-1]],
            "EVAL": self._search_text,
        }
        return commands[name](*words)

    def _vsim(self, key: str, _: str, vector: bytes, *options: Any) -> list[bytes]:
        count = int(options[options.index("COUNT") + 1])
        expression = options[options.index("FILTER") + 1] if "FILTER" in options else "True"
        found = []
        for one, (row, attributes) in self.vector_sets.get(key, {}).items():
            reachable = "TRUTH" in options or one not in self.unreachable
            if reachable and _meets(expression, attributes):
                found.append((-float(row @ np.frombuffer(vector, "<f4")), one))
        best = sorted(found)[:count]
        if "WITHSCORES" not in options:
            return [one for _, one in best]
        return [part for score, one in best for part in (one, b"%.17g" % ((1 - score) / 2))]

    def _search_text(self, *words: Any) -> list[bytes]:
        """Rank by the number of distinct stems that a text contains."""
        prefix, count, *stems = words[4:]
        scores: dict[bytes, int] = defaultdict(int)
        for stem in stems:
            for one in self.sorted_sets.get(prefix + stem, ()):
                scores[one] += 1
        best = sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))[:count]
        return [part for one, score in best for part in (one, b"%d" % score)]


class Pipeline:
    """Collects commands; ``execute`` runs them in order."""

    def __init__(self, redis: VectorRedis) -> None:
        self._redis = redis
        self._commands: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        pass

    def __getattr__(self, name: str) -> Callable[..., None]:
        def add(*words: Any, **options: Any) -> None:
            self._commands.append((name, words, options))

        return add

    def execute_command(self, name: str, *words: Any, **options: Any) -> None:
        command = ("unlink", words) if name == "UNLINK" else ("execute_command", (name, *words))
        self._commands.append((*command, options))

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        replies = []
        for name, words, options in self._commands:
            try:
                replies.append(await getattr(self._redis, name)(*words, **options))
            except Exception as error:
                if raise_on_error:
                    raise
                replies.append(error)
        return replies


def _meets(expression: str, attributes: str) -> bool:
    """Evaluate a filter. Its language is Python's, except for the dots before attributes."""
    return bool(
        eval(re.sub(r"\.([a-z]\d*)", r'a["\1"]', expression), {"a": json.loads(attributes)})
    )


def _is_stale(redis: VectorRedis, keys: list[str], args: list[bytes]) -> bool:
    return redis.hashes.get(keys[0], {}).get("version") != args[0]


def _add(redis: VectorRedis, key: str, one: bytes, vector: bytes, attributes: bytes) -> None:
    row = np.frombuffer(vector, "<f4").astype(float)
    redis.vector_sets[key][one] = (row / np.linalg.norm(row), attributes.decode())


def _remove_terms(redis: VectorRedis, key: str, prefix: bytes, one: bytes) -> None:
    for stem in redis.hashes.get(key, {}).get("s", b"").split():
        redis.sorted_sets[(prefix + stem).decode()].pop(one, None)


def _register(redis: VectorRedis, keys: list[str], key: str, one: bytes, expiry: bytes) -> None:
    redis.sorted_sets[keys[1]][one] = 0
    redis.sorted_sets[keys[2]].pop(one, None)
    redis.expiry_ms.pop(key, None)
    if expiry != b"0":
        redis.sorted_sets[keys[2]][one] = int(expiry)
        redis.expiry_ms[key] = int(expiry)


def _is_replaced(redis: VectorRedis, keys: list[str], batch: bytes, one: bytes) -> bool:
    pending = redis.hashes[keys[1].removesuffix("ids") + "pending"]
    if batch and pending.get(one.decode()) != batch:
        return True
    pending.pop(one.decode(), None)
    return False


def _upsert(redis: VectorRedis, keys: list[str], args: list[bytes]) -> Any:
    if _is_stale(redis, keys, args):
        return b"stale"
    created, prefix = [], args[9]
    for number, key in enumerate(keys[5:]):
        one, transformed, newest, attributes, expiry, *parts = args[12 + 10 * number :][:10]
        if _is_replaced(redis, keys, args[11], one):
            created.append(0)
            continue
        created.append(int(key not in redis.hashes))
        _remove_terms(redis, key, prefix, one)
        redis.hashes[key] = dict(zip("vftps", parts, strict=True))
        for stem in parts[4].split():
            redis.sorted_sets[(prefix + stem).decode()][one] = 1.0
        _add(redis, keys[3], one, transformed, attributes)
        if newest:
            _add(redis, keys[4], one, newest, attributes)
        _register(redis, keys, key, one, expiry)
    return created


def _upsert_hashes(redis: VectorRedis, keys: list[str], args: list[bytes]) -> Any:
    if _is_stale(redis, keys, args):
        return b"stale"
    created, at = [], 2
    for key in keys[5:]:
        one, expiry, count = args[at], args[at + 1], int(args[at + 2])
        pairs = args[at + 3 : at + 3 + count]
        if _is_replaced(redis, keys, args[1], one):
            created.append(0)
            at += 3 + count
            continue
        created.append(int(key not in redis.hashes))
        redis.hashes[key] = {
            name.decode(): value for name, value in zip(pairs[::2], pairs[1::2], strict=True)
        }
        _register(redis, keys, key, one, expiry)
        at += 3 + count
    return created


def _delete(redis: VectorRedis, keys: list[str], args: list[bytes]) -> Any:
    if _is_stale(redis, keys, args):
        return b"stale"
    deleted = 0
    for key, one in zip(keys[5:], args[3:], strict=True):
        expiry = redis.sorted_sets[keys[2]].get(one)
        if args[1] != b"all" and (expiry is None or expiry > int(args[1])):
            continue
        _is_replaced(redis, keys, b"", one)
        deleted += redis.sorted_sets[keys[1]].pop(one, None) is not None
        redis.sorted_sets[keys[2]].pop(one, None)
        _remove_terms(redis, key, args[2], one)
        redis.hashes.pop(key, None)
        for vectors in keys[3:5]:
            redis.vector_sets[vectors].pop(one, None)
    return deleted


def _write_stems(redis: VectorRedis, keys: list[str], args: list[bytes]) -> Any:
    if _is_stale(redis, keys, args):
        return b"stale"
    for number, key in enumerate(keys[5:]):
        one, text, stems = args[3 + 3 * number :][:3]
        if redis.hashes.get(key, {}).get("t") != text:
            continue
        if args[1]:
            _remove_terms(redis, key, args[1], one)
            for stem in stems.split():
                redis.sorted_sets[(args[1] + stem).decode()][one] = 1.0
        redis.hashes[key]["s"] = stems
    return b"written"


def _copy(redis: VectorRedis, keys: list[str], args: list[bytes]) -> Any:
    if _is_stale(redis, keys, args):
        return b"stale"
    for number, key in enumerate(keys[5:]):
        one, transformed, attributes = args[5 + 3 * number :][:3]
        if key in redis.hashes and one not in redis.vector_sets[keys[4]]:
            _add(redis, keys[4], one, transformed, attributes)
    return b"copied"


def _copy_hashes(redis: VectorRedis, keys: list[str], args: list[bytes]) -> Any:
    if _is_stale(redis, keys, args):
        return b"stale"
    for number, key in enumerate(keys[5:]):
        if key in redis.hashes:
            redis.hashes[key].setdefault(args[1].decode(), args[3 + 2 * number])
    return b"copied"


def _conflict(redis: VectorRedis, keys: list[str], args: list[bytes], first: int, step: int) -> Any:
    if _is_stale(redis, keys, args):
        return b"stale"
    for number, key in enumerate(keys[5:]):
        fields = redis.hashes.get(key, {}).get("f")
        if fields is None:
            return b"missing"
        if fields != args[first + number * step]:
            return b"changed"
    return None


def _update_fields(redis: VectorRedis, keys: list[str], args: list[bytes]) -> Any:
    if conflict := _conflict(redis, keys, args, 2, 4):
        return conflict
    for number, key in enumerate(keys[5:]):
        one, _, fields, attributes = args[1 + 4 * number :][:4]
        redis.hashes[key]["f"] = fields
        for vectors in keys[3:5]:
            if one in redis.vector_sets[vectors]:
                row, _ = redis.vector_sets[vectors][one]
                redis.vector_sets[vectors][one] = (row, attributes.decode())
    return b"updated"


def _update_hashes(redis: VectorRedis, keys: list[str], args: list[bytes]) -> Any:
    first = 2 + int(args[1])
    if conflict := _conflict(redis, keys, args, first, 2):
        return conflict
    for number, key in enumerate(keys[5:]):
        for name in args[2:first]:
            redis.hashes[key].pop(name.decode(), None)
        pairs = json.loads(args[first + 1 + 2 * number])
        for name, value in zip(pairs[::2], pairs[1::2], strict=True):
            redis.hashes[key][name] = encoded(value)
    return b"updated"


def _replace_record(redis: VectorRedis, keys: list[str], args: list[bytes]) -> int:
    if redis.hashes.get(keys[0], {}).get("version", b"") != args[0]:
        return 0
    redis.hashes[keys[0]] = {"version": args[1], "record": args[2]}
    return 1


def _delete_record(redis: VectorRedis, keys: list[str], args: list[bytes]) -> Any:
    if _is_stale(redis, keys, args):
        return b"stale"
    del redis.hashes[keys[0]]
    return 1


def _assign_alias(redis: VectorRedis, keys: list[str], args: list[bytes]) -> bytes | None:
    if "record" in redis.hashes.get(keys[0], {}):
        return None
    previous = redis.hashes.get(keys[0], {}).get("alias", b"")
    redis.hashes[keys[0]] = {"version": b"alias", "alias": args[0]}
    return previous


def _delete_alias(redis: VectorRedis, keys: list[str], args: list[bytes]) -> bytes | None:
    previous = redis.hashes.get(keys[0], {}).get("alias")
    if previous and args[0] in (b"", previous):
        del redis.hashes[keys[0]]
    return previous


_SCRIPTS: dict[str, Callable[[VectorRedis, list[str], list[bytes]], Any]] = {
    scripts.UPSERT: _upsert,
    scripts.WRITE_STEMS: _write_stems,
    scripts.UPSERT_PENDING: _upsert,
    scripts.UPSERT_HASHES: _upsert_hashes,
    scripts.UPSERT_PENDING_HASHES: _upsert_hashes,
    scripts.DELETE: _delete,
    scripts.COPY: _copy,
    scripts.COPY_HASHES: _copy_hashes,
    scripts.UPDATE_FIELDS: _update_fields,
    scripts.UPDATE_HASHES: _update_hashes,
    scripts.REPLACE_RECORD: _replace_record,
    scripts.DELETE_RECORD: _delete_record,
    scripts.ASSIGN_ALIAS: _assign_alias,
    scripts.DELETE_ALIAS: _delete_alias,
}
