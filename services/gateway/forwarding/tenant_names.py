"""The names of a tenant's collections, as its callers know them and as search does."""

from services.errors import InvalidArgument, PermissionDenied
from services.gateway.auth.caller import check_collection
from services.gateway.tenants import Tenant, check_collection_name

MAX_LENGTH = 128


class TenantNames:
    """Translates names for one call of a tenant."""

    def __init__(self, tenant: Tenant) -> None:
        self._tenant = tenant

    @property
    def prefix(self) -> str:
        """The beginning of the names of the tenant's collections in search."""
        return self._tenant.prefix

    def to_search(self, name: str, field: str) -> str:
        """Return the name in search of a collection that a caller names.

        Raises:
            InvalidArgument: the name is too long, or belongs to memetwin's own collections.
            PermissionDenied: the caller's key is not allowed to use the collection.
        """
        longest = MAX_LENGTH - len(self.prefix)
        if len(name) > longest:
            raise InvalidArgument(
                "BAD_COLLECTION_NAME",
                f"A collection name must have 1 to {longest} letters, digits, '.', '_' or '-'.",
                field=field,
            )
        check_collection_name(name, field)
        check_collection(name, field)
        return self._tenant.collection_name(name)

    def from_search(self, name: str, field: str) -> str:
        """Return the tenant's own name of a collection in search; empty if it has another owner."""
        return self._tenant.plain_name(name) or ""

    def is_visible(self, name: str) -> bool:
        """Return whether the caller may see a collection, given its name in search."""
        plain = self.from_search(name, "")
        try:
            check_collection_name(plain, "")
            check_collection(plain)
        except (InvalidArgument, PermissionDenied):
            return False
        return bool(plain)
