"""Records callers' feedback on the answers that the cache served."""

import contextlib

from services.errors import Failure
from services.gateway.backends.backends import Backends
from services.gateway.cache import index
from services.gateway.cache.admin import CacheAdmin
from services.gateway.cache.error_budget.controller import BudgetLookup, ErrorBudgetController
from services.gateway.cache.questions import question_of
from services.gateway.cache.scopes import Scopes
from services.gateway.cache.types import Context, Decision, Entry, Request, Scope
from services.gateway.cache.usage import UsageRecorder


class Feedback:
    """Passes judgements on to the counters and the error budget, and deletes wrong entries."""

    def __init__(
        self,
        admin: CacheAdmin,
        usage: UsageRecorder,
        controller: ErrorBudgetController,
        scopes: Scopes,
        backends: Backends,
    ) -> None:
        self._admin = admin
        self._usage = usage
        self._controller = controller
        self._scopes = scopes
        self._backends = backends

    async def record(self, scope: Scope, entry_id: str, prompt: str, *, correct: bool) -> bool:
        """Record whether an entry answered a prompt correctly; return whether it was deleted.

        A curated entry is never deleted, because only its owner may do that.
        Without the prompt, only the replica that served the entry can teach the error budget.

        Raises:
            NotFound: the scope has no such entry.
        """
        entry = await self._admin.get(scope, entry_id)
        if prompt == entry.prompt:  # no error budget decides on an exact hit
            self._controller.record_decision(entry_id, Decision("exact", entry))
        elif prompt:
            with contextlib.suppress(Failure):
                await self._restore_trial(entry, prompt)
        await self._controller.record_feedback(entry_id, correct=correct)
        await self._usage.record_feedback(scope, correct=correct)
        deletes = not correct and not entry.is_curated
        if deletes:
            await self._admin.delete(scope, entry_id)
        return deletes

    async def _restore_trial(self, entry: Entry, prompt: str) -> None:
        """Repeat the decision that served an entry, unless a conversation preceded the prompt."""
        if entry.parts["history"] != Context().parts["history"]:
            return
        vectors = await self._backends.embedder.embed_queries([prompt])
        partition = await self._scopes.partition(entry.scope)
        query = index.query(vectors, partition, index.BUDGET_CANDIDATES, entry.fingerprint)
        [hits] = await self._backends.search.search([query], vectors.digest)
        request = Request(entry.scope, Context(), prompt)
        lookup = BudgetLookup(request, question_of(prompt, vectors), "")
        await self._controller.restore_trial(lookup, hits, entry)
