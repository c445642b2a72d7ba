"""Other names of collections, as Redis keeps them (see ``records``)."""

from services.errors import AlreadyExists, NotFound
from services.search.engines import scripts
from services.search.engines.catalog import Record, Records
from services.search.engines.connection import Client, asking
from services.search.types import Collection


class Aliases:
    """Gives collections other names; ``Records.read`` follows them."""

    def __init__(self, redis: Client, records: Records, prefix: str) -> None:
        self._redis = redis
        self._records = records
        self._all = f"{prefix}search:aliases"
        self._assign = redis.register_script(scripts.ASSIGN_ALIAS)
        self._delete = redis.register_script(scripts.DELETE_ALIAS)

    async def assign(self, alias: str, record: Record) -> str:
        """Let an alias call a collection; return what it called before, if anything.

        Raises:
            AlreadyExists: a collection has this name.
        """
        name = record.collection.name
        async with asking():
            previous = await self._assign(keys=[self._key(alias)], args=[name])
            if previous is None:
                raise AlreadyExists(
                    "COLLECTION_EXISTS",
                    "A collection has this name, so that it cannot be an alias.",
                    field="alias",
                    collection=alias,
                )
            await self._redis.hset(self._all, alias, name)
        return str(previous.decode())

    async def delete(self, alias: str, *, of: str = "") -> str:
        """Delete an alias, if it is that collection's; return what it called. Raises NotFound."""
        async with asking():
            called = await self._delete(keys=[self._key(alias)], args=[of])
            if called is None:
                raise NotFound(
                    "ALIAS_NOT_FOUND", "There is no such alias.", field="alias", alias=alias
                )
            if not of or called.decode() == of:
                await self._redis.hdel(self._all, alias)
        return str(called.decode())

    async def by_collection(self) -> dict[str, list[str]]:
        """Return the aliases of every collection that has some, in their order."""
        async with asking():
            found = await self._redis.hgetall(self._all)
        aliases: dict[str, list[str]] = {}
        for alias, name in sorted(found.items()):
            aliases.setdefault(name.decode(), []).append(alias.decode())
        return aliases

    def _key(self, alias: str) -> str:
        return self._records.keys(Record(Collection(alias, 1))).record
