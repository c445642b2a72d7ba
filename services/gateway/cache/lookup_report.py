"""Reports the latest lookups to a tenant: which answers are stored, and why others missed."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from services.errors import PermissionDenied
from services.gateway.auth.caller import current_scope
from services.gateway.cache.lookup_log import MAX_CHARACTERS, LoggedLookup, LookupLog
from services.gateway.cache.scopes import Scopes
from services.gateway.cache.store import CacheStore
from services.gateway.cache.verifier.model import Verifier


@dataclass(frozen=True)
class ReportedLookup:
    """A lookup as its owner reads it.

    Attributes:
        lookup: the lookup.
        is_stored: whether the cache has the entry ``entry_id`` now.
        rule: the kind of the difference for which the two prompts never share an answer, if known.
    """

    lookup: LoggedLookup
    is_stored: bool
    rule: str = ""


class LookupReport:
    """Reads the log of lookups."""

    def __init__(
        self, log: LookupLog, scopes: Scopes, store: CacheStore, verifier: Verifier
    ) -> None:
        self._log = log
        self._scopes = scopes
        self._store = store
        self._verifier = verifier

    async def read(self, tenant: str, namespace: str | None = None) -> list[ReportedLookup]:
        """Return the lookups of a tenant that the caller may see, newest first.

        Args:
            tenant: the caller's tenant.
            namespace: only those of this namespace, or None.

        Raises:
            Unavailable: Redis is unreachable.
        """
        logged = await self._log.read(await self._scopes.tenant_partition(tenant))
        lookups = [
            one
            for one in logged
            if namespace in (None, one.namespace) and is_allowed(tenant, one.user, one.namespace)
        ]
        stored = await self._store.existing([one.entry_id for one in lookups])
        rules = await asyncio.to_thread(self._rules, lookups)
        return [
            ReportedLookup(one, one.entry_id in stored, rule)
            for one, rule in zip(lookups, rules, strict=True)
        ]

    def _rules(self, lookups: Sequence[LoggedLookup]) -> list[str]:
        return [self._rule(one) for one in lookups]

    def _rule(self, lookup: LoggedLookup) -> str:
        prompts = lookup.prompt, lookup.nearest_prompt
        is_whole = all(0 < len(prompt) < MAX_CHARACTERS for prompt in prompts)
        if lookup.reason != "contradicts" or not is_whole:
            return ""
        return self._verifier.difference(*prompts)


def is_allowed(tenant: str, user: str, namespace: str) -> bool:
    """Return whether the caller may use a scope."""
    with contextlib.suppress(PermissionDenied):
        return current_scope(tenant, user, namespace) == (tenant, user, namespace)
    return False
