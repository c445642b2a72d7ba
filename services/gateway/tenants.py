"""Names what belongs to a tenant: search collections, and hash tags of keys in Redis.

The default tenant has the empty name, and its names stay plain. The names of every other tenant
contain its tag, a keyed hash of the tenant that no caller can guess.
"""

import hmac
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from services.errors import InvalidArgument
from services.gateway.auth.caller import check_collection, current_tenant
from services.gateway.digests import canonical
from services.gateway.page_tokens import PageTokens

TENANT_PREFIX = "tenant-"
# Beginnings of the names of the search collections that the services create for their own use.
INTERNAL_PREFIXES = (
    ".tune-",
    "cache-",
    "documents-",
    "reembedded-",
    TENANT_PREFIX,
    "twin-titles-",
    "twins-",
)
_TAG_DIGITS = 32
_COLLECTION = re.compile(f"{TENANT_PREFIX}([0-9a-f]{{{_TAG_DIGITS}}})-(.*)")


@dataclass(frozen=True, order=True)
class Tenant:
    """A tenant. ``tag`` is empty for the default tenant, and 32 hexadecimal digits otherwise."""

    tag: str = ""

    @property
    def prefix(self) -> str:
        """The beginning of the names of the tenant's search collections."""
        return f"{TENANT_PREFIX}{self.tag}-" if self.tag else ""

    def collection_name(self, name: str) -> str:
        """Return the search collection that holds what the tenant knows by a name."""
        return self.prefix + name

    def plain_name(self, collection: str) -> str | None:
        """Return the tenant's own name of a search collection, or None if it has another owner."""
        if not self.tag and collection.startswith(TENANT_PREFIX):
            return None
        return collection.removeprefix(self.prefix) if collection.startswith(self.prefix) else None

    def hash_tag(self, name: str) -> str:
        """Return the hash tag, with braces, of the keys that belong to a name of the tenant.

        A cluster keeps keys with equal hash tags in one slot. ``name`` should not contain a closing
        brace. If it does, more names share a slot.
        """
        return f"{{{self.tag}/{name}}}"


DEFAULT_TENANT = Tenant()


class Tenants:
    """Finds tenants.

    Args:
        read_secret: returns the key of the hashes, or raises Unavailable.
        check_ready: raises Unavailable while no call may use a tenant's data.

    Attributes:
        page_tokens: writes and reads the tokens of the tenants' lists.
    """

    def __init__(
        self,
        read_secret: Callable[[], Awaitable[bytes]],
        check_ready: Callable[[], None] = lambda: None,
    ) -> None:
        self._check_ready = check_ready
        self._read_secret = read_secret
        self.page_tokens = PageTokens(read_secret)

    async def current(self, collections: Iterable[str] = ()) -> Tenant:
        """Return the tenant of the current call.

        Raises:
            PermissionDenied: the caller's key is bound to other collections.
            Unavailable: the secret cannot be read, or no call may use a tenant's data yet.
        """
        self._check_ready()
        for name in collections:
            check_collection(name)
        return await self.get(current_tenant(""))

    async def get(self, tenant: str) -> Tenant:
        """Return the tenant of a name. Raises Unavailable if the secret cannot be read."""
        if not tenant:
            return DEFAULT_TENANT
        message = canonical(["tenant", tenant])
        return Tenant(
            hmac.new(await self._read_secret(), message, "sha256").hexdigest()[:_TAG_DIGITS]
        )

    async def hash_tag(self, name: str, tenant: str) -> str:
        """Return the hash tag of the keys that belong to a name of a tenant."""
        return (await self.get(tenant)).hash_tag(name)

    async def collection_name(self, tenant: str, name: str) -> str:
        """Return the search collection that holds what a tenant knows by a name."""
        return (await self.get(tenant)).collection_name(name)


def split_collection_name(collection: str) -> tuple[Tenant, str]:
    """Return the tenant that owns a search collection, and the tenant's own name for it."""
    match = _COLLECTION.fullmatch(collection)
    return (Tenant(match[1]), match[2]) if match else (DEFAULT_TENANT, collection)


def check_collection_name(name: str, field: str) -> None:
    """Raise InvalidArgument if a caller may not name a search collection so."""
    if name.startswith(INTERNAL_PREFIXES):
        raise InvalidArgument(
            "RESERVED_NAME",
            f"Names that begin with {', '.join(INTERNAL_PREFIXES)} are reserved for memetwin's own"
            " collections. Choose another name.",
            field=field,
        )
