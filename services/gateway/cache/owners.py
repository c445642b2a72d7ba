"""The owner of cache entries, as Redis knows it."""

from dataclasses import dataclass

_PURGE_GROUP_DIGITS = 3


@dataclass(frozen=True)
class Owner:
    """A scope and its tenant.

    Attributes:
        partition: keyed hash of the scope, hexadecimal.
        tenant: keyed hash of the tenant, hexadecimal.
    """

    partition: str
    tenant: str

    @property
    def purge_group(self) -> str:
        """The scopes of the tenant that count their purges together.

        A tenant has 4,096 groups, however many scopes it has. A purge of one scope of a group also
        rejects answers of the others that were computed meanwhile, which happens rarely.
        """
        return self.partition[:_PURGE_GROUP_DIGITS]
