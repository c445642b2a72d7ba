"""Aliases of collections in Redis; ``Catalog.read`` resolves them.

``aliases`` is the hash of all aliases and the names of their collections.
"""

from services.errors import AlreadyExists, NotFound
from services.search.engines import scripts
from services.search.engines.connection import Client
from services.search.engines.keys import record_key
from services.search.engines.record import Record
from services.search.engines.redis_errors import redis_errors


class AliasStore:
    """Assigns, deletes and lists aliases."""

    def __init__(self, redis: Client, prefix: str) -> None:
        self._redis = redis
        self._prefix = prefix
        self._aliases = f"{prefix}search:aliases"
        self._assign = redis.register_script(scripts.ASSIGN_ALIAS)
        self._delete = redis.register_script(scripts.DELETE_ALIAS)

    async def assign(self, alias: str, record: Record) -> str:
        """Point an alias at a collection. Return its previous target, or an empty string.

        Raises:
            AlreadyExists: a collection has this name.
        """
        name = record.collection.name
        async with redis_errors():
            previous = await self._assign(keys=[record_key(self._prefix, alias)], args=[name])
            if previous is None:
                raise AlreadyExists(
                    "COLLECTION_EXISTS",
                    "A collection has this name; choose another name for the alias.",
                    field="alias",
                    collection=alias,
                )
            await self._redis.hset(self._aliases, alias, name)
        return str(previous.decode())

    async def delete(self, alias: str, *, only_of: str = "") -> str:
        """Delete an alias; return the collection's name.

        Args:
            alias: the alias.
            only_of: keep the alias unless it points to this collection.

        Raises:
            NotFound: there is no such alias.
        """
        async with redis_errors():
            name = await self._delete(keys=[record_key(self._prefix, alias)], args=[only_of])
            if name is None:
                raise NotFound(
                    "ALIAS_NOT_FOUND", "There is no such alias.", field="alias", alias=alias
                )
            if not only_of or name.decode() == only_of:
                await self._redis.hdel(self._aliases, alias)
        return str(name.decode())

    async def by_collection(self) -> dict[str, list[str]]:
        """Return the sorted aliases of each collection that has aliases."""
        async with redis_errors():
            found = await self._redis.hgetall(self._aliases)
        aliases: dict[str, list[str]] = {}
        for alias, name in sorted(found.items()):
            aliases.setdefault(name.decode(), []).append(alias.decode())
        return aliases
