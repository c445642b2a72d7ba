"""What callers say of the answers that they were served."""

import contextlib

from services.errors import Failure
from services.gateway.backends.backends import Backends
from services.gateway.backends.types import Query
from services.gateway.cache.admin import CacheAdmin
from services.gateway.cache.error_budget.controller import ErrorBudgetController, Question, side_of
from services.gateway.cache.index import EFFORT, NEIGHBOURHOOD, collection
from services.gateway.cache.scopes import Scopes
from services.gateway.cache.types import Context, Decision, Entry, Request, Scope


class Feedback:
    """Takes it in: for the numbers, for the tenant's budget, and to delete what was wrong."""

    def __init__(
        self,
        admin: CacheAdmin,
        evidence: ErrorBudgetController,
        scopes: Scopes,
        backends: Backends,
    ) -> None:
        self._admin = admin
        self._evidence = evidence
        self._scopes = scopes
        self._backends = backends

    async def judge(self, scope: Scope, key: str, prompt: str, *, correct: bool) -> bool:
        """Note whether an entry answered a prompt rightly; say if it is gone.

        Without the prompt, a budget learns from it only on the replica that served the entry.
        """
        entry = await self._admin.get(scope, key)
        if prompt == entry.prompt:  # an exact hit was no decision
            self._evidence.note(key, Decision("exact", entry))
        elif prompt:
            with contextlib.suppress(Failure):
                await self._look_again(entry, prompt)
        await self._evidence.judged(key, correct=correct)
        return await self._admin.judge(scope, key, correct=correct)

    async def _look_again(self, entry: Entry, prompt: str) -> None:
        """Look at an entry as when it was served, unless something was said before the prompt."""
        if entry.parts["history"] != Context().parts["history"]:
            return
        vectors = await self._backends.embedder.embed_queries([prompt])
        partition = await self._scopes.partition(entry.scope)
        name, tags = collection(vectors.digest, partition), {"partition": partition}
        tags["fingerprint"] = entry.fingerprint
        query = Query(name, vectors.rows[0], NEIGHBOURHOOD, tags, ef=EFFORT)
        [hits] = await self._backends.search.search([query], vectors.digest)
        asked = Request(entry.scope, Context(), prompt)
        question = Question(asked, side_of(prompt, vectors), "")
        await self._evidence.look_again(question, hits, entry)
